#include "framework/rounds/file_log.hpp"
#include "framework/rounds/deadline.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/rounds/parameter_group.hpp"
#include "framework/rounds/watermarks.hpp"
#include "framework/sim/disk.hpp"

#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <unistd.h>

using namespace isthmus;
using std::chrono::milliseconds;
using std::chrono::seconds;

BOOST_AUTO_TEST_SUITE(parts_test)

BOOST_AUTO_TEST_CASE(the_deadline_is_learnt_within_its_bounds) {
  deadline_settings s;
  s.grace = seconds(5);
  s.min = seconds(2);
  s.max = seconds(60);
  learned_deadline d(s);
  BOOST_TEST((d.value() == seconds(60)));
  for (int i = 0; i < 10; ++i) d.observe(milliseconds(10));
  BOOST_TEST((d.value() == seconds(2)));
  for (int i = 0; i < 32; ++i) d.observe(seconds(i % 2 == 0 ? 10 : 12));
  BOOST_TEST((d.value() >= seconds(12) && d.value() <= seconds(20)));
  const time_point quorum{seconds(100)};
  BOOST_TEST((d.closes_at(quorum) == quorum + seconds(5)));  // the grace window
  for (int i = 0; i < 32; ++i) d.observe(milliseconds(3000));
  BOOST_TEST((d.closes_at(quorum) == quorum + seconds(3)));  // enough for all so far
}

BOOST_AUTO_TEST_CASE(leases_join_and_watermarks_add_up) {
  const std::vector<lease> a{{0, 8, 12}, {0, 0, 4}}, b{{0, 4, 8}, {1, 0, 2}, {0, 20, 20}};
  BOOST_TEST((joined(a, b) == std::vector<lease>{{0, 0, 12}, {1, 0, 2}}));
  watermark_table t;
  round_record r;
  r.contributors = {{2, 1, 10, 100, {{0, 0, 4}}, 1.5}};
  t.apply(r);
  r.contributors = {{0, 1, 3, 7, {}, 0}, {2, 2, 20, 50, {{0, 4, 8}}, 0.5}};
  t.apply(r);
  contributor expected{2, 2, 20, 150, {{0, 0, 8}}, 2.0};
  expected.rounds = 2;
  BOOST_TEST((t.of(2) == expected));
  BOOST_TEST(t.of(1).step == 0U);
  BOOST_TEST(t.entries().size() == 2U);
  contributor vetoed{2, 2, 30, 10, {{0, 8, 9}}, 1.0};
  vetoed.judged = verdict::norm;
  r.contributors = {vetoed};
  t.apply(r);
  expected.step = 30;  // it is decided, but nothing of it is there
  expected.judged = verdict::norm;
  expected.strikes = 1;
  BOOST_TEST((t.of(2) == expected));
  r.contributors[0].step = 40;
  r.contributors[0].barred_until = 17;
  t.apply(r);
  BOOST_TEST(t.of(2).strikes == 0U);
  BOOST_TEST(t.of(2).barred_until == 17U);
}

BOOST_AUTO_TEST_CASE(a_record_s_hash_covers_every_field_and_its_text_form_is_exact) {
  round_record r;
  r.group = 3;
  r.round = 7;
  r.epoch = 2;
  r.home = 1;
  r.contributors = {{0, 4, 70, 1024, {{0, 5, 9}}, 0.1}};
  r.tokens_total = 999;
  r.weight = 1.0 / 3;
  r.mass = -2.5e-7;
  r.delta_hash = {1, 2};
  r.anchor_hash = {3, 4};
  r.previous = {5, 6};
  const hash128 hash = hash_record(r);
  const auto back = ledger::parse_record(ledger::record_json(r), "test");
  BOOST_TEST_REQUIRE(back.has_value());
  BOOST_TEST((*back == r));
  BOOST_TEST((hash_record(*back) == hash));
  const auto changes = [&](auto change) {
    round_record other = r;
    change(other);
    return hash_record(other) != hash;
  };
  BOOST_TEST(changes([](auto& o) { o.round = 8; }));
  BOOST_TEST(changes([](auto& o) { o.epoch = 3; }));
  BOOST_TEST(changes([](auto& o) { o.contributors[0].leases[0].end = 10; }));
  BOOST_TEST(changes([](auto& o) { o.contributors[0].mass = 0.2; }));
  BOOST_TEST(changes([](auto& o) { o.tokens_total = 1; }));
  BOOST_TEST(changes([](auto& o) { o.weight = 0.5; }));
  BOOST_TEST(changes([](auto& o) { o.anchor_hash.low = 5; }));
  BOOST_TEST(changes([](auto& o) { o.previous.high = 6; }));
  BOOST_TEST(!ledger::parse_record("{\"group\":-1}", "test").has_value());
}

BOOST_AUTO_TEST_CASE(the_coordinator_s_log_is_compare_and_swap_and_survives_a_torn_line) {
  const std::string root = (std::filesystem::temp_directory_path() / ("isthmus-log-" + std::to_string(getpid()))).string();
  const auto disk = *open_disk(root);
  coordinator_entry one;
  one.view.number = 1;
  one.view.members = {{0, 1, false, 0}, {1, 3, true, 0}};
  one.view.cuts = {{0, 1, 5, 4, {1, 2}, {3, 4}, 1}};
  one.view.reason = "the run \"begins\"";
  coordinator_entry two = one;
  two.view.number = 2;
  two.sealed = {0};
  two.ended = {{1, 4, false, 0}};
  {
    auto log = *file_log::open(*disk, "coordinator.jsonl");
    BOOST_TEST(!log.append(two).has_value());
    BOOST_TEST(log.append(one).has_value());
    BOOST_TEST(!log.append(one).has_value());
    auto other = *file_log::open(*disk, "coordinator.jsonl");
    BOOST_TEST((other.entries() == std::vector{one}));
    BOOST_TEST(other.append(two).has_value());
    BOOST_TEST(static_cast<int>(log.append(two).error().code) == static_cast<int>(errc::stale_epoch));  // fenced
  }
  const auto bytes = *disk->read("coordinator.jsonl", 1 << 20);
  BOOST_TEST_REQUIRE(disk->write_synced("coordinator.jsonl", std::span(bytes).first(bytes.size() - 5)).has_value());
  auto log = *file_log::open(*disk, "coordinator.jsonl");
  BOOST_TEST((log.entries() == std::vector{one}));
  BOOST_TEST(log.append(two).has_value());
  BOOST_TEST((file_log::open(*disk, "coordinator.jsonl")->entries() == std::vector{one, two}));
  auto rotten = *disk->read("coordinator.jsonl", 1 << 20);
  rotten[20] = std::byte{'#'};
  BOOST_TEST_REQUIRE(disk->write_synced("coordinator.jsonl", rotten).has_value());
  BOOST_TEST(file_log::open(*disk, "coordinator.jsonl").error().message.find("coordinator.jsonl:1") != std::string::npos);
  std::filesystem::remove_all(root);
}

BOOST_AUTO_TEST_CASE(leases_without_others_are_what_is_left) {
  const std::vector<lease> a{{0, 0, 10}, {1, 0, 4}}, b{{0, 2, 4}, {0, 8, 12}, {2, 0, 4}};
  BOOST_TEST((without(a, b) == std::vector<lease>{{0, 0, 2}, {0, 4, 8}, {1, 0, 4}}));
  BOOST_TEST(without(a, a).empty());
}

BOOST_AUTO_TEST_SUITE_END()
