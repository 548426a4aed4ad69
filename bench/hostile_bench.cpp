// Loss of a run in which some sites are hostile, beside that of the same run without them: docs/hostile.md.
#include "bench/federation.hpp"
#include "bench/report.hpp"
#include "framework/core/storage.hpp"
#include "framework/data/prepare.hpp"
#include "kernels/team.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <stdexcept>

namespace isthmus::bench {

namespace {

struct options {
  std::string data = "build/hostile_data";
  std::vector<std::string> attacks{"sign_flip", "scale", "noise", "replay"}, rules{"guard"};
  std::vector<std::uint32_t> counts{1, 3};
  bool guarded_clean = false, quick = false;
  double direction_veto = 0.002, audit_rate = 0.05;
  std::int64_t held_out = 32768;
  federation_settings run;
};

const std::map<std::string, attack_kind> attack_names{{"sign_flip", attack_kind::sign_flip}, {"scale", attack_kind::scale},
                                                      {"noise", attack_kind::noise},         {"replay", attack_kind::replay},
                                                      {"lazy", attack_kind::lazy},           {"mixed", attack_kind::mixed}};

/// What a recipe would say under [guard] and round.aggregate.
guard_settings rule_named(const std::string& name, double direction_veto) {
  guard_settings g;
  if (name == "audits") g.barred_after = 1, g.barred_rounds = 20;
  g.hostile_max = 3;
  if (name == "clip_to_median") g.aggregate = aggregate_kind::clip_to_median;
  if (name == "centred_clipping") g.aggregate = aggregate_kind::centred_clipping;
  if (name == "trimmed_mean") g.aggregate = aggregate_kind::trimmed_mean;
  if (name != "guard") return g;
  g.aggregate = aggregate_kind::clip_to_median;
  g.norm_veto = 4;
  g.similarity_veto = 0.95;
  g.direction_veto = direction_veto;
  g.barred_after = 3;
  g.barred_rounds = 20;
  return g;
}

model_config hybrid_of_two_million() {
  model_config c;
  c.vocabulary = 1024;
  c.d_model = 192;
  c.layers = {"attention", "mamba2", "attention", "mamba2"};
  c.options = {{"n_heads", 3},       {"n_kv_heads", 3}, {"head_dim", 64},  {"ffn_hidden", 384}, {"ssm_inner", 384},
               {"ssm_head_dim", 64}, {"ssm_state", 64}, {"ssm_groups", 1}, {"conv_width", 4},   {"ssm_chunk", 64}};
  c.precision = precision_kind::bf16;
  return c;
}

template <class T>
T or_throw(expected<T> value) {
  if (!value) throw std::runtime_error(value.error().message);
  return std::move(*value);
}

/// Shards drawn alike, so that a loss tells of the sites and not of their text.
std::vector<token_shard> prepare(const options& o) {
  const auto root = or_throw(open_disk("/"));
  const auto out = or_throw(open_disk(o.data));
  data_options d;
  d.alike = true;
  d.sites = o.run.sites;
  d.vocabulary = o.run.model.vocabulary;
  d.bytes_max = 4'000'000;
  d.held_out_tokens_min = 8192;
  std::vector<token_shard> shards;
  for (const auto& site : or_throw(prepare_data(*root, *out, "data", d))) shards.push_back(or_throw(read_shard(*out, site.shard_path)));
  return shards;
}

struct outcome {
  double loss = 0, seconds = 0;
  std::uint64_t vetoed_hostile = 0, vetoed_honest = 0;
  std::int64_t rounds = 0;
  std::vector<double> cosines_hostile, cosines_honest;  // of audits
};

outcome play(const options& o, std::span<const token_shard> shards, const std::string& rule, attack_kind attack, std::uint32_t hostile) {
  federation_settings s = o.run;
  s.guarding = rule_named(rule, o.direction_veto);
  if (rule == "audits") s.audit_rate = o.audit_rate;
  s.attack = attack;
  s.hostile = hostile;
  kernels::serial_team team;
  const double begin = process_seconds();
  federation run(s, shards, team);
  outcome out;
  bool bounded = true;
  while (bounded && out.rounds < run.rounds_planned()) {
    bounded = run.round();
    out.rounds += bounded ? 1 : 0;
  }
  out.loss = bounded ? run.held_out_loss(o.held_out) : std::numeric_limits<double>::infinity();
  out.seconds = process_seconds() - begin;
  out.vetoed_hostile = run.vetoed_hostile();
  out.vetoed_honest = run.vetoed_honest();
  out.cosines_hostile = run.cosines_hostile();
  out.cosines_honest = run.cosines_honest();
  return out;
}

/// Least, median and largest.
void report_audits(const std::string& whose, std::vector<double> cosines) {
  if (cosines.empty()) return;
  std::ranges::sort(cosines);
  print_note(fmt::format("{} audits of {} sites: cosines of {:.4f}, {:.4f}, {:.4f} (least, median, largest)", cosines.size(), whose,
                         cosines.front(), cosines[cosines.size() / 2], cosines.back()));
}

void report(const std::string& what, const std::string& rule, const outcome& r, std::optional<double> clean) {
  print_note(fmt::format("{}, {}: {} rounds, {:.0f} CPU seconds, vetoed: {} contributions of hostile sites, {} of honest ones", what, rule,
                         r.rounds, r.seconds, r.vetoed_hostile, r.vetoed_honest));
  report_audits("hostile", r.cosines_hostile);
  report_audits("honest", r.cosines_honest);
  if (!std::isfinite(r.loss))
    return print_note(fmt::format("{}, {}: the weights are beyond all bounds after {} rounds", what, rule, r.rounds));
  figure f;
  f.name = fmt::format("{} {}", what, rule);
  f.unit = "nat";
  f.value = r.loss;
  f.less_is_better = true;
  if (clean) {
    f.peer = "nobody hostile, mean";
    f.peer_value = *clean;
  }
  print(f);
}

int run(int argc, char** argv) {
  options o;
  o.run.model = hybrid_of_two_million();
  CLI::App app{"Loss under hostile sites beside the clean run"};
  app.add_option("--data", o.data, "Folder for the shards; made on the first run");
  app.add_option("--attacks", o.attacks, "sign_flip scale noise replay lazy mixed")->delimiter(',');
  app.add_option("--rules", o.rules, "mean clip_to_median centred_clipping trimmed_mean guard audits")->delimiter(',');
  app.add_option("--direction-veto", o.direction_veto, "Of the guard: median cosine up to which a contribution is vetoed");
  app.add_option("--audit-rate", o.audit_rate, "Of the rule audits: chance that a contribution is trained again");
  app.add_option("--hostile", o.counts, "How many of the sites")->delimiter(',');
  app.add_option("--tokens", o.run.tokens, "Of the whole run");
  app.add_option("--sites", o.run.sites, "Sites");
  app.add_option("--inner-steps", o.run.inner_steps, "Local steps a round");
  app.add_option("--tokens-per-step", o.run.tokens_per_step, "Of one site");
  app.add_option("--context", o.run.context, "Tokens in a row");
  app.add_option("--learning-rate", o.run.learning_rate, "Peak of the inner steps");
  app.add_option("--outer-rate", o.run.outer_rate, "Of the outer optimizer");
  app.add_option("--outer-momentum", o.run.outer_momentum, "Of the outer optimizer");
  app.add_option("--seed", o.run.seed, "Of weights and samples");
  app.add_flag("--guarded-clean", o.guarded_clean, "Each rule with nobody hostile, too");
  app.add_flag("--quick", o.quick, "A small model: does it run at all?");
  CLI11_PARSE(app, argc, argv);
  if (o.quick) {
    o.run.model.d_model = 64;
    o.run.model.layers.resize(2);
    auto& options = o.run.model.options;
    options["n_heads"] = options["n_kv_heads"] = 1;
    options["ffn_hidden"] = options["ssm_inner"] = 128;
    o.held_out = 4096;
  }
  print_machine();
  const auto shards = prepare(o);
  const auto clean = play(o, shards, "mean", attack_kind::none, 0);
  report(fmt::format("hostile 0 of {}", o.run.sites), "mean", clean, {});
  for (const auto& rule : o.rules) {
    if (o.guarded_clean && rule != "mean")
      report(fmt::format("hostile 0 of {}", o.run.sites), rule, play(o, shards, rule, attack_kind::none, 0), clean.loss);
    for (const auto& attack : o.attacks)
      for (const auto count : o.counts)
        report(fmt::format("hostile {} {} of {}", attack, count, o.run.sites), rule, play(o, shards, rule, attack_names.at(attack), count),
               clean.loss);
  }
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) {
  try {
    return isthmus::bench::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "hostile_bench: %s\n", e.what());
    return 1;
  }
}
