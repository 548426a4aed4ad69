#include "framework/metrics/chart.hpp"

#include "framework/metrics/terminal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>

namespace isthmus {

namespace {

struct bounds {
  double x_min = 0, x_max = 1, y_min = 0, y_max = 1;
};

bool finite(const chart::point& p) { return std::isfinite(p.x) && std::isfinite(p.y); }

/// Around all points and levels; nothing when there is no finite point.
std::optional<bounds> bounds_of(const chart& c) {
  std::optional<bounds> out;
  const auto include = [&](double x, double y) {
    if (!out) out = bounds{x, x, y, y};
    *out = {std::min(out->x_min, x), std::max(out->x_max, x), std::min(out->y_min, y), std::max(out->y_max, y)};
  };
  for (const auto& line : c.lines)
    for (const auto& p : line.points)
      if (finite(p)) include(p.x, p.y);
  if (!out) return out;
  for (const auto& level : c.levels)
    if (std::isfinite(level.y)) include(out->x_min, level.y);
  if (out->x_max <= out->x_min) out->x_max = out->x_min + 1;
  const double room = out->y_max > out->y_min ? 0.03 * (out->y_max - out->y_min) : std::max(0.5, std::abs(out->y_max) * 0.1);
  out->y_min -= room;
  out->y_max += room;
  return out;
}

/// Marks of the axis: 1, 2 or 5 times a power of ten apart, at most `most` of them.
std::vector<double> ticks(double low, double high, int most) {
  const double rough = (high - low) / std::max(most, 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0})
    if (factor * power >= rough) step = factor * power;
  std::vector<double> out;
  for (double at = std::ceil(low / step) * step; at <= high + step * 1e-9 && out.size() < 100; at += step)
    out.push_back(std::abs(at) < step * 1e-9 ? 0 : at);
  return out;
}

std::string tick_text(double value) {
  if (std::abs(value) >= 10000) {
    auto text = show_count(value);
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    return text;
  }
  return fmt::format("{:.6g}", value);
}

constexpr std::array<const char*, 6> ansi{"36", "33", "35", "32", "34", "31"};
constexpr std::array<const char*, 6> hues{"#1b7fbd", "#d1731e", "#8e5bb5", "#2f9e59", "#c43b52", "#7a7a7a"};
constexpr std::string_view letters = "*ox+#@";

/// A grid of dots: 2 x 4 a character cell in braille, one in ASCII.
class canvas {
public:
  canvas(int columns, int rows, bool unicode)
      : columns_(columns), rows_(rows), unicode_(unicode), cells_(static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows)) {}
  int dots_x() const { return columns_ * (unicode_ ? 2 : 1); }
  int dots_y() const { return rows_ * (unicode_ ? 4 : 1); }

  /// owner: a series' number, or -1 for references, which give way to series.
  void dot(int x, int y, int owner) {
    if (x < 0 || y < 0 || x >= dots_x() || y >= dots_y()) return;
    auto& cell = cells_[static_cast<std::size_t>((y / (unicode_ ? 4 : 1)) * columns_ + x / (unicode_ ? 2 : 1))];
    static constexpr std::array<std::array<unsigned, 2>, 4> bits{{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    if (unicode_) cell.dots |= bits[static_cast<std::size_t>(y % 4)][static_cast<std::size_t>(x % 2)];
    if (owner >= 0 || cell.owner == none) cell.owner = owner;
  }

  void line(int x0, int y0, int x1, int y1, int owner) {
    const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (int i = 0; i <= steps; ++i)
      dot(x0 + static_cast<int>(std::lround(double(x1 - x0) * i / steps)), y0 + static_cast<int>(std::lround(double(y1 - y0) * i / steps)),
          owner);
  }

  std::string row(int r, bool colour) const {
    std::string out;
    for (int c = 0; c < columns_; ++c) {
      const auto& cell = cells_[static_cast<std::size_t>(r * columns_ + c)];
      const auto glyph = glyph_of(cell);
      const bool coloured = colour && cell.owner >= 0;
      out += coloured ? fmt::format("\x1b[{}m{}\x1b[0m", ansi[static_cast<std::size_t>(cell.owner) % ansi.size()], glyph) : glyph;
    }
    if (const auto end = out.find_last_not_of(' '); !colour) out.resize(end == std::string::npos ? 0 : end + 1);
    return out;
  }

private:
  static constexpr int none = -2;
  struct spot {
    unsigned dots = 0;
    int owner = none;
  };
  std::string glyph_of(const spot& c) const {
    if (c.owner == none) return " ";
    if (!unicode_) return c.owner < 0 ? "." : std::string(1, letters[static_cast<std::size_t>(c.owner) % letters.size()]);
    const unsigned point = 0x2800 + c.dots;  // braille patterns, U+2800..U+28FF
    return {static_cast<char>(0xe2), static_cast<char>(0x80 | (point >> 6U & 0x3fU)), static_cast<char>(0x80 | (point & 0x3fU))};
  }

  int columns_, rows_;
  bool unicode_;
  std::vector<spot> cells_;
};

/// Where a value lies among `dots`, the first one at low.
int place(double value, double low, double high, int dots) {
  return static_cast<int>(std::lround((value - low) / (high - low) * (dots - 1)));
}

void draw_references(const chart& c, const bounds& b, canvas& out) {
  for (const auto& level : c.levels) {
    if (!std::isfinite(level.y)) continue;
    const int y = out.dots_y() - 1 - place(level.y, b.y_min, b.y_max, out.dots_y());
    for (int x = 0; x < out.dots_x(); x += 3) out.dot(x, y, -1);
  }
  for (const auto& mark : c.marks) {
    if (!(mark.x >= b.x_min && mark.x <= b.x_max)) continue;
    const int x = place(mark.x, b.x_min, b.x_max, out.dots_x());
    for (int y = 0; y < out.dots_y(); y += 3) out.dot(x, y, -1);
  }
}

void draw_lines(const chart& c, const bounds& b, canvas& out) {
  for (std::size_t i = 0; i < c.lines.size(); ++i) {
    std::optional<std::pair<int, int>> last;
    for (const auto& p : c.lines[i].points) {
      if (!finite(p)) continue;
      const int x = place(p.x, b.x_min, b.x_max, out.dots_x()), y = out.dots_y() - 1 - place(p.y, b.y_min, b.y_max, out.dots_y());
      const auto from = last.value_or(std::pair{x, y});
      out.line(from.first, from.second, x, y, static_cast<int>(i));
      last = {x, y};
    }
  }
}

std::string legend(const chart& c, const chart_style& style) {
  std::string out;
  for (std::size_t i = 0; i < c.lines.size(); ++i) {
    const auto& points = c.lines[i].points;
    const auto last = std::find_if(points.rbegin(), points.rend(), finite);
    if (last == points.rend()) continue;
    const std::string sign = style.unicode ? "━━" : std::string(1, letters[i % letters.size()]);
    out += fmt::format("  {}{}{} {} {:.3f}\n", style.colour ? fmt::format("\x1b[{}m", ansi[i % ansi.size()]) : "", sign,
                       style.colour ? "\x1b[0m" : "", c.lines[i].name, last->y);
  }
  for (const auto& level : c.levels)
    if (std::isfinite(level.y)) out += fmt::format("  {} {} {:.3f}\n", style.unicode ? "┄┄" : ".", level.name, level.y);
  for (const auto& mark : c.marks) out += fmt::format("  {} {} at {}\n", style.unicode ? "┊ " : ":", mark.name, tick_text(mark.x));
  return out;
}

}  // namespace

std::string draw_chart(const chart& c, const chart_style& style) {
  const auto b = bounds_of(c);
  if (!b) return c.title + ": nothing to draw yet\n";
  const int label_width = 8;
  const int columns = std::max(style.width - label_width - 2, 10), rows = std::max(style.height, 3);
  canvas plot(columns, rows, style.unicode);
  draw_references(c, *b, plot);
  draw_lines(c, *b, plot);

  std::vector<std::string> labels(static_cast<std::size_t>(rows));
  for (const double tick : ticks(b->y_min, b->y_max, std::max(rows / 3, 2)))
    labels[static_cast<std::size_t>(std::clamp(rows - 1 - place(tick, b->y_min, b->y_max, rows), 0, rows - 1))] = tick_text(tick);
  std::string out = fmt::format("{} ({})\n", c.title, c.y_label);
  for (int r = 0; r < rows; ++r) {
    const auto& label = labels[static_cast<std::size_t>(r)];
    const char* axis = style.unicode ? (label.empty() ? "│" : "┤") : (label.empty() ? "|" : "+");
    out += fmt::format("{:>{}} {}{}\n", label, label_width, axis, plot.row(r, style.colour));
  }
  std::string axis, numbers(static_cast<std::size_t>(columns), ' ');
  for (int i = 0; i < columns; ++i) axis += style.unicode ? "─" : "-";
  for (const double tick : ticks(b->x_min, b->x_max, std::max(columns / 14, 2))) {
    const auto text = tick_text(tick);
    const auto at = static_cast<std::size_t>(place(tick, b->x_min, b->x_max, columns));
    const auto begin = std::min(at > text.size() / 2 ? at - text.size() / 2 : 0, numbers.size() - std::min(text.size(), numbers.size()));
    if (text.size() <= numbers.size()) numbers.replace(begin, text.size(), text);
  }
  numbers.resize(numbers.find_last_not_of(' ') + 1);
  out += fmt::format("{:>{}} {}{}\n", "", label_width, style.unicode ? "└" : "+", axis);
  out += fmt::format("{:>{}}  {}\n{:>{}}  {}\n", "", label_width, numbers, "", label_width, c.x_label);
  return out + legend(c, style);
}

namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char ch : printable(text)) {
    switch (ch) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += ch;
    }
  }
  return out;
}

/// The frame of the plot inside the picture, in pixels.
struct frame {
  bounds b;
  double left = 64, top = 36, right = 0, bottom = 0;
  double x(double value) const { return left + (value - b.x_min) / (b.x_max - b.x_min) * (right - left); }
  double y(double value) const { return bottom - (value - b.y_min) / (b.y_max - b.y_min) * (bottom - top); }
};

std::string svg_axes(const chart& c, const frame& f) {
  std::string out = "<g fill=\"#7a7a7a\" stroke=\"none\">\n";
  for (const double tick : ticks(f.b.y_min, f.b.y_max, 6)) {
    out += fmt::format("<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#7a7a7a\" stroke-opacity=\".25\"/>", f.left, f.y(tick), f.right);
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", f.left - 6, f.y(tick) + 4, tick_text(tick));
  }
  for (const double tick : ticks(f.b.x_min, f.b.x_max, 8))
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", f.x(tick), f.bottom + 18, tick_text(tick));
  out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", (f.left + f.right) / 2, f.bottom + 36,
                     escaped(c.x_label));
  out +=
      fmt::format("<text x=\"{:.1f}\" y=\"20\" font-weight=\"bold\">{} ({})</text>\n</g>\n", f.left, escaped(c.title), escaped(c.y_label));
  return out;
}

std::string svg_references(const chart& c, const frame& f) {
  std::string out;
  for (const auto& level : c.levels)
    if (std::isfinite(level.y))
      out += fmt::format(
          "<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#7a7a7a\" stroke-dasharray=\"5 4\"/><text x=\"{:.1f}\" y=\"{:.1f}\" "
          "text-anchor=\"end\" fill=\"#7a7a7a\">{} {:.3f}</text>\n",
          f.left, f.y(level.y), f.right, f.right - 4, f.y(level.y) - 4, escaped(level.name), level.y);
  for (const auto& mark : c.marks)
    if (mark.x >= f.b.x_min && mark.x <= f.b.x_max)
      out += fmt::format(
          "<path d=\"M{0:.1f} {1:.1f}V{2:.1f}\" stroke=\"#c43b52\" stroke-dasharray=\"2 3\"/><text x=\"{3:.1f}\" y=\"{4:.1f}\" "
          "fill=\"#c43b52\">{5}</text>\n",
          f.x(mark.x), f.top, f.bottom, f.x(mark.x) + 4, f.top + 12, escaped(mark.name));
  return out;
}

std::string svg_lines(const chart& c, const frame& f) {
  std::string out;
  for (std::size_t i = 0; i < c.lines.size(); ++i) {
    std::string path;
    double last = 0;
    for (const auto& p : c.lines[i].points) {
      if (!finite(p)) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", f.x(p.x), f.y(p.y));
      last = p.y;
    }
    if (path.empty()) continue;
    const char* hue = hues[i % hues.size()];
    out += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>\n", path, hue);
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{} {:.3f}</text>\n", f.right - 180, f.top + 30 + 16 * double(i), hue,
                       escaped(c.lines[i].name), last);
  }
  return out;
}

}  // namespace

std::string chart_svg(const chart& c, int width_pixels, int height_pixels) {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<title>{2}</title>\n",
      width_pixels, height_pixels, escaped(c.title));
  const auto b = bounds_of(c);
  if (!b) return out + "<desc>nothing to draw yet</desc>\n</svg>\n";
  std::string description = fmt::format("{} over {}.", c.y_label, c.x_label);
  for (const auto& line : c.lines) {
    const auto first = std::find_if(line.points.begin(), line.points.end(), finite);
    const auto last = std::find_if(line.points.rbegin(), line.points.rend(), finite);
    if (first != line.points.end()) description += fmt::format(" {}: from {:.3f} to {:.3f}.", line.name, first->y, last->y);
  }
  const frame f{*b, 64, 36, width_pixels - 16.0, height_pixels - 48.0};
  out += fmt::format("<desc>{}</desc>\n", escaped(description));
  return out + svg_axes(c, f) + svg_references(c, f) + svg_lines(c, f) + "</svg>\n";
}

std::vector<chart::point> smooth(const std::vector<chart::point>& points, std::size_t window) {
  std::vector<chart::point> out;
  double sum = 0;
  std::vector<double> kept;
  for (const auto& p : points) {
    if (!finite(p)) continue;
    kept.push_back(p.y);
    sum += p.y;
    if (kept.size() > window) sum -= kept[kept.size() - 1 - window];
    out.push_back({p.x, sum / static_cast<double>(std::min(kept.size(), std::max<std::size_t>(window, 1)))});
  }
  return out;
}

}  // namespace isthmus
