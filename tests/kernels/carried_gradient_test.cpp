#include "kernels/cpu/backend.hpp"
#include "kernels/reference/backend.hpp"
#include "tests/kernels/cases.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

// The gradient through a sequence is that through its first rows and its last, chained by the state between them.
using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(carried_gradients)

namespace {

constexpr std::int64_t length = 21, cut = 8;

/// Rows [first, first + rows) of the one sequence.
struct piece {
  std::int64_t first, rows;
};

template <class Real>
using reals = std::vector<Real>;

template <class Real>
reals<Real> blank(std::int64_t n) {
  return reals<Real>(static_cast<std::size_t>(n), Real(-77));
}
template <class Real>
reals<Real> zeros(std::int64_t n) {
  return reals<Real>(static_cast<std::size_t>(n));
}

/// What a kernel of fp32 or fp64 numbers gives for one sequence: gradients of rows, of parameters, and of the first state.
template <class Real>
struct gradients {
  reals<Real> of_rows, of_parameters, of_state;
};

template <class Real>
void check_equal(const char* what, const reals<Real>& found, const reals<Real>& expected, Real tolerance) {
  BOOST_TEST_REQUIRE(found.size() == expected.size());
  Real largest = 0, off = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    off = std::max(off, std::abs(found[i] - expected[i]));
  }
  BOOST_TEST(off <= tolerance * largest, what << " are off by " << off << " of " << largest);
}

/// Kernel: forward(piece, initial, final), backward(piece, d_final, d_initial, gradients), state_size, row_size, parameters.
template <class Real, class Kernel>
void check_chained(Kernel& k, Real tolerance) {
  const reals<Real> initial = k.random.template reals<Real>(k.state_size), d_final = k.random.template reals<Real>(k.state_size);
  const auto fresh = [&] {
    return gradients<Real>{blank<Real>(length * k.row_size), zeros<Real>(k.parameters), blank<Real>(k.state_size)};
  };
  gradients<Real> whole = fresh(), chained = fresh();
  reals<Real> between = initial, end = initial;
  k.forward({0, length}, initial, end);
  k.backward({0, length}, initial, d_final, whole);
  const reals<Real> expected_end = end;
  k.forward({0, cut}, initial, between);
  k.forward({cut, length - cut}, between, end);
  check_equal("final states", end, expected_end, tolerance);
  k.backward({cut, length - cut}, between, d_final, chained);
  const reals<Real> d_between = chained.of_state;
  k.forward({0, cut}, initial, between);
  k.backward({0, cut}, initial, d_between, chained);
  check_equal("rows' gradients", chained.of_rows, whole.of_rows, tolerance);
  check_equal("parameters' gradients", chained.of_parameters, whole.of_parameters, tolerance);
  check_equal("the first state's gradients", chained.of_state, whole.of_state, tolerance);
}

template <class Real>
struct ssd_of_one {
  static constexpr std::int64_t heads = 4, dim = 6, groups = 2, state = 5, chunk = 4, inner = heads * dim, bc = groups * state;
  static constexpr std::int64_t width = inner + 2 * bc + heads, state_size = inner * state, row_size = width, parameters = 3 * heads;
  const op_table<Real>& ops;
  stream& s;
  inputs random{3, false};
  reals<Real> rows = random.reals<Real>(length * width), vectors = random.reals<Real>(parameters, 0.5),
              dy = random.reals<Real>(length * inner);
  reals<Real> y = blank<Real>(length * inner), states = blank<Real>((length + chunk) * state_size);

  void forward(piece p, const reals<Real>& initial, reals<Real>& final) {
    const Real* x = rows.data() + p.first * width;
    // clang-format off
    ops.ssd(s, {.x = x, .b = x + inner, .c = x + inner + bc, .dt = x + inner + 2 * bc, .dt_bias = vectors.data(),
                .a_log = vectors.data() + heads, .d = vectors.data() + 2 * heads, .y = y.data() + p.first * inner, .states = states.data(),
                .initial = initial.data(), .final = final.data(), .batch = 1, .length = p.rows, .heads = heads, .head_dim = dim,
                .groups = groups, .state = state, .chunk = chunk, .xbc_stride = width, .dt_stride = width, .dt_min = 0, .dt_max = 100});
    // clang-format on
  }
  void backward(piece p, const reals<Real>&, const reals<Real>& d_final, gradients<Real>& g) {
    const Real* x = rows.data() + p.first * width;
    Real *dx = g.of_rows.data() + p.first * width, *d_vectors = g.of_parameters.data();
    // clang-format off
    ops.ssd_backward(s, {.x = x, .b = x + inner, .c = x + inner + bc, .dt = x + inner + 2 * bc, .dt_bias = vectors.data(),
                         .a_log = vectors.data() + heads, .d = vectors.data() + 2 * heads, .y = y.data() + p.first * inner,
                         .dy = dy.data() + p.first * inner, .states = states.data(), .dx = dx, .db = dx + inner, .dc = dx + inner + bc,
                         .d_dt = dx + inner + 2 * bc, .d_dt_bias = d_vectors, .d_a_log = d_vectors + heads, .d_d = d_vectors + 2 * heads,
                         .d_final = d_final.data(), .d_initial = g.of_state.data(), .batch = 1, .length = p.rows, .heads = heads,
                         .head_dim = dim, .groups = groups, .state = state, .chunk = chunk, .xbc_stride = width, .dt_stride = width,
                         .d_xbc_stride = width, .d_dt_stride = width, .dt_min = 0, .dt_max = 100});
    // clang-format on
  }
};

template <class Real>
struct selective_scan_of_one {
  static constexpr std::int64_t channels = 19, state = 5, chunk = 4, width = 3 * channels + 2 * state, state_size = channels * state;
  static constexpr std::int64_t row_size = width, parameters = channels * (2 + state);
  const op_table<Real>& ops;
  stream& s;
  inputs random{4, false};
  reals<Real> rows = random.reals<Real>(length * width), vectors = random.reals<Real>(parameters, 0.5);
  reals<Real> dy = random.reals<Real>(length * channels), y = blank<Real>(length * channels);
  reals<Real> states = blank<Real>((length + chunk) * state_size);

  void forward(piece p, const reals<Real>& initial, reals<Real>& final) {
    const Real* x = rows.data() + p.first * width;
    // clang-format off
    ops.selective_scan(s, {.x = x, .dt = x + channels, .b = x + 3 * channels, .c = x + 3 * channels + state, .z = x + 2 * channels,
                           .dt_bias = vectors.data(), .a_log = vectors.data() + 2 * channels, .d = vectors.data() + channels,
                           .y = y.data() + p.first * channels, .states = states.data(), .initial = initial.data(), .final = final.data(),
                           .batch = 1, .length = p.rows, .channels = channels, .state = state, .chunk = chunk, .x_stride = width,
                           .dt_stride = width, .bc_stride = width, .z_stride = width});
    // clang-format on
  }
  void backward(piece p, const reals<Real>&, const reals<Real>& d_final, gradients<Real>& g) {
    const Real* x = rows.data() + p.first * width;
    Real *dx = g.of_rows.data() + p.first * width, *d_vectors = g.of_parameters.data();
    // clang-format off
    ops.selective_scan_backward(
        s, {.x = x, .dt = x + channels, .b = x + 3 * channels, .c = x + 3 * channels + state, .z = x + 2 * channels,
            .dt_bias = vectors.data(), .a_log = vectors.data() + 2 * channels, .d = vectors.data() + channels,
            .dy = dy.data() + p.first * channels, .states = states.data(), .dx = dx, .d_dt = dx + channels, .db = dx + 3 * channels,
            .dc = dx + 3 * channels + state, .dz = dx + 2 * channels, .d_dt_bias = d_vectors, .d_a_log = d_vectors + 2 * channels,
            .d_d = d_vectors + channels, .d_final = d_final.data(), .d_initial = g.of_state.data(), .batch = 1, .length = p.rows,
            .channels = channels, .state = state, .chunk = chunk, .x_stride = width, .dt_stride = width, .bc_stride = width,
            .z_stride = width, .dx_stride = width, .d_dt_stride = width, .d_bc_stride = width, .dz_stride = width});
    // clang-format on
  }
};

template <class Real>
struct modal_scan_of_one {
  const op_table<Real>& ops;
  stream& s;
  modal_form form;
  static constexpr std::int64_t channels = 19, modes = 3, width = 3 * channels, row_size = width;
  std::int64_t parts = form == modal_form::complex ? 2 : 1, state_size = channels * modes * parts, parameters = 2 * state_size + channels;
  inputs random{6, false};
  reals<Real> rows = random.reals<Real>(length * width), poles = random.reals<Real>(state_size, 0.2, parts == 2 ? 0.3 : -0.8);
  reals<Real> others = random.reals<Real>(state_size + channels), dy = random.reals<Real>(length * channels);
  reals<Real> y = blank<Real>(length * channels), states = blank<Real>(state_size);

  void forward(piece p, const reals<Real>& initial, reals<Real>& final) {
    const Real* x = rows.data() + p.first * width;
    // clang-format off
    ops.modal_scan(s, {.form = form, .poles = poles.data(), .residues = others.data(), .d = others.data() + state_size, .v = x,
                       .x1 = x + channels, .x2 = x + 2 * channels, .y = y.data() + p.first * channels, .initial = initial.data(),
                       .final = final.data(), .states = states.data(), .batch = 1, .length = p.rows, .channels = channels, .modes = modes,
                       .x_stride = width, .y_stride = channels});
    // clang-format on
  }
  void backward(piece p, const reals<Real>&, const reals<Real>& d_final, gradients<Real>& g) {
    const Real* x = rows.data() + p.first * width;
    Real *dx = g.of_rows.data() + p.first * width, *d_all = g.of_parameters.data();
    // clang-format off
    ops.modal_scan_backward(s, {.form = form, .poles = poles.data(), .residues = others.data(), .d = others.data() + state_size, .v = x,
                                .x1 = x + channels, .x2 = x + 2 * channels, .dy = dy.data() + p.first * channels,
                                .states = states.data(), .dv = dx, .dx1 = dx + channels, .dx2 = dx + 2 * channels, .d_poles = d_all,
                                .d_residues = d_all + state_size, .d_d = d_all + 2 * state_size, .d_final = d_final.data(),
                                .d_initial = g.of_state.data(), .batch = 1, .length = p.rows, .channels = channels, .modes = modes,
                                .x_stride = width, .dy_stride = channels, .dx_stride = width});
    // clang-format on
  }
};

/// Of few taps, and of more taps than a piece has rows.
template <class Real>
struct conv1d_of_one {
  const op_table<Real>& ops;
  stream& s;
  std::int64_t width;
  static constexpr std::int64_t channels = 20, filters = 10, row_size = channels;
  std::int64_t state_size = (width - 1) * channels, parameters = filters * width + channels;
  inputs random{5, false};
  reals<Real> rows = random.reals<Real>(length * channels), vectors = random.reals<Real>(parameters, 0.5);
  reals<Real> dy = random.reals<Real>(length * channels), y = blank<Real>(length * channels);

  void forward(piece p, const reals<Real>& initial, reals<Real>& final) {
    // clang-format off
    ops.conv1d(s, {.x = rows.data() + p.first * channels, .weight = vectors.data(), .bias = vectors.data() + filters * width,
                   .skip = nullptr, .y = y.data() + p.first * channels, .initial = initial.data(), .final = final.data(), .batch = 1,
                   .length = p.rows, .channels = channels, .filters = filters, .width = width, .x_stride = channels,
                   .activation = conv_activation::silu});
    // clang-format on
  }
  void backward(piece p, const reals<Real>& initial, const reals<Real>& d_final, gradients<Real>& g) {
    // clang-format off
    ops.conv1d_backward(s, {.x = rows.data() + p.first * channels, .weight = vectors.data(), .bias = vectors.data() + filters * width,
                            .skip = nullptr, .dy = dy.data() + p.first * channels, .dx = g.of_rows.data() + p.first * channels,
                            .d_weight = g.of_parameters.data(), .d_bias = g.of_parameters.data() + filters * width, .d_skip = nullptr,
                            .initial = initial.data(), .d_final = d_final.data(), .d_initial = g.of_state.data(), .batch = 1,
                            .length = p.rows, .channels = channels, .filters = filters, .width = width, .x_stride = channels,
                            .dx_stride = channels, .activation = conv_activation::silu});
    // clang-format on
  }
};

template <class Real>
void check_all(const op_table<Real>& ops, stream& s, Real tolerance) {
  ssd_of_one<Real> ssd{.ops = ops, .s = s};
  check_chained(ssd, tolerance);
  selective_scan_of_one<Real> scan{.ops = ops, .s = s};
  check_chained(scan, tolerance);
  for (const auto form : {modal_form::complex, modal_form::decays}) {
    modal_scan_of_one<Real> modal{.ops = ops, .s = s, .form = form};
    check_chained(modal, tolerance);
  }
  for (const std::int64_t width : {4, 7, 13, 40}) {
    conv1d_of_one<Real> conv{.ops = ops, .s = s, .width = width};
    check_chained(conv, tolerance);
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(of_the_reference_in_double) {
  serial_team team;
  stream s(team);
  check_all<double>(reference_double_ops(), s, 1e-12);
}
BOOST_AUTO_TEST_CASE(of_every_backend_on_the_host) {
  serial_team team;
  auto all = cpu_backends();
  all.push_back(&reference_backend());
  for (const auto* b : all) {
    BOOST_TEST_CONTEXT(b->name) {
      const auto s = b->make_stream(team);
      check_all<float>(b->f32, *s, 2e-5F);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
