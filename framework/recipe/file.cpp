#include "framework/recipe/collector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace isthmus {

namespace {

constexpr int dots_in_line_max = 16;  // bounds how deep tables nest, and with it the parser's recursion

}  // namespace

std::optional<recipe_problem> refuse_shape(std::string_view text, const std::string& file) {
  if (text.size() > recipe_bytes_max)
    return recipe_problem{"R003",
                          fmt::format("the recipe has {} bytes", text.size()),
                          file,
                          fmt::format("at most {} bytes", recipe_bytes_max),
                          "is it a recipe?",
                          false};
  std::size_t line = 1, column = 1;
  int dots = 0;
  bool quoted = false;
  for (const char c : text) {
    if (c == '\n') {
      ++line;
      column = 1;
      dots = 0;
      quoted = false;
      continue;
    }
    if (c == '"' || c == '\'') quoted = !quoted;
    if (c == '.' && !quoted && ++dots > dots_in_line_max)
      return recipe_problem{"R005",
                            "the line nests too deeply",
                            fmt::format("{}:{}:{}", file, line, column),
                            fmt::format("up to {} dots outside quotes in a line", dots_in_line_max),
                            {},
                            false};
    ++column;
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
