#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/backends.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"
#include "tests/kernels/cases.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <memory>

using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(every_backend)

namespace {

struct candidate {
  const backend* table;
  std::unique_ptr<team> workers;
  bool by_default = true;  // else as a CPU of another maker would have it
  std::unique_ptr<stream> make_stream() const {
    if (by_default) return table->make_stream(*workers);
    const auto way = cpu::this_cpu().fast_bf16_dots ? cpu::pair_way::widened : cpu::pair_way::dots;
    return std::make_unique<cpu::cpu_stream>(*workers, cpu::make_gemm_library(workers->size()), false, false, true, way);
  }
};

/// Every backend with every kind of team it should work on: a further team is added here.
std::vector<candidate> candidates() {
  std::vector<candidate> all;
  for (const backend* b : backends()) all.push_back({b, std::make_unique<serial_team>()});
  for (const backend* b : cpu_backends()) all.push_back({b, std::make_unique<stealing_team>(3)});
  if (cpu::pair_products_work()) all.push_back({&cpu_backend(), std::make_unique<stealing_team>(3), false});
  return all;
}

template <class Act>
void compare(double tolerance) {
  for (const auto& c : candidates()) {
    const auto s = c.make_stream();
    for (const auto& k : kernel_cases()) {
      if (!k.of<Act>()) continue;
      for (std::uint64_t seed = 1; seed <= 2; ++seed) {
        const auto [distance, tensor] = distance_from_reference<Act>(k, *c.table, *s, seed);
        BOOST_TEST(distance <= tolerance, c.table->name << " with " << c.workers->size() << " workers, " << k.name << ", seed " << seed
                                                        << ": " << tensor << " is off by " << distance);
      }
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(fp32_agrees_with_the_reference_in_double) { compare<float>(1.5e-5); }
BOOST_AUTO_TEST_CASE(bf16_agrees_with_the_reference_in_double) { compare<bf16>(2e-2); }

BOOST_AUTO_TEST_CASE(adamw_agrees_with_its_formula) {
  for (const auto& c : candidates()) {
    const auto s = c.make_stream();
    placed_inputs random(5, false, *c.table->memory, *s);
    const std::int64_t n = 10007;
    auto weights = random.reals<float>(n), first = random.reals<float>(n, 0.1), second = random.reals<float>(n, 0.01, 0.1);
    auto gradients = random.reals<float>(n);
    const auto w0 = weights.values(), m0 = first.values(), v0 = second.values(), g0 = gradients.values();
    const decay_extent extents[] = {{0, 5000, 0.1F}, {5001, 5000, 0.0F}};
    c.table->adamw(*s, {.weights = weights.data(),
                        .first = first.data(),
                        .second = second.data(),
                        .gradients = gradients.data(),
                        .extents = extents,
                        .n_extents = 2,
                        .rate = 0.01F,
                        .beta1 = 0.9F,
                        .beta2 = 0.95F,
                        .eps = 1e-8F,
                        .gradient_scale = 0.5F,
                        .correction1 = 0.19F,
                        .correction2 = 0.0975F,
                        .clear_gradients = true});
    const auto w = weights.values(), m = first.values(), v = second.values(), g = gradients.values();
    for (std::size_t i = 0; i < w.size(); ++i) {
      if (i == 5000 || i > 10000) {  // outside
        BOOST_REQUIRE(w[i] == w0[i] && m[i] == m0[i] && v[i] == v0[i] && g[i] == g0[i]);
        continue;
      }
      const double gi = 0.5 * static_cast<double>(g0[i]), mi = 0.9 * static_cast<double>(m0[i]) + 0.1 * gi;
      const double vi = 0.95 * static_cast<double>(v0[i]) + 0.05 * gi * gi, decay = i < 5000 ? 0.1 : 0.0;
      const double wi =
          static_cast<double>(w0[i]) - 0.01 * (mi / 0.19 / (std::sqrt(vi / 0.0975) + 1e-8) + decay * static_cast<double>(w0[i]));
      BOOST_REQUIRE(std::abs(static_cast<double>(w[i]) - wi) < 1e-5 && std::abs(static_cast<double>(m[i]) - mi) < 1e-6 &&
                    std::abs(static_cast<double>(v[i]) - vi) < 1e-6 && g[i] == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(sums_of_squares_agree_with_double) {
  for (const auto& c : candidates()) {
    const auto s = c.make_stream();
    for (const std::int64_t n : {0, 1, 4095, 4096, 4097, 100003}) {
      placed_inputs random(static_cast<std::uint64_t>(n), false, *c.table->memory, *s);
      const auto values = random.reals<float>(n);
      double found = -1, wide = 0;
      c.table->sum_of_squares(*s, {values.data(), n, &found});
      for (const float v : values.values()) wide += static_cast<double>(v) * static_cast<double>(v);
      BOOST_TEST(std::abs(found - wide) <= 1e-12 * (1 + wide));
    }
  }
}

// Sums on every backend have one order, whatever ran before: the same bits again.
BOOST_AUTO_TEST_CASE(a_rerun_gives_the_same_bits) {
  for (const auto& c : candidates()) {
    const auto s = c.make_stream();
    for (const auto& k : kernel_cases()) {
      if (!k.b16) continue;
      placed_inputs once(3, true, *c.table->memory, *s), again(3, true, *c.table->memory, *s);
      const auto first = k.b16(c.table->b16, *s, once).tensors, second = k.b16(c.table->b16, *s, again).tensors;
      for (std::size_t i = 0; i < first.size(); ++i)
        BOOST_TEST((first[i].second == second[i].second),
                   c.table->name << ", " << k.name << ": " << first[i].first << " differs in a rerun");
    }
  }
}

BOOST_AUTO_TEST_CASE(backends_are_found_by_name) {
  BOOST_TEST(find_backend("reference") == backends().back());
  BOOST_TEST(&default_backend() == backends().front());
  for (const backend* b : backends()) BOOST_TEST(find_backend(b->name) == b);
  BOOST_TEST(find_backend("abacus") == nullptr);
}

BOOST_AUTO_TEST_CASE(bf16_rounds_to_nearest_even) {
  const auto rounded = [](float x) { return static_cast<float>(bf16(x)); };
  BOOST_TEST(rounded(1.0F) == 1.0F);
  BOOST_TEST(rounded(1.00390625F) == 1.0F);        // half way, to even below
  BOOST_TEST(rounded(1.01171875F) == 1.015625F);   // half way, to even above
  BOOST_TEST(rounded(1.00390637F) == 1.0078125F);  // just above half way
  BOOST_TEST(rounded(-3.5F) == -3.5F);
  BOOST_TEST(std::isinf(rounded(3.4e38F)));
  BOOST_TEST(std::isnan(rounded(std::nanf(""))));
}

BOOST_AUTO_TEST_SUITE_END()
