#include "kernels/stealing_team.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

using namespace isthmus::kernels;

BOOST_AUTO_TEST_SUITE(stealing)

BOOST_AUTO_TEST_CASE(every_tile_runs_once_whatever_the_team) {
  for (const int threads : {1, 2, 3, 7}) {
    stealing_team team(threads);
    BOOST_TEST(team.size() == threads);
    for (int round = 0; round < 300; ++round) {
      const std::int64_t tiles = round * 37 % 101;
      std::vector<std::atomic<int>> ran(static_cast<std::size_t>(tiles));
      std::atomic<bool> known{true};
      team.run(tiles, [&](std::int64_t tile, int worker) {
        ran[static_cast<std::size_t>(tile)].fetch_add(1);
        if (worker < 0 || worker >= threads) known = false;
      });
      for (const auto& count : ran) BOOST_REQUIRE(count.load() == 1);
      BOOST_REQUIRE(known.load());
    }
  }
}

BOOST_AUTO_TEST_CASE(tiles_of_a_held_up_worker_are_stolen) {
  stealing_team team(2);
  std::atomic<int> done{0};
  bool others_ended = false;
  team.run(100, [&](std::int64_t tile, int) {
    // The first tile ends only when all others have: whoever holds it, the other one has to take the rest of its range.
    if (tile == 0) {
      while (done.load() < 99) std::this_thread::sleep_for(std::chrono::microseconds(100));
      others_ended = true;
    }
    done.fetch_add(1);
  });
  BOOST_TEST(others_ended);
  BOOST_TEST(done.load() == 100);
}

BOOST_AUTO_TEST_CASE(workers_wake_after_they_slept) {
  stealing_team team(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> sum{0};
    team.run(50, [&](std::int64_t tile, int) { sum.fetch_add(static_cast<int>(tile)); });
    BOOST_REQUIRE(sum.load() == 1225);
  }
}

BOOST_AUTO_TEST_CASE(an_exception_reaches_the_caller_and_the_team_goes_on) {
  stealing_team team(3);
  for (int round = 0; round < 50; ++round) {
    BOOST_CHECK_THROW(team.run(40,
                               [&](std::int64_t tile, int) {
                                 if (tile == 17) throw std::runtime_error("tile 17");
                               }),
                      std::runtime_error);
    std::atomic<int> ran{0};
    team.run(40, [&](std::int64_t, int) { ran.fetch_add(1); });
    BOOST_REQUIRE(ran.load() == 40);
  }
}

BOOST_AUTO_TEST_CASE(scratch_is_aligned_and_each_workers_own) {
  stealing_team team(2);
  std::byte* a = team.scratch(0, 100);
  std::byte* b = team.scratch(1, 5 << 20);
  std::byte* c = team.shared_scratch(1000);
  for (const std::byte* each : {a, b, c}) BOOST_TEST(reinterpret_cast<std::uintptr_t>(each) % 64 == 0U);
  BOOST_TEST((a != b && b != c && a != c));
  BOOST_TEST(team.scratch(0, 50) == a);
  BOOST_CHECK_THROW(stealing_team(0), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(what_one_worker_asked_for_all_have_behind_the_job) {
  stealing_team team(3);
  team.run(1, [&](std::int64_t, int worker) { team.scratch(worker, 1 << 20); });
  for (const int worker : {1, 2}) {
    const std::byte* had = team.scratch(worker, 1);
    BOOST_TEST(team.scratch(worker, 1 << 20) == had);
  }
}

BOOST_AUTO_TEST_SUITE_END()
