#include "framework/data/atomic_write.hpp"
#include "launcher/recipes.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace isthmus::launcher {

namespace {

namespace fs = std::filesystem;

/// All of it or nothing: a file that was there before is as it was when this fails.
expected<void> replace_file(const fs::path& path, const std::string& text) {
  std::error_code error;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (!fs::is_directory(folder, error)) return fail(errc::not_found, fmt::format("there is no folder {}", folder.string()));
  const auto disk = open_disk(folder.string());
  if (!disk) return disk.failure();
  const auto written = write_atomically(**disk, path.filename().string(), std::as_bytes(std::span(text)));
  if (!written) ::unlink((path.string() + ".unfinished").c_str());  // gives a full disk its room back; a folder of that name stays
  return written;
}

}  // namespace

int run_cp(const cp_options& options, console& out) {
  const auto source = recipe_path(options.recipe);
  if (!read_or_complain(options.recipe, {}, out)) return exit_recipe;
  std::ostringstream text;
  text << std::ifstream(source).rdbuf();
  std::error_code error;
  fs::path destination = options.destination;
  if (fs::is_directory(destination, error)) destination /= fs::path(source).filename();
  const bool exists = fs::exists(fs::symlink_status(destination, error));
  if (exists && !options.force)
    return out.error(exit_usage, fmt::format("{} exists; nothing was written (--force overwrites)", destination.string()));
  if (exists && !fs::is_regular_file(destination, error))
    return out.error(exit_usage, fmt::format("{} is no regular file; nothing was written", destination.string()));
  const auto file = exists ? fs::canonical(destination, error) : destination;  // a link stays one
  if (const auto ok = replace_file(file, text.str()); !ok)
    return out.error(exit_environment, fmt::format("cannot write {}: {}", destination.string(), ok.error().message));
  out.answer(destination.string() + "\n");
  out.progress(fmt::format("edit it, then: isthmus validate {0} && isthmus launch {0}\n", shell_word(destination.string())));
  return exit_ok;
}

}  // namespace isthmus::launcher
