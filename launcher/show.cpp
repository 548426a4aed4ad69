#include "framework/metrics/terminal.hpp"
#include "framework/models/hybrid_model.hpp"
#include "launcher/recipes.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isthmus::launcher {

namespace {

std::vector<std::string> section_names() {
  std::vector<std::string> names;
  for (const auto& k : recipe_schema({}))
    if (const auto name = k.key.substr(0, k.key.find('.')); names.empty() || names.back() != name) names.push_back(name);
  return names;
}

int show_schema(const show_options& options, console& out) {
  const auto keys = recipe_schema(options.recipe);
  if (keys.empty())
    return out.error(exit_usage,
                     fmt::format("no section \"{}\"; there are {}", options.recipe.substr(0, 100), fmt::join(section_names(), ", ")));
  if (options.json) {
    nlohmann::json all = nlohmann::json::array();
    for (const auto& k : keys)
      all.push_back({{"key", k.key}, {"default", k.default_value}, {"allowed", k.allowed}, {"meaning", k.meaning}});
    out.answer(nlohmann::json{{"schema", 1}, {"keys", all}}.dump(2) + "\n");
    return exit_ok;
  }
  std::string text = fmt::format("{:<28} {:<16} {:<26} {}\n", "key", "default", "allowed", "meaning");
  for (const auto& k : keys) text += fmt::format("{:<28} {:<16} {:<26} {}\n", k.key, k.default_value, k.allowed, k.meaning);
  out.answer(text);
  return exit_ok;
}

}  // namespace

int run_show(const show_options& options, console& out) {
  if (options.schema) return show_schema(options, out);
  if (options.recipe.empty()) return out.error(exit_usage, "show needs a recipe, or --schema; see `isthmus show --help`");
  const auto reading = read_recipe_file(recipe_path(options.recipe), options.overrides);
  if (!reading.value) {
    read_or_complain(options.recipe, options.overrides, out);
    return exit_recipe;
  }
  const auto& r = *reading.value;
  if (options.json) {
    nlohmann::json values = nlohmann::json::array();
    for (const auto& v : reading.values) values.push_back({{"key", v.key}, {"value", v.value}, {"origin", v.origin}, {"help", v.help}});
    const nlohmann::json answer{{"schema", 1},
                                {"recipe_hash", recipe_hash(r).hex()},
                                {"parameters", hybrid_layout(r.model).parameter_count()},
                                {"rounds", planned_rounds(r)},
                                {"steps_per_site", steps_per_site(r)},
                                {"values", values}};
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else if (options.origin) {
    std::vector<std::vector<std::string>> rows{{"key", "value", "origin"}};
    for (const auto& v : reading.values) rows.push_back({v.key, v.value, v.origin});
    out.answer(show_table(rows, {false, false, false}));
  } else {
    out.answer(write_recipe(r));
  }
  return exit_ok;
}

}  // namespace isthmus::launcher
