// What a round costs: bytes on the wire beside the codec's exact size, CPU seconds a site and round at 30 million parameters, and CPU
// seconds per token of one of three sites beside the bare training loop.
#include "bench/exchange.hpp"
#include "bench/report.hpp"
#include "bench/site_cost.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/error.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace isthmus::bench {

namespace {

struct options {
  std::vector<std::string> parts{"bytes", "cpu", "overhead", "checkpoints"};
  int rounds = 3, repeats = 5;
  std::int64_t inner_steps = 10;
};

constexpr train_shape small{256, 6, 256, 1024, 2048, "a2", precision_kind::fp32};
constexpr train_shape large{512, 9, 256, 2048, 4096, "a2", precision_kind::fp32};
constexpr outer_rule nesterov{outer_kind::nesterov, 0.7F, 0.9F}, plain{outer_kind::plain, 1.0F, 0.0F};

void say(const std::string& name, double value, const std::string& unit, const std::string& limit = {}, std::optional<double> share = {}) {
  figure f;
  f.name = name;
  f.value = value;
  f.unit = unit;
  f.limit = limit;
  f.share = share;
  print(f);
}

double ratio(std::size_t a, std::size_t b) { return static_cast<double>(a) / static_cast<double>(b); }

void bytes(const std::string& codec, int rounds) {
  exchange three(hybrid_layout(config_of(small)), codec, nesterov);
  for (int i = 0; i < rounds; ++i) three.round();
  const auto& up = three.up();
  const auto& down = three.down();
  const auto bits = [&](std::size_t n) {  // each group crosses to its home from two sites, and back to two
    return 8 * static_cast<double>(n) / (2.0 * rounds * static_cast<double>(three.parameters()));
  };
  say("round bytes " + codec + " up", bits(up.payload), "bit/parameter", "the codec's exact size", ratio(up.exact, up.payload));
  say("round bytes " + codec + " up, all else", 100 * (ratio(up.all, up.payload) - 1), "% of payload");
  if (codec == "sparse_loco") {
    say("round bytes " + codec + " down", bits(down.payload), "bit/parameter", "elements of the exact union",
        ratio(three.union_elements(), three.delta_elements()));
    say("round bytes " + codec + " down, per named element",
        static_cast<double>(down.payload) * 8 / (2.0 * rounds * static_cast<double>(three.delta_elements())), "bit");
  } else {
    say("round bytes " + codec + " down", bits(down.payload), "bit/parameter", "the codec's exact size", ratio(down.exact, down.payload));
  }
  say("round bytes " + codec + " down, all else", 100 * (ratio(down.all, down.payload) - 1), "% of payload");
}

/// CPU seconds a site and round: of the mean site, each round once.
std::vector<double> exchange_seconds(const train_shape& shape, const std::string& codec, const outer_rule& outer, int rounds) {
  exchange three(hybrid_layout(config_of(shape)), codec, outer);
  three.round();  // touches all memory
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) {
    three.round();
    double sum = 0;
    for (const double s : three.seconds()) sum += s;
    seconds.push_back(sum / exchange::sites);
  }
  return seconds;
}

void cpu(const std::string& codec, const outer_rule& outer, int rounds) {
  const auto seconds = exchange_seconds(large, codec, outer, rounds);
  figure f;
  f.name = fmt::format("round cpu {:.1f}M {} {}", static_cast<double>(hybrid_layout(config_of(large)).parameter_count()) * 1e-6, codec,
                       outer.has_momentum() ? "nesterov" : "plain");
  f.unit = "CPU s a site and round";
  f.value = median(seconds);
  f.less_is_better = true;
  float_array weights(static_cast<std::size_t>(hybrid_layout(config_of(large)).size));
  std::ranges::fill(weights.span(), 1.0F);  // memory that nobody wrote is one page of zeros
  f.limit = "one read of the weights";
  f.share = median(memory_read_seconds(weights.span())) / f.value;
  f.runs = rounds;
  f.spread = spread(seconds);
  print(f);
}

/// Of whole rounds after the first; sites and bare loops take turns at going first. Excluded as the codec's: what `exchange` counts in the
/// same minutes, which is to form, measure and encode contributions, pack and unpack frames, sum, apply deltas and hash anchors, and copy
/// anchors to the weights. All else of a site counts: actors, links, transport, ledger, leases, metrics and their store, waiting.
void overhead(const options& o) {
  constexpr std::int64_t rounds = 4;
  const step_window window{o.inner_steps, (1 + rounds) * o.inner_steps};
  const double tokens = static_cast<double>(window.steps() * small.tokens);
  double in_exchange = 0;
  std::vector<double> site, bare, quotient, with_exchange;
  for (int i = 0; i < o.repeats; ++i) {
    in_exchange = median(exchange_seconds(small, "sparse_loco", nesterov, 3)) * rounds;
    double b = 0;
    if (i % 2 == 0) b = cost_of_bare_loops(small, window);
    const double s = cost_of_sites(small, window, o.inner_steps);
    if (i % 2 == 1) b = cost_of_bare_loops(small, window);
    bare.push_back(1e6 * b / tokens);
    site.push_back(1e6 * (s - in_exchange) / tokens);
    quotient.push_back((s - in_exchange) / b);
    with_exchange.push_back(s / b);
  }
  figure f;
  f.name = "site beside bare training loop, exchange excluded";
  f.unit = "CPU us/token";
  f.value = median(site);
  f.peer = "bare loop";
  f.peer_value = median(bare);
  f.less_is_better = true;
  f.runs = o.repeats;
  f.spread = spread(quotient);
  print(f);
  say("site / bare loop, exchange excluded", median(quotient), "ratio of CPU seconds per token");
  say("site / bare loop, all", median(with_exchange), "ratio of CPU seconds per token");
  say("exchange of the same model", in_exchange / rounds, "CPU s a site and round");
}

/// What checkpoints cost a site: copy, hashes, writing, reading back. All of it counts, though only the copy is on a step's way.
void checkpoints(const options& o) {
  constexpr std::int64_t every = 5;  // rounds, the default of a recipe
  const step_window window{o.inner_steps, (1 + 2 * every) * o.inner_steps};
  const double tokens = static_cast<double>(window.steps() * small.tokens);
  std::vector<double> with, without, quotient;
  for (int i = 0; i < o.repeats; ++i) {
    double w = 0;
    if (i % 2 == 0) w = cost_of_sites(small, window, o.inner_steps, every);
    const double none = cost_of_sites(small, window, o.inner_steps);
    if (i % 2 == 1) w = cost_of_sites(small, window, o.inner_steps, every);
    with.push_back(1e6 * w / tokens);
    without.push_back(1e6 * none / tokens);
    quotient.push_back(w / none);
  }
  figure f;
  f.name = "site that saves a checkpoint every 5 rounds beside one that saves none";
  f.unit = "CPU us/token";
  f.value = median(with);
  f.peer = "without checkpoints";
  f.peer_value = median(without);
  f.less_is_better = true;
  f.runs = o.repeats;
  f.spread = spread(quotient);
  print(f);
  say("with checkpoints / without", median(quotient), "ratio of CPU seconds per token");
}

int run(int argc, char** argv) {
  options o;
  CLI::App app{"Bytes and CPU time of rounds"};
  app.add_option("--parts", o.parts, "bytes cpu overhead checkpoints")->delimiter(',');
  app.add_option("--rounds", o.rounds, "Rounds of each exchange");
  app.add_option("--repeats", o.repeats, "Repeats of sites and bare loops in turn");
  app.add_option("--inner-steps", o.inner_steps, "Steps a round of the sites");
  CLI11_PARSE(app, argc, argv);
  print_machine();
  const auto wanted = [&](const char* part) { return std::find(o.parts.begin(), o.parts.end(), part) != o.parts.end(); };
  if (wanted("bytes"))
    for (const char* codec : {"none", "int8", "sparse_loco"}) bytes(codec, o.rounds);
  if (wanted("cpu")) {
    cpu("sparse_loco", nesterov, o.rounds);
    cpu("sparse_loco", plain, o.rounds);
    cpu("int8", nesterov, o.rounds);
  }
  if (wanted("overhead")) overhead(o);
  if (wanted("checkpoints")) checkpoints(o);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
