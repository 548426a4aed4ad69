// What a launcher does when it is sent a signal, and what a site's process leaves to its own handlers.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <thread>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

namespace fs = std::filesystem;

void stop(live_run& run) {
  run.signal("launcher", SIGTERM);
  BOOST_TEST(run.wait() == 7, run.told());
}

#ifdef __SANITIZE_ADDRESS__  // it catches SIGSEGV, SIGBUS and SIGFPE itself
constexpr int must_be_free[] = {SIGILL, SIGABRT, SIGHUP};
#else
constexpr int must_be_free[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGHUP};
#endif

/// Whether the process has a handler for the signal.
bool catches(pid_t pid, int signal) {
  std::istringstream status(text_of("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("SigCgt:")) return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1U) != 0;
  BOOST_ERROR("process " << pid << " has no SigCgt");
  return true;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(signals, scratch_folder)

BOOST_AUTO_TEST_CASE(sigusr1_makes_checkpoints_and_the_run_goes_on) {
  live_run run(path.string(), "usr1", {"checkpoint.every_rounds=1000", "run.tokens=20_000_000"});
  BOOST_TEST_REQUIRE(run.under_way(3), run.told());
  for (const site_id site : {0U, 1U, 2U}) BOOST_TEST(!run.has_checkpoint(site));
  run.signal("launcher", SIGUSR1);
  for (const site_id site : {0U, 1U, 2U}) BOOST_TEST(run.until([&] { return run.has_checkpoint(site); }), run.told());
  BOOST_TEST(contains(text_of(run.path() + ".out"), "SIGUSR1: every site writes a checkpoint and goes on"));
  const auto then = run.committed();
  BOOST_TEST(run.under_way(then + 3), run.told());
  BOOST_TEST(!run.has_event("died", ""));
  stop(run);
}

BOOST_AUTO_TEST_CASE(sighup_opens_the_logs_again) {
  live_run run(path.string(), "hup", {"run.tokens=20_000_000"});
  BOOST_TEST_REQUIRE(run.under_way(3), run.told());
  const fs::path log = run.path() + "/logs/alpha.log", old = log.string() + ".1";
  fs::rename(log, old);
  run.signal("launcher", SIGHUP);
  BOOST_TEST_REQUIRE(run.until([&] { return fs::exists(log); }), run.told());
  const auto size = fs::file_size(old);
  run.signal("launcher", SIGUSR1);  // makes a site say something
  BOOST_TEST(run.until([&] { return contains(text_of(log), "checkpoint asked for"); }), run.told());
  BOOST_TEST(fs::file_size(old) == size);
  BOOST_TEST(contains(text_of(run.path() + ".out"), "SIGHUP: logs are opened again"));
  BOOST_TEST(!run.has_event("died", ""));
  stop(run);
}

BOOST_AUTO_TEST_CASE(asked_to_stop_while_text_is_prepared_nothing_is_left) {
  const std::vector<std::string> text{"data.text_bytes_max=4_000_000", "data.vocabulary=2048", "run.tokens=100_000"};
  live_run run(path.string(), "preparing", text);
  BOOST_TEST_REQUIRE(run.until([&] { return contains(text_of(run.path() + ".out"), "preparing text"); }), run.told());
  run.signal("launcher", SIGINT);
  BOOST_TEST(run.wait(20) == 7, run.told());
  BOOST_TEST(contains(text_of(run.path() + ".out"), "nothing was trained"), run.told());
  BOOST_TEST(!fs::exists(run.path()));
  const auto ledger = run_isthmus({"ledger"}, {{"ISTHMUS_RUNS=" + path.string()}, {}, {}, false, ~std::size_t{0}});
  BOOST_TEST(ledger.code == 5);
  BOOST_TEST(contains(ledger.err, "no run in"), ledger.err);
  live_run again(path.string(), "preparing", text);  // with whatever lies in the cache
  BOOST_TEST(again.wait() == 0, again.told());
}

BOOST_AUTO_TEST_CASE(asked_to_stop_in_the_middle_of_a_checkpoint_the_run_goes_on_later) {
  live_run run(path.string(), "saving", {"checkpoint.every_rounds=1", "run.tokens=1_500_000"});
  BOOST_TEST_REQUIRE(run.under_way(2), run.told());
  const auto pid = run.pid_of("launcher");
  bool seen = false;
  for (const double end = wall_now() + 60; !seen && wall_now() < end; std::this_thread::sleep_for(std::chrono::microseconds(200))) {
    seen = fs::exists(run.path() + "/checkpoints/site-0/writing");
    if (seen) ::kill(pid, SIGINT);
  }
  BOOST_TEST(seen, "no checkpoint was seen in the making");
  BOOST_TEST(run.wait() == 7, run.told());
  BOOST_TEST(run.ledger().at("outstanding") == 0);
  run.resume();
  BOOST_TEST(run.wait() == 0, run.told());
  BOOST_TEST(run.ledger().at("complete") == true);
}

BOOST_AUTO_TEST_CASE(ucx_has_no_handlers_in_a_site) {
  live_run run(path.string(), "handlers", {"run.tokens=20_000_000"});
  BOOST_TEST_REQUIRE(run.under_way(1), run.told());
  for (const auto* name : {"alpha", "coordinator"}) {
    const pid_t pid = run.pid_of(name);
    for (const int signal : must_be_free) BOOST_TEST(!catches(pid, signal), name << " " << signal);
    const auto environment = text_of("/proc/" + std::to_string(pid) + "/environ");
    for (const auto* setting : {"UCX_MEM_EVENTS=n", "UCX_HANDLE_ERRORS=none"})
      BOOST_TEST(contains(environment, std::string(setting) + '\0'));
  }
  stop(run);
}

BOOST_AUTO_TEST_SUITE_END()
