// A process that saves one checkpoint after another is killed at any instant, a thousand times over on one folder.
#include "framework/core/rng.hpp"
#include "tests/framework/checkpoint/content.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

using namespace isthmus;
using testing::content;
using testing::step_that_loads;

namespace {

constexpr const char* folder = "site/checkpoints";

/// In a process of its own: saves on and on, and tells each step that is safe.
[[noreturn]] void save_for_ever(const std::string& root, int tell, std::uint64_t step) {
  auto disk = open_disk(root);
  if (!disk) ::_exit(1);
  for (checkpoint_store store(**disk, folder);;) {
    const content next(++step);
    if (!store.save(next.facts, next.parts)) ::_exit(2);
    if (::write(tell, &step, sizeof step) != sizeof step) ::_exit(3);
  }
}

/// The last step that it told of, or `before`, when it was killed after that time.
std::uint64_t kill_after(std::chrono::microseconds time, const std::string& root, std::uint64_t before) {
  int ends[2];
  BOOST_REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) save_for_ever(root, ends[1], before);
  ::close(ends[1]);
  std::this_thread::sleep_for(time);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  BOOST_TEST_REQUIRE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL), "the saving process ended by itself: " << status);
  std::uint64_t step = 0, last = before;
  while (::read(ends[0], &step, sizeof step) == sizeof step) last = step;
  ::close(ends[0]);
  return last;
}

/// In microseconds.
std::uint64_t time_of_a_save(storage& disk, std::uint64_t step) {
  const auto begun = std::chrono::steady_clock::now();
  const content first(step);
  BOOST_TEST_REQUIRE(checkpoint_store(disk, folder).save(first.facts, first.parts).has_value());
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun).count());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(kill_test)

BOOST_AUTO_TEST_CASE(a_thousand_kills_lose_nothing_that_was_said_to_be_safe) {
  const auto root = std::filesystem::temp_directory_path() / ("isthmus-kills-" + std::to_string(::getpid()));
  auto disk = open_disk(root.string());
  BOOST_TEST_REQUIRE(disk.has_value());
  const std::uint64_t seed = 20;
  rng draws(seed, 0, 0, draw::fault);
  std::uint64_t safe = 0, unfinished = 0;
  const auto longest = 4 * time_of_a_save(**disk, ++safe);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t told = kill_after(std::chrono::microseconds(draws.below(longest)), root.string(), safe);
    const std::uint64_t loads = step_that_loads(**disk);
    BOOST_TEST_REQUIRE((loads == told || loads == told + 1),
                       "kill " << i << " of seed " << seed << ": step " << told << " was safe, step " << loads << " loads");
    unfinished += (*disk)->exists(std::string(folder) + "/writing") ? 1 : 0;
    safe = loads;
  }
  BOOST_TEST_MESSAGE(safe << " checkpoints, " << unfinished << " kills in the middle of one");
  BOOST_TEST(safe > 100U);
  BOOST_TEST(unfinished > 100U);
  std::filesystem::remove_all(root);
}

BOOST_AUTO_TEST_SUITE_END()
