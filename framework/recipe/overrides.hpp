#pragma once

#include "framework/recipe/recipe.hpp"

#include <optional>
#include <string>

namespace toml {
inline namespace v3 {
class table;  // its header is slow to compile
}
}  // namespace toml

namespace isthmus {

/// How the place of a value that came from the command line begins, where others have "file:line:column".
inline const std::string override_prefix = "override ";

/// Sets one `section.key=value` or `list.entry.key=value` in a parsed recipe; what is wrong with it otherwise.
std::optional<recipe_problem> apply_override(toml::table& root, const std::string& text);

}  // namespace isthmus
