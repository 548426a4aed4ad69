#include "launcher/text_generation.hpp"

#include "actors/site_start.hpp"
#include "framework/checkpoint/checkpoint.hpp"
#include "framework/data/prepare.hpp"
#include "framework/models/generate.hpp"
#include "framework/models/hybrid_model.hpp"
#include "kernels/select.hpp"

#include <fmt/format.h>

#include <chrono>

namespace isthmus::launcher {

namespace {

/// The site whose newest checkpoint is the furthest.
expected<site_id> furthest_site(const run_folder& run, storage& disk) {
  std::optional<site_id> best;
  std::pair<round_number, step_number> furthest;
  for (site_id site = 0; site < run.plan.sites.size(); ++site) {
    const auto all = checkpoint_store(disk, actors::checkpoint_folder(site)).list();
    if (all.empty()) continue;
    const auto& facts = all.front().facts;
    const std::pair reached{facts.groups.empty() ? round_number{0} : facts.groups.front().round, facts.step};
    if (!best || reached > furthest) {
      best = site;
      furthest = reached;
    }
  }
  if (!best)
    return fail(errc::not_found, fmt::format("{} has no checkpoint yet; one is written every {} rounds and at the end", run.path,
                                             run.plan.checkpoint.every_rounds));
  return *best;
}

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
  const auto site = options.site ? expected<site_id>(*options.site) : furthest_site(run, **disk);
  if (!site) return site.failure();
  auto tokens = read_tokenizer(**disk, "data/tokenizer.json");
  if (!tokens) return tokens.failure();
  if (auto ok = check_vocabulary(*tokens, run.plan.model.vocabulary, run.path + "/data/tokenizer.json"); !ok) return ok.failure();
  checkpoint_needs needs;
  needs.recipe_hash = recipe_hash(run.plan);
  needs.parts = {"model"};
  auto saved = checkpoint_store(**disk, actors::checkpoint_folder(*site)).load(needs);
  if (!saved) return saved.failure();
  const auto weights = saved->part("model");
  if (!weights) return weights.failure();

  kernels::serial_team team;
  hybrid_model model(run.plan.model, kernels::default_backend(), team);
  if (auto ok = (*weights)->copy_to(model.layout(), model.weights()); !ok) return ok.failure();
  model.weights_changed();

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
  out.checkpoint = saved->folder;
  out.site = *site;
  out.round = saved->facts.groups.empty() ? 0 : saved->facts.groups.front().round;
  out.warnings = saved->warnings;
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
