#include "kernels/cpu/gemm_library.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <vector>

using namespace isthmus::kernels::cpu;

namespace {

constexpr std::int64_t m = 37, k = 45, n = 100;  // n and k end inside a panel

float value(std::int64_t row, std::int64_t column) { return static_cast<float>(std::sin(static_cast<double>(row * 131 + column * 17))); }

/// Element [row, column] of a at the place where the call reads it.
std::vector<float> left(bool transposed, std::int64_t stride) {
  std::vector<float> a(static_cast<std::size_t>((transposed ? k : m) * stride), NAN);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j) a[static_cast<std::size_t>(transposed ? j * stride + i : i * stride + j)] = value(i, j);
  return a;
}

std::vector<float> right(right_form form, std::int64_t stride) {
  const std::int64_t depth = (k + library_depth_unit - 1) / library_depth_unit * library_depth_unit;
  const std::int64_t panels = (n + library_panel - 1) / library_panel;
  const bool in_panels = form == right_form::panels;
  std::vector<float> b(static_cast<std::size_t>(in_panels ? panels * depth * library_panel : k * stride), in_panels ? 0.0F : NAN);
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      const std::int64_t at = in_panels ? (j / library_panel * depth + i) * library_panel + j % library_panel : i * stride + j;
      b[static_cast<std::size_t>(at)] = value(i + 1000, j);
    }
  return b;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(openblas)

BOOST_AUTO_TEST_CASE(every_form_of_call_is_the_plain_product) {
  const auto library = make_gemm_library(1);
  for (const auto form : {right_form::rows, right_form::panels})
    for (const bool transposed : {false, true})
      for (const bool adds : {false, true}) {
        const gemm_call call{m, n, k, transposed ? m + 3 : k + 3, n + 5, n + 7, transposed, form, false, false, adds};
        const auto* plan = library->prepare(call);
        BOOST_TEST_REQUIRE(plan != nullptr);
        BOOST_TEST(library->prepare(call) == plan);
        const auto a = left(transposed, call.a_stride), b = right(form, call.b_stride);
        std::vector<float> c(static_cast<std::size_t>(m * call.c_stride), 0.5F);
        library->run(*plan, a.data(), b.data(), c.data(), 0);
        double worst = 0;
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) {
            double sum = adds ? 0.5 : 0;
            for (std::int64_t d = 0; d < k; ++d) sum += static_cast<double>(value(i, d)) * static_cast<double>(value(d + 1000, j));
            worst = std::max(worst, std::abs(sum - static_cast<double>(c[static_cast<std::size_t>(i * call.c_stride + j)])));
          }
        BOOST_TEST(worst < 1e-5, "form " << static_cast<int>(form) << " transposed " << transposed << " adds " << adds);
        BOOST_TEST(c[n] == 0.5F);  // between the rows nothing is written
      }
}

BOOST_AUTO_TEST_CASE(bf16_is_left_to_our_own_kernels) {
  const auto library = make_gemm_library(1);
  BOOST_TEST(!library->knows_bf16());
  BOOST_TEST(library->prepare({m, n, k, k, n, n, false, right_form::rows, true, false, false}) == nullptr);
}

BOOST_AUTO_TEST_SUITE_END()
