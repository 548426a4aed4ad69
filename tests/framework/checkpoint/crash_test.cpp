#include "tests/framework/checkpoint/content.hpp"
#include "tests/framework/checkpoint/fault_disk.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <vector>

using namespace isthmus;
using testing::content;
using testing::fault_disk;
using testing::fault_kind;
using testing::step_that_loads;

namespace {

/// Saves steps 1 .. n with one store; true when every save said it succeeded.
bool save_steps(storage& disk, std::uint64_t n) {
  checkpoint_store store(disk, "site/checkpoints");
  bool all = true;
  for (std::uint64_t step = 1; step <= n; ++step) {
    const content c(step);
    all = store.save(c.facts, c.parts).has_value() && all;
  }
  return all;
}

std::uint64_t operations_of_one_save(std::uint64_t saved_before) {
  fault_disk disk;
  auto view = disk.open();
  save_steps(*view, saved_before);
  disk.disarm();
  const content next(saved_before + 1);
  checkpoint_store store(*view, "site/checkpoints");
  BOOST_TEST(store.save(next.facts, next.parts).has_value());
  return disk.operations();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(crash_test)

BOOST_AUTO_TEST_CASE(whatever_operation_goes_wrong_the_last_checkpoint_loads) {
  constexpr std::array kinds{fault_kind::fails, fault_kind::tears, fault_kind::cuts};
  for (const std::uint64_t before : {0U, 1U, 2U, 3U}) {
    const std::uint64_t operations = operations_of_one_save(before);
    BOOST_TEST(operations > 12U);
    for (const fault_kind kind : kinds)
      for (std::uint64_t at = 0; at < operations; ++at)
        for (const std::uint64_t luck : {0U, 1U, 2U, 3U}) {
          BOOST_TEST_CONTEXT("saved before: " << before << ", fault " << static_cast<int>(kind) << " at operation " << at << ", luck "
                                              << luck) {
            fault_disk disk;
            auto view = disk.open();
            save_steps(*view, before);
            disk.arm(at, kind);
            bool saved = false;
            try {
              const content next(before + 1);
              saved = checkpoint_store(*view, "site/checkpoints").save(next.facts, next.parts).has_value();
            } catch (const testing::power_loss&) {}
            if (kind != fault_kind::cuts) {
              disk.disarm();
              const std::uint64_t step = step_that_loads(*view);  // the process lives on
              BOOST_TEST((saved ? step == before + 1 : step >= before));
            }
            disk.crash(luck);
            auto again = disk.open();
            const std::uint64_t step = step_that_loads(*again);
            BOOST_TEST((saved ? step == before + 1 : step >= before));
            const content later(before + 2);  // and the next save works
            BOOST_TEST(checkpoint_store(*again, "site/checkpoints").save(later.facts, later.parts).has_value());
            BOOST_TEST(step_that_loads(*again) == before + 2);
          }
        }
  }
}

BOOST_AUTO_TEST_CASE(every_sync_is_needed) {
  fault_disk counted;
  save_steps(*counted.open(), 2);
  const std::uint64_t operations = counted.operations();
  std::uint64_t syncs = 0;
  for (std::uint64_t at = 0; at < operations; ++at) {
    fault_disk disk;
    auto view = disk.open();
    disk.arm(at, fault_kind::skips_sync);
    // A skipped sync shows either at the save it belongs to or at the next one: crash right after each.
    bool lost = false;
    checkpoint_store store(*view, "site/checkpoints");
    for (std::uint64_t step = 1; step <= 2 && disk.operations() <= at; ++step) {
      const content c(step);
      BOOST_TEST(store.save(c.facts, c.parts).has_value());
      if (disk.operations() <= at || !disk.fired_on_sync()) continue;
      ++syncs;
      disk.crash(0);
      auto after = disk.open();
      const auto loaded = checkpoint_store(*after, "site/checkpoints").load();
      lost = !loaded || loaded->facts.step != step;
      BOOST_TEST(lost, "skipping the sync at operation " << at << " of save " << step << " went unnoticed");
      break;
    }
  }
  BOOST_TEST(syncs == 12U);  // 2 of the folder's own way, then 3 files, their folder and its parent for each save
}

BOOST_AUTO_TEST_CASE(two_are_kept_and_only_after_the_new_one_verifies) {
  fault_disk disk;
  auto view = disk.open();
  BOOST_TEST(save_steps(*view, 5));
  const auto left = checkpoint_store(*view, "site/checkpoints").list();
  BOOST_REQUIRE(left.size() == 2U);
  BOOST_TEST(left[0].facts.step == 5U);
  BOOST_TEST(left[1].facts.step == 4U);
}

BOOST_AUTO_TEST_SUITE_END()
