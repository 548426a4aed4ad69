#include "framework/optim/outer.hpp"

#include "framework/core/probe.hpp"
#include "tests/framework/codecs/codec_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstring>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(outer_test)

BOOST_AUTO_TEST_CASE(nesterov_is_pytorchs) {
  // torch.optim.SGD([1.0], lr=0.7, momentum=0.9, nesterov=True) with gradients 0.5, -0.25, 0.125
  group_shape group{0, 0, 1, {{0, 1}}};
  std::vector<float> anchor{1}, momentum{0};
  const float gradients[] = {0.5F, -0.25F, 0.125F};
  const double theta[] = {0.335, 0.384, 0.10435};
  for (int step = 0; step < 3; ++step) {
    apply_outer({}, group, std::vector<float>{3 * gradients[step]}, 3.0, anchor, momentum);
    BOOST_TEST(std::abs(static_cast<double>(anchor[0]) - theta[step]) < 1e-6);
  }
}

BOOST_AUTO_TEST_CASE(frames_give_the_bits_of_their_sum) {
  const group_shape group = make_test_group();
  for (const char* name : {"none", "int8", "sparse_loco"}) {
    const auto pair = *make_codec_pair(name);
    for (const outer_rule rule : {outer_rule{outer_kind::nesterov, 0.7F, 0.9F}, outer_rule{outer_kind::plain, 1.0F, 0.0F}}) {
      auto anchor = random_values(group, 1, 0.1), momentum = random_values(group, 2);
      auto anchor_too = anchor, momentum_too = momentum;
      for (std::uint64_t round = 0; round < 3; ++round) {
        std::vector<float> sum(anchor.size());
        for (std::uint64_t site = 0; site < 3; ++site) {
          auto value = random_values(group, 10 * round + site);
          BOOST_REQUIRE(pair.up->add_to(group, pair.up->encode(group, value), sum).has_value());
        }
        const auto frame = pair.down->encode(group, sum);
        std::vector<float> delta(anchor.size());
        BOOST_REQUIRE(pair.down->add_to(group, frame, delta).has_value());
        apply_outer(rule, group, delta, 2.9, anchor, momentum);
        const auto old_anchor = anchor_too, old_momentum = momentum_too;
        const auto moved = apply_outer(rule, group, *pair.down, frame, 2.9, {anchor_too, momentum_too});
        BOOST_REQUIRE(moved.has_value());
        BOOST_TEST((moved->anchor_hash == hash_floats(anchor)));
        std::vector<float> other_anchor(anchor.size(), 7.0F), other_momentum(anchor.size(), 7.0F);
        const auto apart = apply_outer(rule, group, *pair.down, frame, 2.9, {old_anchor, old_momentum, other_anchor, other_momentum}, 5);
        BOOST_REQUIRE(apart.has_value());
        BOOST_TEST((apart->anchor_hash == hash_floats(anchor)));
        BOOST_TEST(apart->mass == probe(delta, 5));
        BOOST_TEST(std::memcmp(anchor.data(), other_anchor.data(), 4 * anchor.size()) == 0);
        if (rule.has_momentum()) BOOST_TEST(std::memcmp(momentum.data(), other_momentum.data(), 4 * momentum.size()) == 0);
      }
      BOOST_TEST(std::memcmp(anchor.data(), anchor_too.data(), 4 * anchor.size()) == 0);
      BOOST_TEST(std::memcmp(momentum.data(), momentum_too.data(), 4 * momentum.size()) == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_bad_frame_changes_nothing) {
  const group_shape group = make_test_group();
  const auto pair = *make_codec_pair("sparse_loco");
  auto value = random_values(group, 1);
  auto frame = pair.down->encode(group, value);
  frame.pop_back();
  auto anchor = random_values(group, 2);
  const auto before = anchor;
  BOOST_TEST(!apply_outer({outer_kind::plain, 1, 0}, group, *pair.down, frame, 3, {anchor, {}}).has_value());
  const auto good = pair.down->encode(group, value);
  for (const double weight : {0.0, -1.0, 1e-30, 1e300, std::nan("")}) {
    BOOST_TEST(!apply_outer({outer_kind::plain, 1, 0}, group, *pair.down, good, weight, {anchor, {}}).has_value());
  }
  BOOST_TEST(anchor == before, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()
