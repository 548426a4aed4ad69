// What a layer costs a token, by the length of the text: a model of one layer, forward and backward, prefill, and a step of decoding.
#include "bench/report.hpp"
#include "framework/layers/catalog.hpp"
#include "framework/models/hybrid_model.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace isthmus::bench {

namespace {

struct options {
  std::vector<std::string> kinds;
  std::vector<std::int64_t> lengths{256, 1024, 4096, 16384, 65536};
  std::int64_t d_model = 256, tokens = 4096;
  int threads = 1, runs = 3;
  double seconds = 20;
  bool bf16 = true;
};

model_config config_of(const options& o, const layer_kind& kind) {
  model_config c;
  c.vocabulary = 64;  // next to nothing beside the layer
  c.d_model = o.d_model;
  const std::string name(kind.name);
  c.layers = {kind.mixes_sequence ? name + "/none" : "none/" + name};
  c.precision = o.bf16 ? precision_kind::bf16 : precision_kind::fp32;
  const auto heads = static_cast<double>(std::max<std::int64_t>(1, o.d_model / 64));
  c.options = {{"n_heads", heads},
               {"n_kv_heads", heads},
               {"ssm_inner", static_cast<double>(2 * o.d_model)},
               {"ffn_hidden", static_cast<double>(11 * o.d_model / 4)},
               {"monarch_context", static_cast<double>(o.lengths.back())}};
  std::erase_if(c.options, [&](const auto& option) { return c.catalog->find_option(option.first) == nullptr; });
  return c;
}

std::vector<std::int32_t> ids_of(std::int64_t count, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>((i * 37 + i / 7) % vocabulary));
  return ids;
}

/// Medians of some runs, in CPU nanoseconds a token.
template <class Work>
std::vector<double> nanoseconds_a_token(const options& o, std::int64_t tokens, Work&& work) {
  std::vector<double> found;
  work();
  for (int run = 0; run < o.runs; ++run) {
    const double begin = process_seconds();
    work();
    found.push_back((process_seconds() - begin) / static_cast<double>(tokens) * 1e9);
  }
  return found;
}

void tell(const options& o, const layer_kind& kind, const char* what, std::int64_t length, const std::vector<double>& values) {
  figure f;
  f.name = fmt::format("layer {} {} {}", kind.name, what, length);
  f.unit = "CPU ns/token";
  f.value = median(values);
  f.less_is_better = true;
  f.runs = o.runs;
  f.spread = spread(values);
  print(f);
}

/// A step of decoding behind `length` tokens.
std::vector<double> decode_steps(const options& o, hybrid_model& model, std::span<const std::int32_t> ids) {
  sequence_state state = model.start();
  model.advance(state, ids);
  constexpr int steps = 16;
  return nanoseconds_a_token(o, steps, [&] {
    for (int i = 0; i < steps; ++i) model.advance(state, ids.first(1));
  });
}

void measure(const options& o, const layer_kind& kind) {
  const model_config config = config_of(o, kind);
  kernels::stealing_team team(o.threads);
  double last = 0;
  for (const std::int64_t length : o.lengths) {
    if (last * 16 > o.seconds) {  // at worst the work grows with the square of the length
      print_note(fmt::format("{}: longer than {} tokens is left out, a run would take more than {} s", kind.name, length / 4, o.seconds));
      return;
    }
    const std::int64_t rows = std::max<std::int64_t>(1, o.tokens / length);
    hybrid_model model(config, kernels::default_backend(), team, rows * length);
    initial_weights(config, 1, model.weights());
    model.weights_changed();
    const auto ids = ids_of(rows * (length + 1), config.vocabulary);
    const token_batch batch{ids, rows, length};
    const double begin = process_seconds();
    tell(o, kind, "train", length, nanoseconds_a_token(o, batch.tokens(), [&] { model.accumulate(batch, 1); }));
    last = (process_seconds() - begin) / (o.runs + 1);
    tell(o, kind, "forward", length, nanoseconds_a_token(o, batch.tokens(), [&] { model.evaluate(batch); }));
    if (!sees_ahead(config))
      tell(o, kind, "decode", length, decode_steps(o, model, std::span(ids).first(static_cast<std::size_t>(length))));
  }
}

int run(int argc, char** argv) {
  options o;
  bool fp32 = false;
  CLI::App app{"What a layer costs a token, by the length of the text"};
  app.add_option("--kinds", o.kinds, "Kinds of layers; all, if none is named")->delimiter(',');
  app.add_option("--lengths", o.lengths, "Tokens of a text")->delimiter(',');
  app.add_option("--width", o.d_model, "Of the residual stream");
  app.add_option("--tokens", o.tokens, "Of a pass, where texts are shorter");
  app.add_option("--threads", o.threads, "Threads");
  app.add_option("--runs", o.runs, "Runs of each");
  app.add_option("--seconds", o.seconds, "That a run may take");
  app.add_flag("--fp32", fp32, "Instead of bf16");
  CLI11_PARSE(app, argc, argv);
  o.bf16 = !fp32;
  print_machine();
  for (const auto* kind : builtin_layers().kinds())
    if (o.kinds.empty() || std::ranges::find(o.kinds, kind->name) != o.kinds.end()) measure(o, *kind);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
