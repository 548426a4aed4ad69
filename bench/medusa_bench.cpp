// Greedy text by Medusa heads beside the same text one token a pass: trains a small byte-level model on a file, then writes on from places of it.
#include "bench/report.hpp"
#include "framework/models/speculate.hpp"
#include "framework/optim/adamw.hpp"
#include "framework/core/rng.hpp"
#include "kernels/select.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <iterator>

namespace isthmus::bench {

namespace {

struct options {
  std::string text = "docs/manual.md";
  std::vector<std::string> layers{"attention", "mamba2", "hybrid"};
  std::int64_t d = 128, depth = 4, heads = 3, steps = 600, tokens = 256;
  int rounds = 3;
  bool by_cpu = false;
  double (*clock() const)() { return by_cpu ? process_seconds : wall_seconds; }
};

model_config config_of(const options& o, const std::string& layers) {
  model_config c;
  c.vocabulary = 256;
  c.d_model = o.d;
  for (std::int64_t i = 0; i < o.depth; ++i) c.layers.push_back(layers == "hybrid" ? (i % 2 == 0 ? "mamba2" : "attention") : layers);
  const auto d = static_cast<double>(o.d);
  c.options = {{"n_heads", 4},       {"n_kv_heads", 4},    {"head_dim", d / 4}, {"ffn_hidden", 3 * d},
               {"ssm_inner", 2 * d}, {"ssm_head_dim", 32}, {"ssm_state", 32}};
  c.medusa_heads = o.heads;
  return c;
}

std::vector<std::int32_t> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<std::int32_t> ids;
  for (auto i = std::istreambuf_iterator<char>(file); i != std::istreambuf_iterator<char>(); ++i)
    ids.push_back(static_cast<unsigned char>(*i));
  return ids;
}

/// Gives the loss of the last steps.
double train(hybrid_model& model, const std::vector<std::int32_t>& text, std::int64_t steps) {
  constexpr std::int64_t rows = 8, context = 128;
  adamw optimizer(model.layout(), {});
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * (context + 1)));
  double loss = 0;
  for (std::int64_t step = 0; step < steps; ++step) {
    rng random(1, 0, static_cast<std::uint64_t>(step), draw::sampling);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto at = static_cast<std::int64_t>(random.below(text.size() - static_cast<std::size_t>(context)));
      std::copy_n(text.begin() + at, context + 1, ids.begin() + r * (context + 1));
    }
    model.weights_changed();
    const double now = model.accumulate({ids, rows, context}, 1.0 / (rows * context)) / (rows * context);
    const double left = 1 - static_cast<double>(step) / static_cast<double>(steps);
    optimizer.step(model.backend(), model.stream(), model.weights(), model.gradients(), 3e-3 * (0.1 + 0.9 * left));
    loss = step == 0 ? now : 0.95 * loss + 0.05 * now;
  }
  model.weights_changed();
  return loss;
}

void row(const options& o, const std::string& layers, const std::vector<std::int32_t>& text) {
  kernels::serial_team team;
  hybrid_model model(config_of(o, layers), kernels::default_backend(), team);
  initial_weights(model.config(), 1, model.weights());
  const double loss = train(model, text, o.steps);
  std::vector<double> plain, fast, a_pass;
  bool same = true;
  for (int round = -1; round < o.rounds; ++round) {  // the first warms up
    const std::span<const std::int32_t> prompt(text.data() + (round + 2) * std::ssize(text) / (o.rounds + 3), 64);
    const generate_options how{.tokens_max = o.tokens, .temperature = 0};
    double begin = o.clock()();
    const auto expected = generate(model, prompt, how);
    const double slow_seconds = o.clock()() - begin;
    begin = o.clock()();
    const auto found = generate_by_heads(model, prompt, how);
    const double fast_seconds = o.clock()() - begin;
    same = same && found.ids == expected;
    if (round < 0) continue;
    plain.push_back(static_cast<double>(o.tokens) / slow_seconds);
    fast.push_back(static_cast<double>(o.tokens) / fast_seconds);
    a_pass.push_back(found.tokens_per_pass());
  }
  figure f;
  f.name = fmt::format("greedy by {} heads, {} x {}, d {}", o.heads, o.depth, layers, o.d);
  f.unit = o.by_cpu ? "token/CPU s" : "token/s";
  f.value = median(fast);
  f.peer = "one token a pass";
  f.peer_value = median(plain);
  f.runs = o.rounds;
  f.spread = spread(fast);
  print(f);
  print_note(fmt::format("{}: {:.2f} tokens a pass, training loss {:.2f}, {}", f.name, median(a_pass), loss,
                         same ? "the same text" : "ANOTHER TEXT"));
}

int run(int argc, char** argv) {
  options o;
  CLI::App app{"Greedy decoding by Medusa heads"};
  app.add_option("--text", o.text, "File whose bytes are learnt");
  app.add_option("--layers", o.layers, "attention mamba2 hybrid, or another kind")->delimiter(',');
  app.add_option("--d", o.d, "Width");
  app.add_option("--depth", o.depth, "Layers");
  app.add_option("--heads", o.heads, "Medusa heads");
  app.add_option("--steps", o.steps, "Of training, 1024 tokens each");
  app.add_option("--tokens", o.tokens, "To write in a round");
  app.add_option("--rounds", o.rounds, "Each from another place of the text");
  app.add_flag("--by-cpu", o.by_cpu, "Seconds of CPU time");
  CLI11_PARSE(app, argc, argv);
  const auto text = bytes_of(o.text);
  if (text.size() < 4096) {
    fmt::print(stderr, "{}: a file of 4096 bytes or more is needed\n", o.text);
    return 2;
  }
  print_machine();
  for (const auto& layers : o.layers) row(o, layers, text);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
