// Devices of a site die at every instant of a step: what the others computed is neither lost nor counted twice.
#include "actors/sim/cluster.hpp"
#include "framework/core/error.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t devices = 3;

struct step_seen {
  double loss = 0, gradient_norm = 0;
};

struct fault {
  device_work work;
  int at;            // the how manieth slice of that work, from 1
  bool whose_it_is;  // that device dies before its slice; else its neighbour does, soon
};

struct outcome {
  std::map<step_number, step_seen> steps;  // of the last time that each was done
  std::optional<std::uint32_t> dead;
  bool restarted = false;  // the whole site
};

/// One site, three devices of eight rows each a step: two slices of gradient, one of reduction, one of update.
outcome run(std::uint64_t seed, const std::optional<fault>& hurt) {
  outcome result;
  cluster* running = nullptr;
  std::map<device_work, int> seen;
  const auto before = [&](site_id site, std::uint32_t device, device_work work) {
    if (!hurt || work != hurt->work || ++seen[work] != hurt->at) return;
    result.dead = hurt->whose_it_is ? device : (device + 1) % devices;
    if (hurt->whose_it_is) throw contract_error("a rehearsed failure");
    running->fail_device(site, *result.dead);
  };
  cluster c({.seed = seed,
             .sites = 1,
             .overrides = {"sites.0.devices=3", "train.tokens_per_step=384", "run.tokens=3456", "checkpoint.every_rounds=1"},
             .before_work = before});
  running = &c;
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.exit_code(0).has_value(); }, 100s));
  if (c.exit_code(0) == 1) {
    result.restarted = true;
    BOOST_TEST(c.run_until([&] { return !c.running(0); }, 1s));
    c.start_site(0);
    BOOST_REQUIRE(c.run_until([&] { return c.exit_code(0).has_value(); }, 100s));
  }
  BOOST_TEST(c.all_finished());
  BOOST_TEST(c.has_event("crash", "device") == hurt.has_value());
  const auto report = c.ledgers();
  BOOST_TEST(report.balanced(), c.describe_violations());
  BOOST_TEST(report.committed == 216U);  // 9 steps of 24 rows
  BOOST_TEST(report.outstanding == 0U);
  if (!result.restarted) BOOST_TEST(report.assigned == 216U);
  for (const auto& row : c.rows(0))
    if (const auto* s = std::get_if<sample_row>(&row)) result.steps[s->step] = {s->loss, s->gradient_norm};
  return result;
}

/// Sums of other parts in another order differ in their last bits, and a slice of rows too many by more than a part in a hundred.
void check_same(const outcome& found, const outcome& whole) {
  BOOST_TEST_REQUIRE(found.steps.size() == whole.steps.size());
  for (const auto& [step, expected] : whole.steps) {
    const step_seen& s = found.steps.at(step);
    BOOST_TEST(std::abs(s.loss - expected.loss) < 1e-4 * expected.loss, "step " << step << ": loss " << s.loss << " for " << expected.loss);
    BOOST_TEST(std::abs(s.gradient_norm - expected.gradient_norm) < 1e-3 * expected.gradient_norm,
               "step " << step << ": gradient norm " << s.gradient_norm << " for " << expected.gradient_norm);
  }
}

void check_faults(device_work work, int first, int last, bool torn_allowed) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const outcome whole = run(seed, {});
    BOOST_TEST_REQUIRE(whole.steps.size() == 9U);
    for (int at = first; at <= last; ++at)
      for (const bool own : {true, false})
        BOOST_TEST_CONTEXT("seed " << seed << ", slice " << at << (own ? ", its own device" : ", the next device")) {
          const outcome found = run(seed, fault{work, at, own});
          BOOST_TEST(found.dead.has_value());
          if (!torn_allowed) BOOST_TEST(!found.restarted);
          if (torn_allowed && own) BOOST_TEST(found.restarted);
          check_same(found, whole);
        }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_fault_test)

// In the second step, so that gradients hold something of a step before if ever they do. A neighbour's failure is heard somewhat later,
// perhaps in an update.
BOOST_AUTO_TEST_CASE(a_device_dies_in_a_gradient) { check_faults(device_work::gradient, 7, 12, false); }

BOOST_AUTO_TEST_CASE(a_device_dies_in_a_reduction) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const outcome whole = run(seed, {});
    for (int at = 4; at <= 6; ++at) BOOST_TEST_CONTEXT("seed " << seed << ", slice " << at) {
        const outcome found = run(seed, fault{device_work::reduction, at, true});
        BOOST_TEST(!found.restarted);
        check_same(found, whole);
      }
  }
}

BOOST_AUTO_TEST_CASE(a_device_dies_in_an_update_and_the_site_begins_again) { check_faults(device_work::update, 4, 6, true); }

BOOST_AUTO_TEST_CASE(a_device_dies_in_an_evaluation) { check_faults(device_work::evaluation, 1, 8, false); }

BOOST_AUTO_TEST_CASE(all_devices_die_one_after_the_other_in_one_step) {
  int slices = 0;
  const auto before = [&](site_id, std::uint32_t, device_work work) {
    if (work == device_work::gradient && ++slices >= 7 && slices <= 11) throw contract_error("a rehearsed failure");
  };
  cluster c(
      {.seed = 1, .sites = 1, .overrides = {"sites.0.devices=3", "train.tokens_per_step=384", "run.tokens=3456"}, .before_work = before});
  c.start_all();
  BOOST_TEST(c.run_until([&] { return c.all_finished(); }, 100s));
  const auto report = c.ledgers();
  BOOST_TEST(report.balanced(), c.describe_violations());
  BOOST_TEST(report.assigned == report.committed);
}

BOOST_AUTO_TEST_CASE(slices_are_as_short_as_products_are_fast) {
  for (const std::int64_t context : {64, 128, 256, 384, 512, 1000, 4096})
    for (std::int64_t rows = 1; rows <= 65; ++rows)
      for (std::int64_t left = rows; left > 0;) {
        const std::int64_t next = rows_of_slice(left, context, slice_tokens), tokens = next * context;
        BOOST_TEST_REQUIRE(next >= 1);
        BOOST_TEST_REQUIRE(next <= left);
        BOOST_TEST((next == 1 || tokens < 2 * slice_tokens + context), context << ": " << next << " of " << left << " rows");
        BOOST_TEST((next == left || tokens >= slice_tokens), context << ": " << next << " of " << left << " rows");
        BOOST_TEST((next < rows || rows * context < 2 * slice_tokens || rows == 1));
        left -= next;
      }
  BOOST_TEST(rows_of_slice(8, 128, 512) == 4);
  BOOST_TEST(rows_of_slice(4, 256, 512) == 2);
  BOOST_TEST(rows_of_slice(3, 256, 512) == 3);
  BOOST_TEST(rows_of_slice(8, 4096, 512) == 1);
}

BOOST_AUTO_TEST_SUITE_END()
