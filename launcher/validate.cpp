#include "framework/data/corpus.hpp"
#include "framework/metrics/terminal.hpp"
#include "framework/models/hybrid_model.hpp"
#include "launcher/forecast.hpp"
#include "launcher/recipes.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <new>
#include <thread>

namespace isthmus::launcher {

namespace {

/// What only this machine and this build can tell: the model's own checks, sources by name, addresses, whether a row fits the
/// limit of activations, devices for their threads.
void check_here(recipe_reading& reading, const std::string& path) {
  const recipe& r = *reading.value;
  auto& problems = reading.problems;
  if (const auto model = check(r.model); !model) problems.push_back({"R037", model.error().message, path, {}, {}, false});
  for (const auto& site : r.sites)  // alike draws from those that are named, and needs none
    if (!site.source.empty())
      if (const auto source = find_source(site.source); !source)
        problems.push_back({"R045",
                            source.error().message,
                            fmt::format("{} (site \"{}\")", path, site.name),
                            {},
                            "`isthmus doctor` lists the sources",
                            false});
  for (std::size_t i = 0; i < r.sites.size(); ++i)
    if (const auto ok = check_may_listen(r.sites[i].address); !ok)
      problems.push_back({"R047", fmt::format("site \"{}\": {}", r.sites[i].name, ok.error().message),
                          place_of(reading, fmt::format("sites.{}.address", i), path), "loopback, as in \"127.0.0.1:0\"",
                          "or a private address of this machine (docs/wire.md)", false});
  try {
    if (auto problem = activation_problem(reading, path)) problems.push_back(std::move(*problem));
  } catch (const std::bad_alloc&) {}  // of a model for larger machines, whose launch tells
  const auto cores = std::max(1U, std::thread::hardware_concurrency());
  for (const auto& site : r.sites)
    if (site.devices * site.threads_per_device > cores)
      problems.push_back(
          {"R061",
           fmt::format("site \"{}\" asks for {} threads, this machine has {}", site.name, site.devices * site.threads_per_device, cores),
           path,
           {},
           "fine when the site runs elsewhere",
           true});
}

}  // namespace

int run_validate(const validate_options& options, console& out) {
  const auto path = recipe_path(options.recipe);
  auto reading = read_recipe_file(path, options.overrides);
  if (reading.value) check_here(reading, path);
  const bool valid =
      reading.value && std::none_of(reading.problems.begin(), reading.problems.end(), [](const auto& p) { return !p.warning; });
  if (options.json) {
    nlohmann::json answer{
        {"schema", 1}, {"path", path}, {"valid", valid}, {"problems", nlohmann::json::parse(problems_json(reading.problems))}};
    if (valid) answer["recipe_hash"] = recipe_hash(*reading.value).hex();
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return valid ? exit_ok : exit_recipe;
  }
  if (!reading.value)
    read_or_complain(options.recipe, options.overrides, out);
  else if (!reading.problems.empty())
    out.error(exit_recipe, show_problems(reading.problems));
  if (!valid) return exit_recipe;
  const auto& r = *reading.value;
  out.answer(fmt::format("valid  {}  {}\n", recipe_hash(r).hex(), path));
  out.answer(fmt::format("  {} parameters, {}, {} of {}, {} tokens\n",
                         show_count(static_cast<double>(hybrid_layout(r.model).parameter_count())),
                         show_counted(static_cast<std::int64_t>(r.sites.size()), "site"), show_counted(planned_rounds(r), "round"),
                         show_counted(r.round.inner_steps, "step"), show_count(static_cast<double>(r.run.tokens))));
  return exit_ok;
}

}  // namespace isthmus::launcher
