#include "tests/kernels/central_differences.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

// Each backward kernel of the reference, in double, against central differences of its forward kernel. The loss is a dot product of
// the output with random numbers, which are then the gradient of the output.
using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(row_gradients)

BOOST_FIXTURE_TEST_CASE(of_rms_norm_with_residual, reference_in_double) {
  const std::int64_t rows = 4, cols = 9;
  doubles residual = draw(rows * cols), branch = draw(rows * cols), gain = draw(cols), x = zeros(rows * cols), y = x;
  const doubles dy = draw(rows * cols);
  const doubles past = draw(rows * cols);
  doubles dx = past, d_gain = zeros(cols), rstd = zeros(rows);
  const auto loss = [&] {
    ops.rms_norm(s, {residual.data(), branch.data(), gain.data(), x.data(), y.data(), rstd.data(), rows, cols, 1e-5});
    return along(y, dy) + along(x, past);
  };
  loss();
  ops.rms_norm_backward(s, {dy.data(), x.data(), gain.data(), rstd.data(), dx.data(), dx.data(), nullptr, d_gain.data(), rows, cols});
  check("residual", residual, dx, loss);
  check("branch", branch, dx, loss);
  check("gain", gain, d_gain, loss);
}

BOOST_FIXTURE_TEST_CASE(of_layer_norm_with_residual, reference_in_double) {
  const std::int64_t rows = 4, cols = 9;
  doubles residual = draw(rows * cols), branch = draw(rows * cols), gain = draw(cols), bias = draw(cols), x = zeros(rows * cols), y = x;
  const doubles dy = draw(rows * cols), past = draw(rows * cols);
  doubles dx = past, d_gain = zeros(cols), d_bias = zeros(cols), mean = zeros(rows), rstd = zeros(rows);
  const auto loss = [&] {
    ops.layer_norm(
        s, {residual.data(), branch.data(), gain.data(), bias.data(), x.data(), y.data(), mean.data(), rstd.data(), rows, cols, 1e-5});
    return along(y, dy) + along(x, past);
  };
  loss();
  ops.layer_norm_backward(s, {dy.data(), x.data(), gain.data(), mean.data(), rstd.data(), dx.data(), dx.data(), nullptr, d_gain.data(),
                              d_bias.data(), rows, cols});
  check("residual", residual, dx, loss);
  check("branch", branch, dx, loss);
  check("gain", gain, d_gain, loss);
  check("bias", bias, d_bias, loss);
}

BOOST_FIXTURE_TEST_CASE(of_gated_norm, reference_in_double) {
  const std::int64_t rows = 4, cols = 12, groups = 3;
  doubles y = draw(rows * cols), z = draw(rows * cols), gain = draw(cols), out = y, rstd = zeros(rows * groups), d_out = draw(rows * cols);
  doubles dy = zeros(rows * cols), dz = dy, d_gain = zeros(cols);
  const auto loss = [&] {
    ops.gated_norm(s, {y.data(), z.data(), gain.data(), out.data(), rstd.data(), rows, cols, groups, cols, 1e-5});
    return along(out, d_out);
  };
  loss();
  ops.gated_norm_backward(
      s, {d_out.data(), y.data(), z.data(), gain.data(), rstd.data(), dy.data(), dz.data(), d_gain.data(), rows, cols, groups, cols, cols});
  check("y", y, dy, loss);
  check("z", z, dz, loss);
  check("gain", gain, d_gain, loss);
}

BOOST_FIXTURE_TEST_CASE(of_column_norm, reference_in_double) {
  const std::int64_t rows = 4, cols = 7, stride = 10;
  doubles x = draw(rows * stride), gain = draw(cols), y = zeros(rows * stride), dy = draw(rows * stride), dx = y, d_gain = zeros(cols);
  ops.column_norm_backward(s, {dy.data(), x.data(), gain.data(), dx.data(), d_gain.data(), rows, cols, stride, stride, stride, 1e-5});
  const auto loss = [&] {
    ops.column_norm(s, {x.data(), gain.data(), y.data(), rows, cols, stride, stride, 1e-5});
    return along(y, dy);
  };
  check("x", x, dx, loss);
  check("gain", gain, d_gain, loss);
}

BOOST_FIXTURE_TEST_CASE(of_activations, reference_in_double) {
  using enum activation_kind;
  const std::int64_t rows = 3, hidden = 8;
  for (const auto kind : {silu, gelu, gelu_tanh, relu2}) {
    for (const bool gated : {false, true}) {
      const std::int64_t width = gated ? 2 * hidden : hidden;
      doubles x = draw(rows * width, 2), y = zeros(rows * hidden), dy = draw(rows * hidden), dx = zeros(rows * width);
      ops.activation_backward(s, {x.data(), dy.data(), dx.data(), nullptr, rows, hidden, kind, gated});
      check("x", x, dx, [&] {
        ops.activation(s, {x.data(), y.data(), rows, hidden, kind, gated});
        return along(y, dy);
      });
    }
  }
}

/// torch.nn.functional of PyTorch 2.15, float64.
BOOST_FIXTURE_TEST_CASE(activations_are_those_of_pytorch, reference_in_double) {
  using enum activation_kind;
  doubles x{-3, -0.75, 0.5, 2}, y = zeros(4);
  const std::pair<activation_kind, doubles> cases[] = {{silu, {-0.1422776195, -0.2406159756, 0.3112296656, 1.761594156}},
                                                       {gelu, {-0.004049694095, -0.1699705143, 0.3457312306, 1.954499736}},
                                                       {gelu_tanh, {-0.003637392082, -0.1700394448, 0.3457140098, 1.954597694}},
                                                       {relu2, {0, 0, 0.25, 4}}};
  for (const auto& [kind, expected] : cases) {
    ops.activation(s, {x.data(), y.data(), 1, 4, kind, false});
    for (std::size_t i = 0; i < 4; ++i) BOOST_TEST(y[i] == expected[i], boost::test_tools::tolerance(1e-7));
  }
}

BOOST_AUTO_TEST_SUITE_END()
