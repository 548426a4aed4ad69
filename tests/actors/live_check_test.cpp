#include "actors/sim/live_check.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using isthmus::actors::live_check;

namespace {

std::string line(const std::string& type, int round, const std::string& anchor) {
  return R"({"site":1,"record":{"anchor_hash":")" + anchor + R"(","group":2,"round":)" + std::to_string(round) + R"(},"t":")" + type +
         "\"}\n";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(live_check_test)

BOOST_AUTO_TEST_CASE(a_record_is_applied_only_behind_its_commit) {
  live_check live;
  live.written("a", line("stored", 3, "x") + line("committed", 3, "x") + line("applied", 3, "x"));
  live.written("b", line("applied", 3, "x") + "{\"si\n");
  BOOST_TEST(live.violation().empty(), live.violation());
  live.written("b", line("applied", 4, "y"));
  BOOST_TEST(live.violation() == "b applies round 4 of group 2, which nobody has committed yet");
}

BOOST_AUTO_TEST_CASE(another_record_of_the_same_round_is_not_committed) {
  live_check live;
  live.written("a", line("committed", 3, "x") + line("applied", 3, "other"));
  BOOST_TEST(!live.violation().empty());
}

BOOST_AUTO_TEST_CASE(the_cut_of_an_epoch_commits_what_is_up_to_it) {
  live_check live;
  live.written("coordinator.jsonl", "{\"t\":\"epoch\",\"view\":{\"cuts\":[{\"group\":2,\"round\":5}]}}\n");
  live.written("a", line("applied", 5, "x"));
  BOOST_TEST(live.violation().empty(), live.violation());
  live.written("a", line("applied", 6, "y"));
  BOOST_TEST(!live.violation().empty());
}

BOOST_AUTO_TEST_SUITE_END()
