// A fault-injection test of a whole run, replayed from its seed: three sites train a small hybrid, one of them is hurt at a moment that
// the seed draws, and the run must end well all the same. These are the actors that also train for real; only time, network and disk
// are simulated. `fault_replay [SEED] [COUNT]` rehearses COUNT seeds from SEED on; exit code 1: a run did not end, its ledgers did not
// balance, or the same seed gave two histories.
#include "actors/sim/cluster.hpp"
#include "framework/core/rng.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>

using namespace isthmus;
using namespace std::chrono_literals;

namespace {

/// The run, as `isthmus launch` would read it; the simulation adds sites, seed and text of its own.
constexpr const char* plan = R"(
[run]
name = "replay"
tokens = 6912
[model]
pattern = ["attention", "mamba2"]
n_layers = 2
d_model = 16
n_heads = 2
n_kv_heads = 1
head_dim = 8
ffn_hidden = 32
ssm_inner = 32
ssm_head_dim = 16
ssm_state = 8
ssm_chunk = 8
[train]
context = 16
tokens_per_step = 64
learning_rate = 0.01
warm_up_tokens = 256
[round]
codec = "sparse_loco"
inner_steps = 4
groups = 2
[data]
vocabulary = 320
held_out_tokens = 1024
[links]
heartbeat_ms = 100
dead_after_ms = 800
[checkpoint]
every_rounds = 3
)";

/// What happens to whom, and when: all drawn from the seed. Your own faults go here.
std::string hurt(actors::cluster& run, std::uint64_t seed) {
  rng draws(seed, 0, 0, draw::fault);
  const auto site = static_cast<site_id>(draws.below(3));
  const auto round = 2 + draws.below(4);
  run.run_until([&] { return run.last_round() >= round; }, 60s);
  run.run_for(std::chrono::milliseconds(draws.below(400)));  // anywhere in a round: training, contributing, storing, committing
  switch (draws.below(3)) {
    case 0:
      run.kill_site(site);
      run.run_for(1s);
      run.start_site(site);
      return fmt::format("s{} killed after round {}, back after 1 s", site, round);
    case 1:
      for (const site_id other : {0U, 1U, 2U, coordinator_id})
        if (other != site) run.net.cut_both(site, other);
      run.run_for(2s);
      run.net.heal_all();
      return fmt::format("s{} cut off after round {}, for 2 s", site, round);
    default: run.net.tear_next(site); return fmt::format("the next frame of s{} torn after round {}", site, round);
  }
}

struct outcome {
  std::string told;
  hash128 history;
  bool good = false;
};

outcome rehearse(std::uint64_t seed) {
  actors::cluster run({.seed = seed, .gradient_takes = 200ms, .recipe = plan});
  run.start_all();
  const std::string fault = hurt(run, seed);
  const bool ended = run.run_until([&] { return run.all_finished(); }, 600s);
  const auto ledger = run.ledgers();

  outcome o{fmt::format("seed {}: {}\n", seed, fault), run.world.digest(), ended && ledger.balanced()};
  for (site_id home = 0; home < 3; ++home)
    for (const auto& row : run.rows(home))
      if (const auto* r = std::get_if<round_row>(&row); r != nullptr && r->group == 0)
        o.told += fmt::format("  round {:2} in epoch {} by {:5} at s{}  anchor {}\n", r->round, r->epoch, r->contributors, r->home,
                              r->anchor_hash);
  o.told += fmt::format("  samples: assigned {} = committed {} + partial {} + returned {} + written off {} + outstanding {}\n",
                        ledger.assigned, ledger.committed, ledger.partial, ledger.returned, ledger.written_off, ledger.outstanding);
  for (const auto& v : ledger.violations) o.told += fmt::format("  VIOLATED {} at {}: {}\n", v.rule, v.where, v.what);
  o.told += fmt::format("  {}, ledger {}, history {}\n", ended ? "finished" : "NOT finished",
                        ledger.balanced() ? "balanced" : "NOT balanced", o.history.hex());
  return o;
}

struct seeds {
  std::uint64_t first = 1, count = 1;
};

int replay(const seeds& wanted) {
  int bad = 0;
  for (std::uint64_t i = 0; i < wanted.count; ++i) {
    const std::uint64_t seed = wanted.first + i;
    const outcome once = rehearse(seed), again = rehearse(seed);
    const bool same = once.history == again.history;
    fmt::print("{}  replayed: {}\n", once.told, same ? "the same history" : "ANOTHER history, " + again.history.hex());
    bad += once.good && same ? 0 : 1;
  }
  return bad == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/// Digits and nothing else, at most 64 bits.
bool read_number(std::string_view text, std::uint64_t& value) {
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, value);
  return status == std::errc() && stop == end;
}

/// Empty when the words are not [SEED] [COUNT], or the last seed lies beyond 64 bits.
std::optional<seeds> read_words(std::span<char*> words) {
  seeds out;
  if (words.size() > 2) return std::nullopt;
  if (!words.empty() && !read_number(words[0], out.first)) return std::nullopt;
  if (words.size() == 2 && !read_number(words[1], out.count)) return std::nullopt;
  if (out.count == 0 || out.count - 1 > UINT64_MAX - out.first) return std::nullopt;
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const auto wanted = read_words(std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
  if (!wanted) {
    fmt::print(stderr, "usage: fault_replay [SEED] [COUNT]; SEED from 0, COUNT from 1, both and the last seed below 2^64\n");
    return 2;
  }
  try {
    return replay(*wanted);
  } catch (const std::exception& e) {  // of the simulation: the recipe, say
    fmt::print(stderr, "fault_replay: {}\n", e.what());
    return 2;
  }
}
