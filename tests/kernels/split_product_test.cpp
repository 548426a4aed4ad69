#include "kernels/cpu/split_product.hpp"

#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/backends.hpp"
#include "kernels/stealing_team.hpp"
#include "tests/kernels/cases.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

using namespace isthmus::kernels;
using namespace isthmus::kernels::cpu;
using isthmus::kernels::testing::inputs;

#if defined(__x86_64__)

// Where the CPU has no such matrix unit, split_products_work() is false and nobody calls what is tested here: each case says that it skips.
BOOST_AUTO_TEST_SUITE(split_products)

namespace {

constexpr double unit = 0x1p-24, bound = 6;  // of sum |a| |b|

struct aligned_bytes {
  explicit aligned_bytes(std::size_t bytes) : at(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64))) {}
  ~aligned_bytes() { std::free(at); }
  aligned_bytes(const aligned_bytes&) = delete;
  aligned_bytes& operator=(const aligned_bytes&) = delete;
  std::byte* at;
};

/// [rows, columns] within rows of `stride`.
struct table {
  std::vector<float> values;
  std::int64_t rows, columns, stride;
  float at(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * stride + c)]; }
};

/// All 24 bits random, exponents over `range` powers of two.
table random_table(inputs& random, std::int64_t rows, std::int64_t columns, std::int64_t gap, std::int32_t range) {
  table t{{}, rows, columns, columns + gap};
  const std::int64_t count = rows * t.stride;
  const auto bits = random.ids(count, 1 << 25), exponents = random.ids(count, range);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const auto size = static_cast<float>((bits[i] >> 1 & 0x7fffff) | 0x800000);
    t.values.push_back(std::ldexp((bits[i] & 1) != 0 ? size : -size, exponents[i] - range / 2 - 23));
  }
  return t;
}

std::array<double, 3> parts_of(float value) {
  const auto first = static_cast<float>(bf16(value)), second = static_cast<float>(bf16(value - first));
  return {static_cast<double>(first), static_cast<double>(second), static_cast<double>(value - first - second)};
}

/// Largest errors in units of 2^-24 sum |a| |b|: of what was found, and of the exact sums without a2 b2, and without third parts.
struct errors {
  double found = 0, without_seconds = 0, without_thirds = 0;
};

/// found [m, n] against the sum over l < k of left(i, l) right(l, j), in double.
template <class Left, class Right, class Found>
void measure(std::int64_t m, std::int64_t n, std::int64_t k, Left left, Right right, Found found, errors& e) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0, seconds = 0, thirds = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        const float a = left(i, l), b = right(l, j);
        const auto pa = parts_of(a), pb = parts_of(b);
        const double product = static_cast<double>(a) * static_cast<double>(b);
        sum += product, size += std::abs(product), seconds += pa[1] * pb[1], thirds += pa[0] * pb[2] + pa[2] * pb[0];
      }
      const double scale = size > 0 ? unit * size : 1;
      e.found = std::max(e.found, std::abs(static_cast<double>(found(i, j)) - sum) / scale);
      e.without_seconds = std::max(e.without_seconds, std::abs(seconds) / scale);
      e.without_thirds = std::max(e.without_thirds, std::abs(thirds) / scale);
    }
}

struct extents {
  std::int64_t rows, n, k;
};

extents random_extents(inputs& random) {
  const auto draw = random.ids(4, 1 << 20);
  const auto up_to = [&](std::size_t i, std::int64_t most) { return 1 + draw[i] % most; };
  return {up_to(0, 150), up_to(1, 70), draw[3] % 3 == 0 ? up_to(2, 4) : draw[3] % 3 == 1 ? up_to(2, 100) : up_to(2, 1700)};
}

bool skipped() {
  BOOST_WARN_MESSAGE(split_products_work(), "SKIPPED, this CPU has no matrix unit for split products");
  return !split_products_work();
}

std::vector<float> multiply(team& workers, const table& x, const table& w, bool transposed, std::int64_t n, std::int64_t k,
                            std::int64_t y_stride) {
  const aligned_bytes b(split_bytes(n, k));
  split_right(workers, w.values.data(), w.stride, transposed, n, k, b.at);
  std::vector<float> y(static_cast<std::size_t>(x.rows * y_stride), -77);
  split_multiply(workers, x.rows, n, k, x.values.data(), x.stride, b.at, y.data(), y_stride);
  return y;
}

}  // namespace

BOOST_AUTO_TEST_CASE(products_are_as_exact_as_fp32_and_do_not_depend_on_the_team) {
  if (skipped()) return;
  serial_team one;
  stealing_team three(3);
  errors worst;
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    inputs random(seed, false);
    const auto [rows, n, k] = random_extents(random);
    const bool transposed = seed % 2 == 0;
    const std::int32_t range = seed % 3 == 0 ? 1 : seed % 3 == 1 ? 8 : 40;
    const table x = random_table(random, rows, k, static_cast<std::int64_t>(seed % 5), range);
    const table w = transposed ? random_table(random, n, k, 3, range) : random_table(random, k, n, 1, range);
    const std::int64_t y_stride = n + static_cast<std::int64_t>(seed % 4);
    const auto y = multiply(one, x, w, transposed, n, k, y_stride);
    BOOST_TEST((y == multiply(three, x, w, transposed, n, k, y_stride)), "seed " << seed);
    errors e;
    measure(
        rows, n, k, [&x = x](auto i, auto l) { return x.at(i, l); },
        [&w = w, transposed](auto l, auto j) { return transposed ? w.at(j, l) : w.at(l, j); },
        [&](auto i, auto j) { return y[static_cast<std::size_t>(i * y_stride + j)]; }, e);
    BOOST_TEST(e.found <= bound, "seed " << seed << ", " << rows << "x" << n << "x" << k << ": off by " << e.found);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = n; c < y_stride; ++c) BOOST_REQUIRE(y[static_cast<std::size_t>(r * y_stride + c)] == -77);
    worst = {std::max(worst.found, e.found), std::max(worst.without_seconds, e.without_seconds),
             std::max(worst.without_thirds, e.without_thirds)};
  }
  BOOST_TEST_MESSAGE("worst error " << worst.found << " * 2^-24 sum |a| |b|");
  // What the bound would not forgive: each of the small products is there.
  BOOST_TEST(worst.without_seconds > 2 * bound);
  BOOST_TEST(worst.without_thirds > 2 * bound);
}

BOOST_AUTO_TEST_CASE(weight_gradients_are_as_exact_and_add_to_what_is_there) {
  if (skipped()) return;
  serial_team one;
  stealing_team three(3);
  for (std::uint64_t seed = 101; seed <= 116; ++seed) {
    inputs random(seed, false);
    const auto [out, in, rows] = random_extents(random);
    const std::int32_t range = seed % 2 == 0 ? 1 : 30;
    const table dy = random_table(random, rows, out, 2, range);
    const table x = random_table(random, rows, in, static_cast<std::int64_t>(seed % 3), range);
    const aligned_bytes memory(split_backward_bytes(rows, in));
    std::vector<float> dw(static_cast<std::size_t>(out * in), 0.0F), other = dw;
    split_backward_weight(one, rows, out, in, dy.values.data(), dy.stride, x.values.data(), x.stride, memory.at, dw.data());
    split_backward_weight(three, rows, out, in, dy.values.data(), dy.stride, x.values.data(), x.stride, memory.at, other.data());
    BOOST_TEST((dw == other), "seed " << seed);
    errors e;
    measure(
        out, in, rows, [&dy = dy](auto i, auto l) { return dy.at(l, i); }, [&x = x](auto l, auto j) { return x.at(l, j); },
        [&, in = in](auto i, auto j) { return dw[static_cast<std::size_t>(i * in + j)]; }, e);
    BOOST_TEST(e.found <= bound, "seed " << seed << ", " << rows << "x" << out << "x" << in << ": off by " << e.found);
    split_backward_weight(one, rows, out, in, dy.values.data(), dy.stride, x.values.data(), x.stride, memory.at, other.data());
    errors twice;
    measure(
        out, in, rows, [&dy = dy](auto i, auto l) { return dy.at(l, i); }, [&x = x](auto l, auto j) { return x.at(l, j); },
        [&, in = in](auto i, auto j) { return other[static_cast<std::size_t>(i * in + j)] - dw[static_cast<std::size_t>(i * in + j)]; },
        twice);
    BOOST_TEST(twice.found <= 2 * bound, "seed " << seed);
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_finite_is_not_lost) {
  if (skipped()) return;
  serial_team one;
  inputs random(7, false);
  table x = random_table(random, 64, 48, 0, 4);
  const table w = random_table(random, 40, 48, 0, 4);
  constexpr std::uint32_t quiet = 0x7fffffffU;  // rounds to -0 as an integer
  x.values[3 * 48 + 5] = std::numeric_limits<float>::infinity();
  x.values[9 * 48 + 47] = std::numeric_limits<float>::quiet_NaN();
  x.values[63 * 48] = std::bit_cast<float>(quiet);
  const auto y = multiply(one, x, w, true, 40, 48, 40);
  for (std::int64_t r = 0; r < 64; ++r)
    for (std::int64_t c = 0; c < 40; ++c)
      BOOST_REQUIRE(std::isfinite(y[static_cast<std::size_t>(r * 40 + c)]) == (r != 3 && r != 9 && r != 63));
}

// A library's bf16 kernels set up the same registers for themselves: both in turn, in the same threads.
BOOST_AUTO_TEST_CASE(fp32_and_bf16_take_turns) {
  stealing_team two(2);
  const auto s = cpu_backend().make_stream(two);
  inputs random(11, true);
  const std::int64_t rows = 130, out = 96, in = 64;
  const auto x = random.act<float>(rows * in), w = random.act<float>(out * in);
  std::vector<bf16> narrow;
  for (const float v : x) narrow.emplace_back(v);
  const auto wide_w = cpu_backend().f32.make_matrix(w.data(), out, in);
  const auto narrow_w = cpu_backend().b16.make_matrix(w.data(), out, in);
  std::vector<float> first;
  std::vector<bf16> first_narrow;
  for (int turn = 0; turn < 4; ++turn) {
    std::vector<float> y(static_cast<std::size_t>(rows * out));
    std::vector<bf16> y_narrow(y.size());
    cpu_backend().f32.linear(*s, {wide_w.get(), x.data(), y.data(), rows, in, out});
    cpu_backend().b16.linear(*s, {narrow_w.get(), narrow.data(), y_narrow.data(), rows, in, out});
    if (turn == 0) first = y, first_narrow = y_narrow;
    for (std::size_t i = 0; i < y.size(); ++i) {
      BOOST_REQUIRE(y[i] == first[i] && y_narrow[i].bits == first_narrow[i].bits);
      BOOST_REQUIRE(std::abs(y[i] - static_cast<float>(y_narrow[i])) <= 0.01F * (1 + std::abs(y[i])));  // the operands are exact in bf16
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

#endif
