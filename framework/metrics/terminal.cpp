#include "framework/metrics/terminal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace isthmus {

namespace {

std::string three_digits(double value) {
  if (value >= 99.95) return fmt::format("{:.0f}", value);
  return value >= 9.995 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

std::string scaled(double value, double base, const std::vector<const char*>& units) {
  std::size_t unit = 0;
  while (value >= base * 0.9995 && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  const auto number = unit == 0 ? fmt::format("{:.0f}", value) : three_digits(value);
  return *units[unit] == '\0' ? number : fmt::format("{} {}", number, units[unit]);
}

}  // namespace

std::string show_count(double value) {
  if (!std::isfinite(value)) return "-";
  return value < 0 ? "-" + show_count(-value) : scaled(value, 1000, {"", "k", "M", "G", "T", "P"});
}

std::string show_counted(std::int64_t n, std::string_view noun) { return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s"); }

std::string show_bytes(double bytes) {
  if (!std::isfinite(bytes)) return "-";
  return bytes < 0 ? "-" + show_bytes(-bytes) : scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
}

std::string show_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  if (seconds < 59.5) return fmt::format("{:.0f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::min(seconds + 0.5, 1e15));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  if (whole < 48 * 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{} d {} h", whole / 86400, whole / 3600 % 24);
}

std::string show_time_of_day(double wall_seconds) {
  const auto whole = static_cast<std::time_t>(wall_seconds);
  std::tm parts{};
  ::localtime_r(&whole, &parts);
  return fmt::format("{:02}:{:02}:{:02}", parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string progress_bar(double share, int width, bool unicode) {
  share = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  if (!unicode) {
    const int inner = std::max(width - 2, 1), full = static_cast<int>(share * inner);
    return fmt::format("[{:#<{}}{:-<{}}]", "", full, "", inner - full);
  }
  static constexpr const char* parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(share * width * 8);
  std::string out;
  for (int i = 0; i < eighths / 8; ++i) out += "█";
  int used = eighths / 8;
  if (eighths % 8 != 0) {
    out += parts[eighths % 8];
    ++used;
  }
  for (; used < width; ++used) out += "·";
  return out;
}

namespace {

struct decoded {
  char32_t point = 0;
  std::size_t bytes = 1;
  bool valid = false;
};

/// The code point at the front of text; invalid bytes are one byte long.
decoded decode_front(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1, true};
  const std::size_t bytes = lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (bytes == 0 || lead >= 0xf5 || text.size() < bytes) return {};
  char32_t point = lead & (0x7fU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0U) != 0x80) return {};
    point = point << 6U | (next & 0x3fU);
  }
  const bool overlong = (bytes == 3 && point < 0x800) || (bytes == 4 && point < 0x10000);
  if (overlong || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return {};
  return {point, bytes, true};
}

int columns_of(char32_t c) {
  if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c < 0x2010) || (c >= 0xfe00 && c < 0xfe10)) return 0;
  const bool wide = (c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) || (c >= 0xac00 && c < 0xd7a4) ||
                    (c >= 0xf900 && c < 0xfb00) || (c >= 0xfe30 && c < 0xfe70) || (c >= 0xff00 && c < 0xff61) ||
                    (c >= 0x1f300 && c < 0x1f650) || (c >= 0x20000 && c < 0x40000);
  return wide ? 2 : 1;
}

/// Controls, and the marks that turn the direction of a whole line.
bool moves_cursor(char32_t c) {
  return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c < 0x202f) || (c >= 0x2066 && c < 0x206a);
}

}  // namespace

int text_width(std::string_view utf8) {
  int width = 0;
  while (!utf8.empty()) {
    const auto front = decode_front(utf8);
    width += front.valid ? columns_of(front.point) : 1;
    utf8.remove_prefix(front.bytes);
  }
  return width;
}

std::string fit_width(std::string_view utf8, int width, bool unicode) {
  if (text_width(utf8) <= width) return std::string(utf8);
  std::string out;
  for (int used = 0; !utf8.empty();) {
    const auto front = decode_front(utf8);
    used += front.valid ? columns_of(front.point) : 1;
    if (used > width - 1) break;
    out += utf8.substr(0, front.bytes);
    utf8.remove_prefix(front.bytes);
  }
  return width < 1 ? "" : out + (unicode ? "…" : "~");
}

std::string hanging(std::string_view utf8, int hang, int width) {
  if (width < 3) return std::string(utf8);
  const std::string indent(static_cast<std::size_t>(std::clamp(hang, 0, width / 2)), ' ');
  std::string out;
  while (text_width(utf8) > width - (out.empty() ? 0 : static_cast<int>(indent.size()))) {
    const int room = width - (out.empty() ? 0 : static_cast<int>(indent.size()));
    std::size_t end = 0, blank = 0;  // of what fits, and of its last whole word
    for (int used = 0; end < utf8.size();) {
      const auto front = decode_front(utf8.substr(end));
      used += front.valid ? columns_of(front.point) : 1;
      if (utf8[end] == ' ' && end > (out.empty() ? indent.size() : 0)) blank = end;
      if (used > room) break;
      end += front.bytes;
    }
    const auto cut = blank > 0 ? blank : end;
    out += (out.empty() ? "" : indent) + std::string(utf8.substr(0, cut)) + "\n";
    utf8.remove_prefix(cut);
    while (!utf8.empty() && utf8.front() == ' ') utf8.remove_prefix(1);
  }
  return out + (out.empty() ? "" : indent) + std::string(utf8);
}

std::string printable(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const auto front = decode_front(bytes);
    if (!front.valid || moves_cursor(front.point))
      out += '?';
    else
      out += bytes.substr(0, front.bytes);
    bytes.remove_prefix(front.bytes);
  }
  return out;
}

std::string show_table(const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& right_aligned) {
  std::vector<int> widths(right_aligned.size(), 0);
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], text_width(row[i]));
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      const std::string space(static_cast<std::size_t>(widths[i] - text_width(row[i])), ' ');
      line += (i == 0 ? "" : "  ") + (right_aligned[i] ? space + row[i] : row[i] + space);
    }
    line.resize(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

void eta_estimator::add(double at, double done) {
  if (!samples_.empty() && !(at > samples_.back().first)) return;
  if (!samples_.empty() && done < samples_.back().second) samples_.clear();  // work was lost: begin afresh
  samples_.emplace_back(at, done);
  if (samples_.size() > 60) samples_.pop_front();
}

std::vector<double> eta_estimator::sorted_rates() const {
  std::vector<double> rates;
  constexpr std::size_t apart = 5;  // over five samples, so that a step's granularity averages out
  for (std::size_t i = apart; i < samples_.size(); ++i)
    rates.push_back((samples_[i].second - samples_[i - apart].second) / (samples_[i].first - samples_[i - apart].first));
  std::sort(rates.begin(), rates.end());
  return rates;
}

double eta_estimator::rate() const {
  const auto rates = sorted_rates();
  return rates.empty() ? 0 : rates[rates.size() / 2];
}

std::optional<eta_estimator::range> eta_estimator::left(double remaining) const {
  const auto rates = sorted_rates();
  if (samples_.size() < 10 || rates[rates.size() / 2] <= 0) return std::nullopt;
  remaining = std::max(remaining, 0.0);
  const double slow = rates[rates.size() / 4], fast = rates[rates.size() * 3 / 4];
  const double middle = remaining / rates[rates.size() / 2];
  return range{remaining / fast, middle, slow > 0 ? remaining / slow : 2 * middle};
}

}  // namespace isthmus
