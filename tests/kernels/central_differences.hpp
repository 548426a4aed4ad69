#pragma once

#include "kernels/reference/backend.hpp"
#include "tests/kernels/cases.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

// What the tests of backward kernels share: the reference in double, against central differences of its forward kernel. The loss is a
// dot product of the output with random numbers, which are then the gradient of the output.
namespace isthmus::kernels::testing {

using doubles = std::vector<double>;

struct reference_in_double {
  serial_team team;
  stream s{team};
  const op_table<double>& ops = reference_double_ops();
  inputs random{17, false};
  doubles draw(std::int64_t n, double scale = 1, double offset = 0) { return random.reals<double>(n, scale, offset); }
};

inline double along(const doubles& a, const doubles& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }
inline doubles zeros(std::int64_t n) { return doubles(static_cast<std::size_t>(n)); }

/// Compares gradient with the central differences of loss() in value, at up to 40 places.
template <class Loss>
void check(const char* what, doubles& value, const doubles& gradient, Loss loss) {
  BOOST_REQUIRE(value.size() == gradient.size());
  const std::size_t stride = value.size() / 40 + 1;
  for (std::size_t i = 0; i < value.size(); i += stride) {
    const double at = value[i], step = 1e-5;
    value[i] = at + step;
    const double above = loss();
    value[i] = at - step;
    const double below = loss();
    value[i] = at;
    const double expected = (above - below) / (2 * step);
    BOOST_TEST(std::abs(gradient[i] - expected) <= 1e-7 * (1 + std::abs(expected)),
               what << "[" << i << "]: " << gradient[i] << " against " << expected);
  }
}

}  // namespace isthmus::kernels::testing
