#include "launcher/recipes.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace isthmus::launcher {

int run_cp(const cp_options& options, console& out) {
  namespace fs = std::filesystem;
  const auto source = recipe_path(options.recipe);
  if (!read_or_complain(options.recipe, {}, out)) return exit_recipe;
  std::ostringstream text;
  text << std::ifstream(source).rdbuf();
  std::error_code error;
  fs::path destination = options.destination;
  if (fs::is_directory(destination, error)) destination /= fs::path(source).filename();
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (options.force ? O_TRUNC : O_EXCL);
  const int fd = ::open(destination.c_str(), flags, 0644);
  if (fd < 0 && errno == EEXIST)
    return out.error(exit_usage, fmt::format("{} exists; nothing was written (--force overwrites)", destination.string()));
  if (fd < 0) return out.error(exit_environment, fmt::format("cannot write {}: {}", destination.string(), std::strerror(errno)));
  const auto bytes = text.str();
  const bool whole = ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  const int failed = errno;
  if (::close(fd) != 0 || !whole) {
    fs::remove(destination, error);
    return out.error(exit_environment, fmt::format("cannot write {}: {}", destination.string(), std::strerror(failed)));
  }
  out.answer(destination.string() + "\n");
  out.progress(fmt::format("edit it, then: isthmus validate {0} && isthmus launch {0}\n", destination.string()));
  return exit_ok;
}

}  // namespace isthmus::launcher
