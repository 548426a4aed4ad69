#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Text for people: numbers, bars and tables of a fixed width. Pure functions; who draws decides on colour and glyphs.
namespace isthmus {

/// "999", "1.23 k", "45.6 M": three significant digits.
std::string show_count(double value);
/// "1 round", "2 rounds": a number and its noun.
std::string show_counted(std::int64_t n, std::string_view noun);
/// "12 B", "1.23 KiB", "45.6 MiB".
std::string show_bytes(double bytes);
/// "0.8 s", "42 s", "4:05", "2:03:07", "3 d 4 h"; "-" when it is negative or no number.
std::string show_duration(double seconds);
/// "12:34:56" of a wall time, local time zone.
std::string show_time_of_day(double wall_seconds);

/// share in [0, 1] (clamped): "[######----]", with block glyphs when unicode. width >= 3 counts all of it.
std::string progress_bar(double share, int width, bool unicode);

/// Terminal columns that UTF-8 text takes (combining marks 0, wide ones 2 by the usual ranges).
int text_width(std::string_view utf8);
/// Cuts to at most that many columns, marking the cut with "…" or "~".
std::string fit_width(std::string_view utf8, int width, bool unicode);
/// Breaks a line at blanks so that none takes more than `width` columns; the later ones are indented by `hang` columns (at most half
/// of the width). A word that is too long is cut. No line break at the end.
std::string hanging(std::string_view utf8, int hang, int width);
/// Bytes that could move the cursor or are no UTF-8 become '?': for text of strangers, e.g. generated text.
std::string printable(std::string_view bytes);

/// Columns aligned, two spaces between; the first row is the heading. right_aligned: one flag a column.
std::string show_table(const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& right_aligned);

/// Time left from the median of recent rates; quiet until it has seen ten samples.
class eta_estimator {
public:
  struct range {
    double low = 0, middle = 0, high = 0;  // seconds, >= 0
  };
  /// at: seconds, ascending; done: in any unit.
  void add(double at, double done);
  std::optional<range> left(double remaining) const;
  /// The median rate per second; 0 while unknown.
  double rate() const;

private:
  std::vector<double> sorted_rates() const;
  std::deque<std::pair<double, double>> samples_;  // at most 60
};

}  // namespace isthmus
