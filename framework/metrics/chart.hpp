#pragma once

#include <string>
#include <vector>

namespace isthmus {

/// Lines over a shared x axis, drawn in a terminal or as SVG.
struct chart {
  struct point {
    double x = 0, y = 0;
  };
  struct series {
    std::string name;
    std::vector<point> points;  // x ascending; points that are not finite are left out
  };
  struct level {
    std::string name;
    double y = 0;
  };
  struct mark {
    std::string name;
    double x = 0;
  };
  std::string title, x_label, y_label;
  std::vector<series> lines;
  std::vector<level> levels;  // horizontal references, e.g. the unigram entropy
  std::vector<mark> marks;    // vertical ones, e.g. a fault
};

struct chart_style {
  int width = 78, height = 16;  // columns and rows of the whole drawing, axis and legend apart
  bool unicode = true;          // braille dots; else one ASCII letter a series
  bool colour = false;          // ANSI; the legend never depends on it
};

/// Lines of text, each ended by a newline: title, plot with y labels, x axis, legend with each line's last value. A chart without a
/// single finite point says so in one line.
std::string draw_chart(const chart& c, const chart_style& style);

/// One self-contained SVG document, readable on light and dark grounds, with a <title> and a description for screen readers.
std::string chart_svg(const chart& c, int width_pixels = 800, int height_pixels = 420);

/// The mean over a window that ends at each point, window in points (>= 1): loss curves are noisy.
std::vector<chart::point> smooth(const std::vector<chart::point>& points, std::size_t window);

}  // namespace isthmus
