#include "tests/kernels/central_differences.hpp"

#include <algorithm>
#include <utility>

using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(gradients_of_convolutions_in_double)

BOOST_FIXTURE_TEST_CASE(of_conv1d, reference_in_double) {
  const std::int64_t batch = 2, length = 6, channels = 6, rows = batch * length;
  for (const auto f : {conv_activation::silu, conv_activation::none}) {
    for (const std::int64_t filters : {6, 2}) {
      const std::int64_t width = filters == 6 ? 4 : 9;
      doubles x = draw(rows * channels), weight = draw(filters * width), bias = draw(channels), skip = draw(channels), y = x;
      doubles dy = draw(rows * channels), dx = y, d_weight = zeros(filters * width), d_bias = zeros(channels), d_skip = d_bias;
      const std::int64_t carried = batch * (width - 1) * channels;  // of the wider ones more rows than there are
      doubles initial = draw(carried), final = initial, d_initial = zeros(carried);
      const doubles d_final = draw(carried);
      ops.conv1d_backward(s, {.x = x.data(),
                              .weight = weight.data(),
                              .bias = bias.data(),
                              .skip = skip.data(),
                              .dy = dy.data(),
                              .dx = dx.data(),
                              .d_weight = d_weight.data(),
                              .d_bias = d_bias.data(),
                              .d_skip = d_skip.data(),
                              .initial = initial.data(),
                              .d_final = d_final.data(),
                              .d_initial = d_initial.data(),
                              .batch = batch,
                              .length = length,
                              .channels = channels,
                              .filters = filters,
                              .width = width,
                              .x_stride = channels,
                              .dx_stride = channels,
                              .activation = f});
      const auto loss = [&] {
        ops.conv1d(s, {x.data(), weight.data(), bias.data(), skip.data(), y.data(), initial.data(), final.data(), batch, length, channels,
                       filters, width, channels, f});
        return along(y, dy) + along(final, d_final);
      };
      check("x", x, dx, loss);
      check("weight", weight, d_weight, loss);
      check("bias", bias, d_bias, loss);
      check("skip", skip, d_skip, loss);
      check("initial", initial, d_initial, loss);
    }
  }
}

BOOST_FIXTURE_TEST_CASE(of_long_conv, reference_in_double) {
  const std::int64_t batch = 2, length = 7, channels = 4, filters = 2, taps = 6, rows = batch * length, n = channels, width = 3 * n;
  doubles x = draw(rows * width), h = draw(filters * taps), h_back = draw(filters * taps), d = draw(n), y = zeros(rows * n);
  doubles dy = draw(rows * n), dx = zeros(rows * width), dh = zeros(filters * taps), dh_back = dh, dd = zeros(n);
  const auto plan = ops.make_long_conv_plan(length);
  ops.long_conv_backward(s, {.plan = plan.get(),
                             .v = x.data(),
                             .x1 = x.data() + n,
                             .x2 = x.data() + 2 * n,
                             .h = h.data(),
                             .h_back = h_back.data(),
                             .d = d.data(),
                             .dy = dy.data(),
                             .dv = dx.data(),
                             .dx1 = dx.data() + n,
                             .dx2 = dx.data() + 2 * n,
                             .dh = dh.data(),
                             .dh_back = dh_back.data(),
                             .dd = dd.data(),
                             .batch = batch,
                             .length = length,
                             .channels = n,
                             .filters = filters,
                             .taps = taps,
                             .x_stride = width,
                             .dy_stride = n,
                             .dx_stride = width});
  const auto loss = [&] {
    ops.long_conv(s, {plan.get(), x.data(), x.data() + n, x.data() + 2 * n, h.data(), h_back.data(), d.data(), y.data(), batch, length, n,
                      filters, taps, width, n});
    return along(y, dy);
  };
  check("v, x1, x2", x, dx, loss);
  check("h", h, dh, loss);
  check("h_back", h_back, dh_back, loss);
  check("d", d, dd, loss);
}

BOOST_FIXTURE_TEST_CASE(of_gate_and_block_linear, reference_in_double) {
  const std::int64_t rows = 3, blocks = 2, out = 4, in = 5, cols = blocks * in;
  doubles a = draw(rows * cols), b = draw(rows * cols), x = a, w = draw(blocks * out * in), y = zeros(rows * blocks * out);
  doubles dy = draw(rows * blocks * out), dx = zeros(rows * cols), da = dx, db = dx, dw = zeros(blocks * out * in);
  const auto first = ops.make_matrix(w.data(), out, in), second = ops.make_matrix(w.data() + out * in, out, in);
  matrix<double>* const m[] = {first.get(), second.get()};
  const auto loss = [&] {
    ops.gate(s, {a.data(), b.data(), x.data(), rows, cols, cols, cols, cols});
    ops.block_linear(s, {m, x.data(), y.data(), blocks, rows, cols, blocks * out});
    return along(y, dy);
  };
  loss();
  ops.block_linear_backward_weight(s, {m, x.data(), dy.data(), dw.data(), blocks, rows, cols, blocks * out});
  ops.block_linear_backward_input(s, {m, dy.data(), dx.data(), blocks, rows, blocks * out, cols});
  ops.gate_backward(s, {a.data(), b.data(), dx.data(), da.data(), db.data(), rows, cols, cols, cols, cols, cols, cols});
  check("w", w, dw, loss);
  check("a", a, da, loss);
  check("b", b, db, loss);
}

BOOST_FIXTURE_TEST_CASE(of_modal_filter, reference_in_double) {
  const std::int64_t filters = 2, modes = 3, taps = 12;
  for (const auto form : {modal_form::complex, modal_form::decays}) {
    const std::int64_t count = filters * modes * (form == modal_form::complex ? 2 : 1);
    doubles poles = draw(count, 0.3, form == modal_form::complex ? 0.3 : -0.5), residues = draw(count), h = zeros(filters * taps);
    doubles dh = draw(filters * taps), d_poles = zeros(count), d_residues = d_poles;
    ops.modal_filter_backward(s, {form, poles.data(), residues.data(), dh.data(), d_poles.data(), d_residues.data(), filters, modes, taps});
    const auto loss = [&] {
      ops.modal_filter(s, {form, poles.data(), residues.data(), h.data(), filters, modes, taps});
      return along(h, dh);
    };
    check("poles", poles, d_poles, loss);
    check("residues", residues, d_residues, loss);
  }
}

// The recurrence is the convolution with the filter that its modes make, wherever it is cut.
BOOST_FIXTURE_TEST_CASE(a_modal_scan_is_a_long_conv, reference_in_double) {
  const std::int64_t batch = 2, length = 13, channels = 3, modes = 2, cut = 5, width = 3 * channels;
  for (const auto form : {modal_form::complex, modal_form::decays}) {
    const std::int64_t count = channels * modes * (form == modal_form::complex ? 2 : 1);
    const doubles poles = draw(count, 0.3, form == modal_form::complex ? 0.3 : -0.5), residues = draw(count), d = draw(channels);
    const doubles x = draw(batch * length * width);
    doubles h = zeros(channels * length), convolved = zeros(batch * length * channels), scanned = convolved, state = zeros(count);
    ops.modal_filter(s, {form, poles.data(), residues.data(), h.data(), channels, modes, length});
    const auto plan = ops.make_long_conv_plan(length);
    ops.long_conv(s, {plan.get(), x.data(), x.data() + channels, x.data() + 2 * channels, h.data(), nullptr, d.data(), convolved.data(),
                      batch, length, channels, channels, length, width, channels});
    for (std::int64_t b = 0; b < batch; ++b) {
      std::fill(state.begin(), state.end(), 0.0);
      for (const auto& [begin, rows] : {std::pair{std::int64_t{0}, cut}, {cut, length - cut}}) {
        const double* at = x.data() + (b * length + begin) * width;
        ops.modal_scan(s, {form, poles.data(), residues.data(), d.data(), at, at + channels, at + 2 * channels,
                           scanned.data() + (b * length + begin) * channels, state.data(), state.data(), nullptr, 1, rows, channels, modes,
                           width, channels});
      }
    }
    for (std::size_t i = 0; i < scanned.size(); ++i) BOOST_TEST(std::abs(scanned[i] - convolved[i]) < 1e-12);
  }
}

BOOST_FIXTURE_TEST_CASE(of_modal_scan, reference_in_double) {
  const std::int64_t batch = 2, length = 70, channels = 3, modes = 2, n = channels, width = 3 * n, rows = batch * length;  // two chunks
  for (const auto form : {modal_form::complex, modal_form::decays}) {
    const std::int64_t parts = form == modal_form::complex ? 2 : 1, count = channels * modes * parts, carried = batch * count;
    doubles poles = draw(count, 0.3, form == modal_form::complex ? 0.3 : -0.5), residues = draw(count), d = draw(n), x = draw(rows * width);
    doubles initial = draw(carried), final = initial, y = zeros(rows * n), states = zeros(2 * carried);
    doubles dx = zeros(rows * width), d_poles = zeros(count), d_residues = d_poles, d_d = zeros(n), d_initial = zeros(carried);
    const doubles dy = draw(rows * n), d_final = draw(carried);
    const auto loss = [&] {
      ops.modal_scan(s, {form, poles.data(), residues.data(), d.data(), x.data(), x.data() + n, x.data() + 2 * n, y.data(), initial.data(),
                         final.data(), states.data(), batch, length, n, modes, width, n});
      return along(y, dy) + along(final, d_final);
    };
    loss();
    ops.modal_scan_backward(s, {.form = form,
                                .poles = poles.data(),
                                .residues = residues.data(),
                                .d = d.data(),
                                .v = x.data(),
                                .x1 = x.data() + n,
                                .x2 = x.data() + 2 * n,
                                .dy = dy.data(),
                                .states = states.data(),
                                .dv = dx.data(),
                                .dx1 = dx.data() + n,
                                .dx2 = dx.data() + 2 * n,
                                .d_poles = d_poles.data(),
                                .d_residues = d_residues.data(),
                                .d_d = d_d.data(),
                                .d_final = d_final.data(),
                                .d_initial = d_initial.data(),
                                .batch = batch,
                                .length = length,
                                .channels = n,
                                .modes = modes,
                                .x_stride = width,
                                .dy_stride = n,
                                .dx_stride = width});
    check("v, x1, x2", x, dx, loss);
    check("poles", poles, d_poles, loss);
    check("residues", residues, d_residues, loss);
    check("d", d, d_d, loss);
    check("initial", initial, d_initial, loss);
  }
}

BOOST_AUTO_TEST_SUITE_END()
