#include "framework/recipe/collector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace isthmus {

namespace {

constexpr int dots_in_line_max = 16;  // bounds how deep tables nest, and with it the parser's recursion

bool is_beyond_ascii(char c) { return static_cast<unsigned char>(c) >= 0x80; }

/// Walks over TOML text and knows what is quoted, or a comment, and what is neither.
class text_scanner {
public:
  explicit text_scanner(std::string_view text) : text_(text) {}
  bool at_end() const { return at_ >= text_.size(); }
  std::size_t at() const { return at_; }
  char here() const { return text_[at_]; }
  bool is_plain() const { return quote_ == 0 && !comment_; }
  /// In a string that begins where toml++ does not take it for one: behind something else without a blank, as in 1["a".
  bool is_in_odd_string() const { return quote_ != 0 && odd_string_; }
  /// In a string of many lines, with nothing but blanks between a backslash and here.
  bool is_behind_backslash() const { return behind_backslash_; }

  void next() {
    const char c = here();
    if (c == '\n') {
      comment_ = odd_ = false;
      if (!triple_) quote_ = 0;
    } else if (quote_ != 0) {
      inside_quotes(c);
    } else if (!comment_) {
      comment_ = c == '#';
      if (c == '"' || c == '\'')
        open(c);
      else if (std::strchr(" \t\r\n=,", c) != nullptr)
        odd_ = false;
      else if (c != '[' && c != '{')
        odd_ = true;
    }
    ++at_;
  }

private:
  std::size_t run_of(char c) const { return std::min(text_.find_first_not_of(c, at_), text_.size()) - at_; }

  void open(char c) {
    quote_ = c;
    odd_string_ = std::exchange(odd_, true);
    triple_ = run_of(c) >= 3;
    if (triple_) at_ += 2;
  }
  void inside_quotes(char c) {
    if (c != ' ' && c != '\t') {
      const char after = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
      behind_backslash_ = triple_ && quote_ == '"' && c == '\\' && (is_beyond_ascii(after) || std::strchr(" \t\r\n", after) != nullptr);
    }
    if (c == '\\' && quote_ == '"' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') ++at_;
    if (c != quote_ || (triple_ && run_of(c) < 3)) return;
    if (triple_) at_ += std::min<std::size_t>(run_of(c), 5) - 1;  // up to two quotes may stand before the three that close
    quote_ = 0;
    triple_ = false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  char quote_ = 0;  // that a string began with
  bool triple_ = false, comment_ = false, behind_backslash_ = false;
  bool odd_ = false, odd_string_ = false;  // since the last blank, = or comma: more than brackets
};

}  // namespace

std::optional<recipe_problem> refuse_shape(std::string_view text, const std::string& file) {
  if (text.size() > recipe_bytes_max)
    return recipe_problem{"R003",
                          fmt::format("the recipe has {} bytes", text.size()),
                          file,
                          fmt::format("at most {} bytes", recipe_bytes_max),
                          "is it a recipe?",
                          false};
  std::size_t line = 1, line_begin = 0;
  int dots = 0;
  for (text_scanner scanner(text); !scanner.at_end(); scanner.next()) {
    if (scanner.here() == '\n') {
      ++line;
      line_begin = scanner.at() + 1;
      dots = 0;
    } else if (scanner.here() == '.' && scanner.is_plain() && ++dots > dots_in_line_max) {
      return recipe_problem{"R005",
                            "the line nests too deeply",
                            fmt::format("{}:{}:{}", file, line, scanner.at() - line_begin + 1),
                            fmt::format("up to {} dots outside quotes in a line", dots_in_line_max),
                            {},
                            false};
    }
  }
  return std::nullopt;
}

std::optional<recipe_problem> refuse_characters(std::string_view text, const std::string& file) {
  std::size_t line = 1, line_begin = 0;
  const std::string_view mark = "\xef\xbb\xbf";
  for (text_scanner scanner(text); !scanner.at_end(); scanner.next()) {
    if (scanner.here() == '\n') {
      ++line;
      line_begin = scanner.at() + 1;
    } else if (is_beyond_ascii(scanner.here()) && (scanner.is_plain() || scanner.is_behind_backslash() || scanner.is_in_odd_string()) &&
               !(text.starts_with(mark) && scanner.at() < mark.size())) {
      return recipe_problem{"R004",
                            "a character beyond ASCII stands outside quotes, or behind a backslash",
                            fmt::format("{}:{}:{}", file, line, scanner.at() - line_begin + 1),
                            "TOML 1.0",
                            "put it in quotes",
                            false};
    }
  }
  return std::nullopt;
}

recipe_reading read_recipe_file(const std::string& path, const std::vector<std::string>& overrides) {
  const auto refused = [&](const char* code, std::string what, std::string allowed, std::string help = {}) {
    return recipe_reading{std::nullopt, {{code, std::move(what), path, std::move(allowed), std::move(help), false}}, {}};
  };
  if (path.empty() || path.find('\0') != std::string::npos) return refused("R001", "the recipe's path is empty", "the path of a TOML file");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return refused("R001", fmt::format("cannot open the recipe: {}", std::strerror(errno)), "a readable TOML file",
                   "`isthmus ls` lists the recipes that came along");
  struct stat info {};
  std::string text;
  bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  if (regular && static_cast<std::uint64_t>(info.st_size) <= recipe_bytes_max) {
    text.resize(static_cast<std::size_t>(info.st_size) + 1);
    std::size_t filled = 0;
    for (ssize_t got = 1; got > 0 && filled < text.size(); filled += static_cast<std::size_t>(std::max<ssize_t>(got, 0)))
      got = ::read(fd, text.data() + filled, text.size() - filled);
    text.resize(filled);
  }
  ::close(fd);
  if (!regular) return refused("R002", "the recipe is no regular file", "a TOML file, no folder, pipe or device");
  if (static_cast<std::uint64_t>(info.st_size) > recipe_bytes_max)
    return refused("R003", fmt::format("the recipe has {} bytes", info.st_size), fmt::format("at most {} bytes", recipe_bytes_max),
                   "is it a recipe?");
  return read_recipe(text, path, overrides);
}

expected<recipe> load_recipe(const std::string& path, const std::vector<std::string>& overrides) {
  auto reading = read_recipe_file(path, overrides);
  if (reading.value) return std::move(*reading.value);
  const bool missing = reading.problems.size() == 1 && reading.problems[0].code == "R001";
  return fail(missing ? errc::not_found : errc::recipe_invalid, show_problems(reading.problems));
}

}  // namespace isthmus
