#pragma once

#include "framework/recipe/recipe.hpp"
#include "launcher/console.hpp"

#include <optional>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// A recipe that came along with the program.
struct shipped_recipe {
  std::string name;  // "quickstart"
  std::string path;
  std::string summary;  // the first comment line of the file
};
std::vector<shipped_recipe> shipped_recipes();

/// The path that is meant by what the user typed: a path, or the name of a shipped recipe.
std::string recipe_path(const std::string& typed);

/// Reads and checks; shows every problem on standard error, warnings too. Nothing when it is unusable (exit code 3).
std::optional<recipe> read_or_complain(const std::string& typed, const std::vector<std::string>& overrides, console& out);

/// Where a key stands, or the file when it is not written.
std::string place_of(const recipe_reading& reading, const std::string& key, const std::string& file);

/// Problems as a JSON array.
std::string problems_json(const std::vector<recipe_problem>& problems);

}  // namespace isthmus::launcher
