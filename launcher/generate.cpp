#include "framework/metrics/terminal.hpp"
#include "launcher/text_generation.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isthmus::launcher {

int run_generate(const generate_verb_options& options, console& out) {
  const auto path = find_run(options.run);
  if (!path) return out.error(path.error());
  const auto run = open_run_folder(*path);
  if (!run) return out.error(run.error());
  text_options how;
  how.prompt = options.prompt;
  how.tokens = options.tokens;
  how.temperature = options.temperature;
  how.top_p = options.top_p;
  how.seed = options.seed;
  if (!options.site.empty()) {
    how.site = find_site(run->plan, options.site);
    if (!how.site) return out.error(exit_usage, fmt::format("no site \"{}\" in {}", options.site.substr(0, 100), *path));
  }
  if (!options.json) out.answer(printable(options.prompt));
  const auto made = generate_text(*run, how, [&](std::string_view text) {
    if (!options.json) out.answer(printable(text));
  });
  if (!made) {
    if (!options.json) out.answer("\n");
    return out.error(made.error());
  }
  if (!options.json) out.answer("\n");
  for (const auto& warning : made->warnings) out.warn(fmt::format("{}; the text is from {}", printable(warning), made->checkpoint));
  if (options.json) {
    const nlohmann::json answer{{"schema", 1},
                                {"run", *path},
                                {"site", run->plan.sites[made->site].name},
                                {"round", made->round},
                                {"checkpoint", made->checkpoint},
                                {"warnings", made->warnings},
                                {"prompt", options.prompt},
                                {"text", made->text},
                                {"tokens", made->tokens},
                                {"seconds", made->seconds}};
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else {
    out.progress(
        fmt::format("{} tokens in {} from {} (round {})\n", made->tokens, show_duration(made->seconds), made->checkpoint, made->round));
  }
  return exit_ok;
}

}  // namespace isthmus::launcher
