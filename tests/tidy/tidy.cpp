#include "tests/tidy/tidy.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

namespace isthmus::tidy {

namespace {

namespace fs = std::filesystem;

bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }
bool ends(std::string_view text, std::string_view with) {
  return text.size() >= with.size() && text.substr(text.size() - with.size()) == with;
}
bool is_header(std::string_view path) { return ends(path, ".hpp") || ends(path, ".cuh") || ends(path, ".h"); }
bool is_cpp(std::string_view path) { return is_header(path) || ends(path, ".cpp") || ends(path, ".cc") || ends(path, ".cu"); }
std::string_view top(std::string_view path) { return path.substr(0, path.find('/')); }

/// A folder's height: a file may include its own height and below. Tests see everything.
std::optional<int> height(std::string_view folder) {
  constexpr std::array<std::pair<std::string_view, int>, 7> heights{
      {{"kernels", 0}, {"framework", 1}, {"actors", 2}, {"launcher", 3}, {"examples", 3}, {"bench", 3}, {"tests", 9}}};
  for (const auto& [name, value] : heights)
    if (name == folder) return value;
  return std::nullopt;
}

/// A library that only some folders may include.
struct guarded {
  std::string_view prefix;                 // of the include
  std::array<std::string_view, 6> inside;  // where it may stand
  bool in_headers;                         // there, also in headers
};
constexpr std::array<guarded, 15> libraries{{
    {"ucp/", {"framework/transport/", "tests/framework/transport/", "bench/"}, false},
    {"uct/", {"framework/transport/", "tests/framework/transport/", "bench/"}, false},
    {"ucs/", {"framework/transport/", "tests/framework/transport/", "bench/"}, false},
    {"sodium", {"framework/transport/", "tests/framework/transport/", "tests/fuzz/", "bench/"}, false},
    {"capnp/", {"framework/wire/", "tests/framework/wire/", "tests/fuzz/", "bench/"}, false},
    {"kj/", {"framework/wire/", "tests/framework/wire/", "tests/fuzz/", "bench/"}, false},
    {"caf/", {"actors/", "launcher/", "tests/", "examples/", "bench/"}, true},
    {"nlohmann/json.hpp", {"framework/", "actors/", "launcher/", "tests/", "examples/", "bench/"}, false},
    {"toml++/", {"framework/recipe/", "tests/framework/recipe/"}, false},
    {"CLI/", {"launcher/", "examples/", "bench/"}, false},
    {"sqlite3.h", {"framework/metrics/", "tests/"}, false},
    {"boost/test/", {"actors/testing/", "tests/", "examples/"}, true},
    {"boost/", {"framework/", "actors/", "launcher/", "tests/", "examples/", "bench/"}, false},
    {"dnnl", {"kernels/", "bench/"}, false},
    {"cblas", {"kernels/", "bench/"}, false},
}};

struct include_line {
  std::size_t number;
  std::string target;
  bool quoted;
};

std::vector<include_line> includes_of(std::string_view text) {
  std::vector<include_line> found;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    while (starts(line, " ")) line.remove_prefix(1);
    if (!starts(line, "#")) continue;
    line.remove_prefix(1);
    while (starts(line, " ")) line.remove_prefix(1);
    if (!starts(line, "include")) continue;
    const std::size_t open = line.find_first_of("<\"");
    if (open == std::string_view::npos) continue;  // a macro
    const std::size_t close = line.find(line[open] == '<' ? '>' : '"', open + 1);
    if (close != std::string_view::npos) found.push_back({number, std::string(line.substr(open + 1, close - open - 1)), line[open] == '"'});
  }
  return found;
}

void check_project_include(const std::string& path, const std::string& place, const std::string& target, findings& out) {
  if (ends(target, ".capnp.h")) {  // generated, below the build folder
    if (is_header(path) || !(starts(path, "framework/wire/") || starts(path, "tests/")))
      out.push_back(place + "only .cpp files of framework/wire include generated Cap'n Proto headers");
    return;
  }
  const auto from = height(top(path)), to = height(top(target));
  if (!to) {
    out.push_back(place + "\"" + target + "\" is not a path from the root (kernels/, framework/, ...)");
    return;
  }
  const bool sideways = *from == 3 && *to == 3 && top(path) != top(target);
  if (*to > *from || sideways)
    out.push_back(place + std::string(top(path)) + "/ may not include \"" + target +
                  "\": kernels <- framework <- actors <- launcher, examples");
  if (*from <= 1 && starts(target, "framework/transport/") && !starts(path, "framework/transport/") &&
      target != "framework/transport/transport.hpp")
    out.push_back(place + "the framework builds without UCX: outside framework/transport only its transport.hpp may be included");
}

void check_library_include(const std::string& path, const std::string& place, const std::string& target, findings& out) {
  for (const auto& library : libraries) {
    if (!starts(target, library.prefix)) continue;
    const bool inside = std::any_of(library.inside.begin(), library.inside.end(),
                                    [&](std::string_view folder) { return !folder.empty() && starts(path, folder); });
    if (!inside)
      out.push_back(place + "<" + target + "> may not be seen here");
    else if (is_header(path) && !library.in_headers)
      out.push_back(place + "<" + target + "> stays out of headers: it is slow to compile");
    break;
  }
  if (target == "caf/all.hpp" && is_header(path)) out.push_back(place + "<caf/all.hpp> stays out of headers: it is slow to compile");
}

/// Folders whose files are data or products, not sources.
bool skipped_folder(const fs::path& relative) {
  const std::string name = relative.generic_string();
  return name == "build" || name == "runs" || name == "tests/golden" || (starts(name, ".") && name != ".ci");
}

}  // namespace

findings check_includes(const std::string& path, std::string_view text, bool has_own_header) {
  findings out;
  if (!is_cpp(path) || !height(top(path))) return out;
  const auto includes = includes_of(text);
  for (const auto& include : includes) {
    const std::string place = path + ":" + std::to_string(include.number) + ": ";
    if (include.quoted)
      check_project_include(path, place, include.target, out);
    else
      check_library_include(path, place, include.target, out);
  }
  if (is_header(path) && !starts(text, "#pragma once\n")) out.push_back(path + ":1: a header begins with #pragma once");
  if (has_own_header) {
    const std::string own = path.substr(0, path.rfind('.')) + ".hpp";
    if (includes.empty() || includes.front().target != own)
      out.push_back(path + ":1: its first include must be its own header \"" + own + "\"");
  }
  return out;
}

findings check_text(const std::string& path, std::string_view text) {
  findings out;
  // Written apart, so that this file passes its own test.
  const std::array<std::string, 2> machine_paths{std::string("/wo") + "rk/", std::string("/ro") + "ot/"};
  const std::array<std::string, 2> marks{std::string("TO") + "DO", std::string("FIX") + "ME"};
  if (!text.empty() && text.back() != '\n') out.push_back(path + ": no newline at its end");
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string place = path + ":" + std::to_string(++number) + ": ";
    if (line.find('\t') != std::string_view::npos && !ends(path, "Makefile")) out.push_back(place + "a tab");
    if (line.find('\r') != std::string_view::npos) out.push_back(place + "a carriage return");
    if (ends(line, " ")) out.push_back(place + "blanks at the line's end");
    for (const auto& word : machine_paths)
      if (line.find(word) != std::string_view::npos) out.push_back(place + "a path of somebody's machine: " + word);
    for (const auto& word : marks)
      if (line.find(word) != std::string_view::npos) out.push_back(place + "unfinished work: " + word);
  }
  return out;
}

findings check_links(const std::string& path, std::string_view text) {
  findings out;
  if (!ends(path, ".md")) return out;
  for (auto at = text.find("]("); at != text.npos; at = text.find("](", at + 2)) {
    const std::string_view target = text.substr(at + 2, text.find(')', at) - at - 2), file = target.substr(0, target.find('#'));
    if (file.empty() || file.find(':') != file.npos || file.find(' ') != file.npos) continue;  // of this page, of the web, no link
    if (!fs::exists(fs::path(path).parent_path() / file)) out.push_back(path + ": a link to " + std::string(file) + ", which is not there");
  }
  return out;
}

std::vector<std::string> source_files() {
  constexpr std::array<std::string_view, 15> kinds{".cpp",  ".hpp", ".h",  ".cu",  ".cuh",   ".txt", ".cmake", ".json",
                                                   ".toml", ".md",  ".sh", ".awk", ".capnp", ".py",  ".in"};
  std::vector<std::string> files;
  for (fs::recursive_directory_iterator it("."), end; it != end; ++it) {
    const fs::path relative = fs::relative(it->path(), ".");
    if (it->is_directory()) {
      if (skipped_folder(relative)) it.disable_recursion_pending();
      continue;
    }
    const std::string name = relative.generic_string();
    const bool wanted = name == "Makefile" || name == ".ci/run" ||
                        std::any_of(kinds.begin(), kinds.end(), [&](std::string_view kind) { return ends(name, kind); });
    if (it->is_regular_file() && wanted) files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace isthmus::tidy
