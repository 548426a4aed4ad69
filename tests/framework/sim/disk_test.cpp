#include "framework/sim/disk.hpp"

#include <boost/test/unit_test.hpp>

#include <bit>
#include <set>

using namespace isthmus;

namespace {
std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
std::string read(const storage& s, const std::string& path) {
  auto got = s.read(path, 1000);
  return got ? std::string(reinterpret_cast<const char*>(got->data()), got->size()) : "missing";
}
}  // namespace

BOOST_AUTO_TEST_SUITE(sim_disk_test)

BOOST_AUTO_TEST_CASE(a_crash_keeps_what_was_synced_and_nothing_else) {
  sim::disk disk;
  auto s = disk.open("site-0");
  auto log = *s->open_append("log");
  BOOST_REQUIRE(log->append(bytes("kept ")).has_value());
  BOOST_REQUIRE(log->sync().has_value());
  BOOST_REQUIRE(log->append(bytes("lost")).has_value());
  BOOST_REQUIRE(s->write_synced("new/a", bytes("x")).has_value());  // its folder is never synced
  BOOST_REQUIRE(s->write_synced("tmp/a", bytes("y")).has_value());
  BOOST_REQUIRE(s->rename("tmp", "final").has_value());
  BOOST_REQUIRE(s->sync_folder("final").has_value());
  BOOST_TEST(read(*s, "final/a") == "y");
  disk.crash();
  BOOST_TEST(read(*s, "log") == "kept ");
  BOOST_TEST(read(*s, "new/a") == "missing");
  BOOST_TEST(read(*s, "tmp/a") == "missing");
  BOOST_TEST(read(*s, "final/a") == "y");
  BOOST_REQUIRE(log->append(bytes("a ghost writes")).has_value());
  BOOST_TEST(read(*s, "log") == "kept ");
}

BOOST_AUTO_TEST_CASE(one_machine_s_crash_spares_the_others_and_may_tear_its_last_write) {
  std::set<std::string> left;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    sim::disk disk;
    auto s = disk.open("run");
    auto mine = *s->open_append("mine/log"), other = *s->open_append("other/log");
    BOOST_REQUIRE(mine->append(bytes("kept ")).has_value() && mine->sync().has_value());
    BOOST_REQUIRE(mine->append(bytes("torn")).has_value() && other->append(bytes("whole")).has_value());
    rng draws(seed, 0, 0, draw::fault);
    disk.crash("run/mine", &draws);
    left.insert(read(*s, "mine/log"));
    BOOST_TEST(read(*s, "other/log") == "whole");
  }
  BOOST_TEST((left == std::set<std::string>{"kept ", "kept t", "kept to", "kept tor", "kept torn"}));
}

BOOST_AUTO_TEST_CASE(a_broken_disk_fails_writes_and_syncs_until_it_is_repaired) {
  sim::disk disk;
  auto s = disk.open("site-0");
  auto log = *s->open_append("log");
  BOOST_REQUIRE(log->append(bytes("x")).has_value());
  disk.break_down("site-0/log");
  const auto code = [](const expected<void>& done) { return done ? std::string("ok") : std::string(describe(done.error().code)); };
  BOOST_TEST(code(log->append(bytes("y"))) == "io_failed");
  BOOST_TEST(code(log->sync()) == "io_failed");
  BOOST_TEST(code(s->write_synced("a", bytes("x"))) == "ok");
  disk.repair("site-0/log");
  BOOST_TEST(code(log->sync()) == "ok");
  BOOST_TEST(read(*s, "log") == "x");
}

BOOST_AUTO_TEST_CASE(a_full_disk_says_so) {
  sim::disk disk;
  auto s = disk.open("site-0");
  disk.fill();
  BOOST_TEST(static_cast<int>(s->write_synced("a", bytes("x")).error().code) == static_cast<int>(errc::disk_full));
  disk.make_room();
  disk.fill("site-0/logs");
  BOOST_TEST(s->write_synced("a", bytes("x")).has_value());
  BOOST_TEST(!s->write_synced("logs/a", bytes("x")).has_value());
  disk.make_room("site-0/logs");
  BOOST_TEST(s->write_synced("logs/a", bytes("x")).has_value());
}

BOOST_AUTO_TEST_CASE(rot_flips_one_bit_where_it_lies_and_what_is_erased_stays_away) {
  sim::disk disk;
  auto s = disk.open("site-0");
  BOOST_REQUIRE(s->write_synced("a/weights", bytes("0123456789")).has_value());
  BOOST_REQUIRE(s->write_synced("a/empty", {}).has_value());
  BOOST_REQUIRE(s->sync_folder("a").has_value());
  rng draws(1, 0, 0, draw::fault);
  BOOST_TEST(disk.rot("site-0/a/weights", draws));
  BOOST_TEST(!disk.rot("site-0/a/empty", draws));
  BOOST_TEST(!disk.rot("site-0/a/nothing", draws));
  const std::string now = read(*s, "a/weights"), before = "0123456789";
  int bits = 0;
  for (std::size_t i = 0; i < before.size(); ++i) bits += std::popcount(static_cast<unsigned char>(now[i] ^ before[i]));
  BOOST_TEST(bits == 1);
  disk.crash();
  BOOST_TEST(read(*s, "a/weights") == now);
  disk.erase("site-0/a");
  disk.crash();
  BOOST_TEST(!s->exists("a"));
}

BOOST_AUTO_TEST_CASE(what_the_dead_still_write_reaches_nothing) {
  sim::disk disk;
  auto dead = disk.open("run"), alive = disk.open("run");
  auto log = *dead->open_append("log");
  BOOST_REQUIRE(log->append(bytes("before")).has_value());
  BOOST_REQUIRE(log->sync().has_value());
  sim::disk::abandon(*dead);
  BOOST_TEST(log->append(bytes(" and after")).has_value());
  BOOST_TEST((*dead->open_append("log"))->append(bytes("x")).has_value());
  BOOST_TEST(dead->write_synced("new", bytes("x")).has_value());
  BOOST_TEST(dead->rename("log", "gone").has_value());
  BOOST_TEST(dead->remove("log").has_value());
  BOOST_TEST(read(*alive, "log") == "before");
  BOOST_TEST(!alive->exists("new"));
  BOOST_TEST(!alive->exists("gone"));
}

BOOST_AUTO_TEST_SUITE_END()
