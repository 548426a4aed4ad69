#include "framework/recipe/nearest.hpp"

#include <boost/test/unit_test.hpp>

using isthmus::nearest_name;

BOOST_AUTO_TEST_SUITE(nearest)

BOOST_AUTO_TEST_CASE(finds_what_was_meant) {
  const std::vector<std::string> names{"heartbeat_ms", "dead_after_ms", "n_heads", "context"};
  BOOST_TEST(nearest_name("heartbeat", names) == "heartbeat_ms");
  BOOST_TEST(nearest_name("n_head", names) == "n_heads");
  BOOST_TEST(nearest_name("contxet", names) == "context");
}

BOOST_AUTO_TEST_CASE(suggests_nothing_far_fetched) {
  const std::vector<std::string> names{"ls", "cp", "context"};
  BOOST_TEST(nearest_name("zz", names) == "");
  BOOST_TEST(nearest_name("", names) == "");
  BOOST_TEST(nearest_name("frobnicate", names) == "");
  BOOST_TEST(nearest_name(std::string(1 << 20, 'x'), names) == "");
}

BOOST_AUTO_TEST_SUITE_END()
