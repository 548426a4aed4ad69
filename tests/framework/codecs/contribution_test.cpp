#include "framework/codecs/contribution.hpp"

#include "framework/codecs/codec.hpp"
#include "framework/core/probe.hpp"
#include "tests/framework/codecs/codec_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(contribution_test)

BOOST_AUTO_TEST_CASE(value_is_the_weighted_change_plus_the_decayed_residual) {
  const group_shape group = make_test_group();
  const auto anchor = random_values(group, 1), working = random_values(group, 2), residual = random_values(group, 3);
  auto value = residual;
  const contribution_terms terms{3000, 2000, 0.95F};
  BOOST_REQUIRE(form_contribution(group, terms, anchor, working, value, 5).has_value());
  for (std::size_t i = 0; i < value.size(); ++i) {
    const float change = 1.5F * (anchor[i] - working[i]), kept = 0.95F * residual[i];
    BOOST_REQUIRE(value[i] == change + kept);
  }
}

BOOST_AUTO_TEST_CASE(mass_is_conserved_over_rounds) {
  const group_shape group = make_test_group();
  for (const char* name : {"none", "int8", "sparse_loco"}) {
    const auto up = make_codec_pair(name)->up;
    const float decay = std::string(name) == "sparse_loco" ? 0.95F : 1.0F;
    std::vector<float> value(static_cast<std::size_t>(group.size));
    double computed = 0, applied = 0, decayed = 0;
    for (std::uint64_t round = 0; round < 10; ++round) {
      const auto anchor = random_values(group, round), working = random_values(group, 1000 + round);
      const auto mass = form_contribution(group, {1000 + 10 * round, 1000, decay}, anchor, working, value, 42);
      BOOST_REQUIRE(mass.has_value());
      computed += mass->change;
      decayed += mass->decayed;
      applied += *up->mass(group, up->encode(group, value), 42);
      BOOST_TEST(std::abs(computed - applied - decayed - probe(value, 42)) < 1e-7, name << " round " << round);
    }
  }
}

BOOST_AUTO_TEST_CASE(weights_that_are_not_finite_leave_the_residual) {
  const group_shape group = make_test_group();
  const auto anchor = random_values(group, 1), residual = random_values(group, 3);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(), 0x1p41F}) {
    auto working = random_values(group, 2), value = residual;
    working[static_cast<std::size_t>(group.tensors[2].offset + 7)] = bad;
    const auto result = form_contribution(group, {1, 1, 1}, anchor, working, value, 5);
    BOOST_REQUIRE(!result.has_value());
    BOOST_TEST((result.error().code == errc::not_finite));
    BOOST_TEST(result.error().message.find("tensor 2") != std::string::npos, result.error().message);
    BOOST_TEST(value == residual, boost::test_tools::per_element());
  }
}

// A flipped bit may leave a number that passes for a weight; behind momentum it would carry the anchor beyond what any site may contribute.
BOOST_AUTO_TEST_CASE(a_change_that_no_training_makes_leaves_the_residual_but_large_anchors_do_not) {
  const group_shape group = make_test_group();
  auto anchor = random_values(group, 1);
  const auto at = static_cast<std::size_t>(group.tensors[1].offset + 3);
  auto working = random_values(group, 2), value = random_values(group, 3);
  const auto residual = value;
  working[at] = 0x1p39F;
  const auto result = form_contribution(group, {1, 1, 1}, anchor, working, value, 5);
  BOOST_REQUIRE(!result.has_value());
  BOOST_TEST(result.error().message.find("was moved in one round by") != std::string::npos, result.error().message);
  BOOST_TEST(value == residual, boost::test_tools::per_element());
  anchor[at] = 0x1p39F;
  BOOST_TEST(form_contribution(group, {1, 1, 1}, anchor, working, value, 5).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
