#pragma once

#include "framework/recipe/schema.hpp"

#include <map>
#include <set>

namespace isthmus {

/// Everything that one reading of a recipe finds: problems, values, and where keys stand.
class collector final : public place_finder {
public:
  explicit collector(std::string file);

  /// An error inside a section ("sites.0" counts for "sites").
  void wrong(const char* code, const std::string& section, std::string message, std::string place, std::string allowed,
             std::string help = {});
  void add(recipe_problem problem) { problems.push_back(std::move(problem)); }
  void seen(const std::string& path, std::string place) { places_[path] = std::move(place); }

  std::string place_of(const std::string& key_path) const override;
  bool clean(const std::string& section) const override { return !unclean_.contains(section); }
  /// Nothing but warnings.
  bool sound() const;

  /// What may have been meant by an unknown key of this section, in words.
  std::string suggestion(const std::string& section, const std::string& name) const;
  /// "run.seed" for "seed"; empty when no section has such a key.
  std::string key_elsewhere(const std::string& name) const;

  std::vector<recipe_problem> problems;
  std::vector<recipe_value> values;
  const std::map<std::string, std::vector<std::string>> keys;  // by section

private:
  std::string file_;
  std::map<std::string, std::string> places_;
  std::set<std::string> unclean_;
};

/// The key of a password and the like: its value is not told again.
bool names_secret(std::string_view key);

/// Bounds what the parser will recurse into, and the size; empty when all is well.
std::optional<recipe_problem> refuse_shape(std::string_view text, const std::string& file);
/// TOML has no character beyond ASCII outside quotes and comments, and toml++ 3.3 has no defined answer to some, there or behind a
/// backslash in a string of many lines. Empty when there is none.
std::optional<recipe_problem> refuse_characters(std::string_view text, const std::string& file);

}  // namespace isthmus
