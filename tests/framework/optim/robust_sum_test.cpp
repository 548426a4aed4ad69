#include "framework/optim/robust_sum.hpp"

#include "framework/core/rng.hpp"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <ostream>
#include <vector>

using namespace isthmus;

namespace isthmus {
std::ostream& operator<<(std::ostream& out, aggregate_kind k) { return out << static_cast<int>(k); }
}  // namespace isthmus

namespace {

constexpr std::uint64_t key = 7;
constexpr std::size_t size = 5000;  // more than a block, and no multiple of sixteen

std::vector<float> random_values(std::uint64_t seed, float scale = 1) {
  rng draws(seed, 0, 0, draw::sampling);
  std::vector<float> v(size);
  for (float& x : v) x = scale * static_cast<float>(draws.uniform() - 0.4);
  return v;
}

struct round_of {
  std::vector<std::vector<float>> values;
  std::vector<weighed> parts;
  std::vector<float> sum = std::vector<float>(size);
  void add(std::vector<float> v, float weight) {
    values.push_back(std::move(v));
    parts.clear();
    weights.push_back(weight);
    for (std::size_t i = 0; i < values.size(); ++i) parts.push_back({values[i], weights[i], measure(values[i], key), 0});
  }
  std::vector<float> weights;
};

double length(std::span<const float> v) { return std::sqrt(measure(v, key).squares); }

}  // namespace

BOOST_AUTO_TEST_SUITE(robust_sum_test)

BOOST_AUTO_TEST_CASE(the_lower_median_needs_more_than_half_to_be_moved) {
  std::vector<double> v{9, 1, 1e9, 2, 1e9, 3, 4, 1e9};  // three of eight are wrong
  BOOST_TEST(lower_median(v) == 4);
  std::vector<double> one{5};
  BOOST_TEST(lower_median(one) == 5);
}

BOOST_DATA_TEST_CASE(what_is_taken_off_and_what_is_in_the_sum_are_all_there_was,
                     boost::unit_test::data::make({aggregate_kind::mean, aggregate_kind::clip_to_median, aggregate_kind::centred_clipping,
                                                   aggregate_kind::trimmed_mean}),
                     kind) {
  round_of r;
  const float weights[] = {1, 0.5F, 2, 1, 1.25F};
  for (std::uint64_t i = 0; i < 5; ++i) r.add(random_values(i, weights[i] * static_cast<float>(i + 1)), weights[i]);
  robust_sum(kind, 1, r.parts, random_values(50, 0.1F), r.sum, key);
  double in = 0, norm = 0;
  for (const weighed& p : r.parts) {
    in += p.size.probe - p.clipped;
    norm += std::sqrt(p.size.squares);
  }
  BOOST_TEST(std::abs(in - probe(r.sum, key)) < 1e-4 * norm);
  if (kind == aggregate_kind::mean)
    for (const weighed& p : r.parts) BOOST_TEST(p.clipped == 0);
}

BOOST_DATA_TEST_CASE(equal_contributions_are_their_own_aggregate,
                     boost::unit_test::data::make({aggregate_kind::mean, aggregate_kind::clip_to_median, aggregate_kind::centred_clipping,
                                                   aggregate_kind::trimmed_mean}),
                     kind) {
  round_of r;
  for (int i = 0; i < 4; ++i) r.add(random_values(3), 1);
  robust_sum(kind, 1, r.parts, {}, r.sum, key);
  for (std::size_t i = 0; i < size; ++i) BOOST_TEST(std::abs(r.sum[i] - 4 * r.values[0][i]) <= 1e-5F * std::abs(r.sum[i]));
}

BOOST_DATA_TEST_CASE(three_of_eight_cannot_lengthen_the_sum,
                     boost::unit_test::data::make({aggregate_kind::clip_to_median, aggregate_kind::centred_clipping,
                                                   aggregate_kind::trimmed_mean}),
                     kind) {
  round_of r;
  for (std::uint64_t i = 0; i < 8; ++i) r.add(random_values(i, i < 3 ? 1e6F : 1.0F), 1);
  robust_sum(kind, 3, r.parts, {}, r.sum, key);
  BOOST_TEST(length(r.sum) < 12 * length(r.values[7]));
  robust_sum(aggregate_kind::mean, 3, r.parts, {}, r.sum, key);
  BOOST_TEST(length(r.sum) > 1e5 * length(r.values[7]));
}

BOOST_AUTO_TEST_CASE(a_clipped_one_keeps_its_direction_and_gets_the_median_length) {
  round_of r;
  r.add(std::vector<float>(size, 1.0F), 1);
  r.add(std::vector<float>(size, 1.0F), 1);
  r.add(std::vector<float>(size, -10.0F), 1);
  robust_sum(aggregate_kind::clip_to_median, 0, r.parts, {}, r.sum, key);
  for (const float x : r.sum) BOOST_TEST(std::abs(x - 1.0F) < 1e-5F);
  BOOST_TEST(r.parts[0].clipped == 0);
  BOOST_TEST(std::abs(r.parts[2].clipped - 0.9 * r.parts[2].size.probe) < 1e-4);
}

BOOST_AUTO_TEST_CASE(the_trimmed_mean_leaves_out_the_ends_of_each_element) {
  round_of r;
  for (const float x : {1.0F, 2.0F, 3.0F, 100.0F, -50.0F}) r.add(std::vector<float>(size, x), 1);
  robust_sum(aggregate_kind::trimmed_mean, 1, r.parts, {}, r.sum, key);
  BOOST_TEST(r.sum[0] == 10.0F);                                         // five times the mean of 1, 2, 3
  robust_sum(aggregate_kind::trimmed_mean, 9, r.parts, {}, r.sum, key);  // as many as there are: the median is left
  BOOST_TEST(r.sum[size - 1] == 10.0F);
}

BOOST_AUTO_TEST_CASE(a_dot_product_is_what_it_is) {
  const auto a = random_values(1), b = random_values(2);
  double plain = 0;
  for (std::size_t i = 0; i < size; ++i) plain += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  BOOST_TEST(std::abs(dot(a, b) - plain) < 1e-9 * length(a) * length(b));
}

BOOST_AUTO_TEST_SUITE_END()
