#include "framework/metrics/terminal.hpp"
#include "launcher/recipes.hpp"
#include "launcher/verbs.hpp"

#include <nlohmann/json.hpp>

namespace isthmus::launcher {

int run_ls(const ls_options& options, console& out) {
  const auto recipes = shipped_recipes();
  if (options.json) {
    nlohmann::json answer{{"schema", 1}, {"recipes", nlohmann::json::array()}};
    for (const auto& r : recipes) answer["recipes"].push_back({{"name", r.name}, {"path", r.path}, {"summary", r.summary}});
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return exit_ok;
  }
  if (recipes.empty())
    return out.error(exit_environment, "no recipes found in ./recipes or beside the program; run from the source tree or install it");
  std::vector<std::vector<std::string>> rows{{"recipe", "path", "what it is"}};
  for (const auto& r : recipes) rows.push_back({r.name, r.path, r.summary});
  out.answer(show_table(rows, {false, false, false}));
  return exit_ok;
}

}  // namespace isthmus::launcher
