#include "launcher/text_generation.hpp"

#include "framework/data/prepare.hpp"
#include "framework/models/generate.hpp"
#include "framework/models/hybrid_model.hpp"
#include "kernels/select.hpp"
#include "launcher/newest_anchor.hpp"

#include <fmt/format.h>

#include <chrono>

namespace isthmus::launcher {

namespace {

/// How many bytes at the end of text are the beginning of a UTF-8 character that is not whole yet.
std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0U) == 0x80) continue;
    const std::size_t needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needs > back ? back : 0;
  }
  return 0;
}

}  // namespace

expected<generated_text> generate_text(const run_folder& run, const text_options& options,
                                       const std::function<void(std::string_view)>& on_text) {
  auto disk = open_disk(run.path);
  if (!disk) return disk.failure();
  auto newest = newest_anchor(run, **disk, options.site);
  if (!newest) return newest.failure();
  auto tokens = read_tokenizer(**disk, "data/tokenizer.json");
  if (!tokens) return tokens.failure();
  if (auto ok = check_vocabulary(*tokens, run.plan.model.vocabulary, run.path + "/data/tokenizer.json"); !ok) return ok.failure();
  kernels::serial_team team;
  hybrid_model model(run.plan.model, kernels::default_backend(), team);
  if (auto ok = newest->copy_to(model); !ok) return ok.failure();

  std::vector<token_id> prompt;
  if (tokens->end_of_text()) prompt.push_back(*tokens->end_of_text());
  encoder(*tokens).encode(options.prompt, prompt);
  if (prompt.empty()) return fail(errc::usage, "the prompt is empty and the tokenizer has no end-of-text token to begin from");
  generate_options how;
  how.tokens_max = options.tokens;
  how.temperature = static_cast<float>(options.temperature);
  how.top_p = static_cast<float>(options.top_p);
  how.seed = options.seed;
  how.stop_id = tokens->end_of_text().value_or(-1);

  generated_text out;
  out.checkpoint = newest->saved.folder;
  out.site = newest->site;
  out.round = newest->round();
  out.warnings = newest->saved.warnings;
  std::size_t told = 0;
  const auto tell = [&](std::size_t until) {
    if (on_text && until > told) on_text(std::string_view(out.text).substr(told, until - told));
    told = std::max(told, until);
  };
  const auto began = std::chrono::steady_clock::now();
  generate(model, prompt, how, [&](std::int32_t id) {
    ++out.tokens;
    const std::array<token_id, 1> one{id};
    out.text += tokens->decode(one);
    tell(out.text.size() - unfinished_tail(out.text));
    return true;
  });
  tell(out.text.size());
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return out;
}

}  // namespace isthmus::launcher
