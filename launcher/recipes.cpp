#include "launcher/recipes.hpp"

#include "framework/metrics/terminal.hpp"
#include "framework/recipe/nearest.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace isthmus::launcher {

namespace fs = std::filesystem;

namespace {

/// Where recipes lie: here, beside an installed program, or in the source tree the program was built in.
std::vector<fs::path> recipe_folders() {
  std::error_code error;
  const auto program = fs::read_symlink("/proc/self/exe", error).parent_path();
  return {"recipes", program / "../share/isthmus/recipes", program / "../../../recipes"};
}

std::string first_comment(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  if (!line.starts_with("#")) return "";
  line.erase(0, std::min(line.find_first_not_of("# "), line.size()));
  return printable(line);
}

}  // namespace

std::vector<shipped_recipe> shipped_recipes() {
  std::vector<shipped_recipe> out;
  std::error_code error;
  for (const auto& folder : recipe_folders()) {
    for (const auto& entry : fs::directory_iterator(folder, error))
      if (entry.path().extension() == ".toml" && entry.is_regular_file(error))
        out.push_back({entry.path().stem().string(), entry.path().lexically_normal().string(), first_comment(entry.path())});
    if (!out.empty()) break;
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

std::string recipe_path(const std::string& typed) {
  std::error_code error;
  if (fs::exists(typed, error) && !fs::is_directory(typed, error)) return typed;
  for (const auto& shipped : shipped_recipes())
    if (shipped.name == typed || shipped.name + ".toml" == typed) return shipped.path;
  return typed;
}

std::optional<recipe> read_or_complain(const std::string& typed, const std::vector<std::string>& overrides, console& out) {
  auto reading = read_recipe_file(recipe_path(typed), overrides);
  if (reading.problems.empty()) return std::move(reading.value);
  if (reading.problems.front().code == "R001" && typed.find('/') == std::string::npos) {
    std::vector<std::string> names;
    for (const auto& shipped : shipped_recipes()) names.push_back(shipped.name);
    if (const auto near = nearest_name(typed, names); !near.empty())
      reading.problems.front().help = fmt::format("did you mean \"{}\"?", near);
  }
  out.error(exit_recipe, show_problems(reading.problems));
  return std::move(reading.value);
}

std::string place_of(const recipe_reading& reading, const std::string& key, const std::string& file) {
  const auto found = std::ranges::find(reading.values, key, &recipe_value::key);
  return found == reading.values.end() ? file : found->origin;
}

std::string problems_json(const std::vector<recipe_problem>& problems) {
  auto list = nlohmann::json::array();
  for (const auto& p : problems)
    list.push_back({{"code", p.code},
                    {"severity", p.warning ? "warning" : "error"},
                    {"message", p.message},
                    {"place", p.place},
                    {"allowed", p.allowed},
                    {"help", p.help}});
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace isthmus::launcher
