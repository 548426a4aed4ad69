#include "framework/metrics/terminal.hpp"
#include "launcher/text_generation.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>

namespace isthmus::launcher {

namespace {

using heard = std::function<void(std::string_view)>;

text_options text_options_of(const generate_verb_options& options) {
  static const std::map<std::string, kernels::weight_format> formats{{"master", kernels::weight_format::master},
                                                                     {"bf16", kernels::weight_format::bf16},
                                                                     {"int8", kernels::weight_format::int8},
                                                                     {"int4", kernels::weight_format::int4}};
  text_options how;
  how.prompt = options.prompt;
  how.tokens = options.tokens;
  how.temperature = options.temperature;
  how.top_p = options.top_p;
  how.seed = options.seed;
  how.formats.weights = formats.at(options.weights);
  if (options.kv_cache == "bf16") how.formats.caches = kernels::cache_format::bf16;
  how.one_by_one = options.one_by_one;
  return how;
}

/// Writes what `make` generates, to people as it comes, to programs at its end beside `origin`, what they are told of the weights.
template <class Make, class Origin>
int tell(const generate_verb_options& options, console& out, Make&& make, Origin&& origin) {
  if (!options.json) out.answer(printable(options.prompt));
  const expected<generated_text> made = make([&](std::string_view text) {
    if (!options.json) out.answer(printable(text));
  });
  if (!options.json) out.answer("\n");
  if (!made) return out.error(made.error());
  for (const auto& warning : made->warnings) out.warn(fmt::format("{}; the text is from {}", printable(warning), made->checkpoint));
  if (!options.json) {
    const std::string round = made->round > 0 ? fmt::format(" (round {})", made->round) : "";
    const std::string heads = made->by_heads ? fmt::format(", {:.2f} a pass", made->tokens_per_pass) : "";
    out.progress(fmt::format("{} tokens in {}{} from {}{}\n", made->tokens, show_duration(made->seconds), heads, made->checkpoint, round));
    return exit_ok;
  }
  nlohmann::json answer{
      {"schema", 1},        {"checkpoint", made->checkpoint}, {"warnings", made->warnings}, {"prompt", options.prompt},
      {"text", made->text}, {"tokens", made->tokens},         {"seconds", made->seconds},   {"tokens_per_pass", made->tokens_per_pass}};
  answer.update(origin(*made));
  out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  return exit_ok;
}

/// From a Hugging Face folder or a GGUF file.
int generate_from_others(const generate_verb_options& options, console& out) {
  if (!options.site.empty()) return out.error(exit_usage, fmt::format("--site goes with a run, and {} is none", options.run));
  return tell(
      options, out,
      [&](const heard& on_text) {
        const text_options how = text_options_of(options);
        return is_gguf(options.run) ? generate_text_from_gguf(options.run, how, on_text) : generate_text(options.run, how, on_text);
      },
      [](const generated_text&) {
        return nlohmann::json{{"run", nullptr}, {"site", nullptr}, {"round", nullptr}};
      });
}

}  // namespace

int run_generate(const generate_verb_options& options, console& out) {
  if (!options.run.empty() && (holds_hugging_face(options.run) || is_gguf(options.run))) return generate_from_others(options, out);
  const auto path = find_run(options.run);
  if (!path) return out.error(path.error());
  const auto run = open_run_folder(*path);
  if (!run) return out.error(run.error());
  text_options how = text_options_of(options);
  if (!options.site.empty()) {
    how.site = find_site(run->plan, options.site);
    if (!how.site) return out.error(exit_usage, fmt::format("no site \"{}\" in {}", options.site.substr(0, 100), *path));
  }
  return tell(
      options, out, [&](const heard& on_text) { return generate_text(*run, how, on_text); },
      [&](const generated_text& made) {
        return nlohmann::json{{"run", *path}, {"site", run->plan.sites[made.site].name}, {"round", made.round}};
      });
}

}  // namespace isthmus::launcher
