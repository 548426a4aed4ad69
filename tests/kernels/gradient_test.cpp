#include "tests/kernels/central_differences.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

// Each backward kernel of the reference, in double, against central differences of its forward kernel. The loss is a dot product of
// the output with random numbers, which are then the gradient of the output.
using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(gradients_in_double)

BOOST_FIXTURE_TEST_CASE(of_linear, reference_in_double) {
  const std::int64_t rows = 5, out = 7, in = 6;
  doubles w = draw(out * in), x = draw(rows * in), y = zeros(rows * out), dy = draw(rows * out);
  doubles dx = zeros(rows * in), dw = zeros(out * in);
  const auto m = ops.make_matrix(w.data(), out, in);
  ops.linear_backward_input(s, {m.get(), dy.data(), dx.data(), rows, out, in});
  ops.linear_backward_weight(s, {m.get(), x.data(), dy.data(), dw.data(), rows, in, out});
  const auto loss = [&] {
    ops.linear(s, {m.get(), x.data(), y.data(), rows, in, out});
    return along(y, dy);
  };
  check("x", x, dx, loss);
  check("w", w, dw, loss);
}

BOOST_FIXTURE_TEST_CASE(of_embedding, reference_in_double) {
  const std::int64_t rows = 9, cols = 4, vocabulary = 5;
  const auto ids = random.ids(rows, vocabulary);
  doubles table = draw(vocabulary * cols), x = zeros(rows * cols), dx = draw(rows * cols), d_table = zeros(vocabulary * cols);
  ops.embedding_backward(s, {dx.data(), ids.data(), d_table.data(), rows, cols, vocabulary});
  check("table", table, d_table, [&] {
    ops.embedding(s, {table.data(), ids.data(), x.data(), rows, cols, vocabulary});
    return along(x, dx);
  });
}

BOOST_FIXTURE_TEST_CASE(of_rotary_positions, reference_in_double) {
  const std::int64_t batch = 2, length = 3, heads = 2, dim = 6, rotary = 4, rows = batch * length, width = heads * dim;
  doubles angles = draw(length * rotary / 2), cosine = angles, sine = angles, x = draw(rows * width), dy = draw(rows * width), dx = dy;
  for (std::size_t i = 0; i < angles.size(); ++i) {
    cosine[i] = std::cos(angles[i]);
    sine[i] = std::sin(angles[i]);
  }
  ops.rope(s, {dx.data(), cosine.data(), sine.data(), batch, length, heads, dim, rotary, width, true});
  check("x", x, dx, [&] {
    doubles y = x;
    ops.rope(s, {y.data(), cosine.data(), sine.data(), batch, length, heads, dim, rotary, width, false});
    return along(y, dy);
  });
}

namespace {

void check_attention(reference_in_double& t, const attention_sight& sight) {
  const std::int64_t batch = 2, length = 7, heads = 4, kv_heads = 2, dim = 5, rows = batch * length;
  const std::int64_t k = heads * dim, v = k + kv_heads * dim, width = v + kv_heads * dim;
  doubles qkv = t.draw(rows * width), o = zeros(rows * k), d_o = t.draw(rows * k), d_qkv = zeros(rows * width);
  doubles lse = zeros(batch * heads * length);
  const auto loss = [&] {
    t.ops.attention(
        t.s, {qkv.data(), qkv.data() + k, qkv.data() + v, o.data(), lse.data(), batch, length, heads, kv_heads, dim, width, 0.4, sight});
    return along(o, d_o);
  };
  loss();
  t.ops.attention_backward(t.s, {qkv.data(), qkv.data() + k, qkv.data() + v, o.data(), d_o.data(), lse.data(), d_qkv.data(),
                                 d_qkv.data() + k, d_qkv.data() + v, batch, length, heads, kv_heads, dim, width, width, 0.4, sight});
  check("q, k, v", qkv, d_qkv, loss);
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(of_attention, reference_in_double) { check_attention(*this, {}); }
BOOST_FIXTURE_TEST_CASE(of_attention_with_a_window, reference_in_double) { check_attention(*this, {.window = 3}); }
BOOST_FIXTURE_TEST_CASE(of_attention_within_documents, reference_in_double) {
  const std::vector<std::int32_t> first{0, 0, 2, 2, 2, 5, 5, 0, 0, 0, 0, 4, 4, 4};
  check_attention(*this, {.first_key = first.data()});
  check_attention(*this, {.window = 2, .first_key = first.data()});
}
BOOST_FIXTURE_TEST_CASE(of_attention_both_ways, reference_in_double) { check_attention(*this, {.causal = false}); }

/// What the words say, told apart from what central differences agree with.
BOOST_FIXTURE_TEST_CASE(attention_sees_what_it_is_told_to, reference_in_double) {
  const std::int64_t length = 6, dim = 2, width = 3 * dim;
  const std::vector<std::int32_t> first{0, 0, 0, 3, 3, 3};
  const auto seen = [&](const attention_sight& sight) {
    doubles qkv = draw(length * width), o = zeros(length * dim), before = o, lse = zeros(length);
    const auto run = [&](doubles& out) {
      ops.attention(s,
                    {qkv.data(), qkv.data() + dim, qkv.data() + 2 * dim, out.data(), lse.data(), 1, length, 1, 1, dim, width, 0.4, sight});
    };
    run(before);
    std::string table;
    for (std::int64_t j = 0; j < length; ++j) {
      auto& value = qkv[static_cast<std::size_t>(j * width + 2 * dim)];
      value += 100;
      run(o);
      value -= 100;
      for (std::int64_t i = 0; i < length; ++i)
        table += o[static_cast<std::size_t>(i * dim)] != before[static_cast<std::size_t>(i * dim)] ? static_cast<char>('0' + i) : '.';
      table += ' ';
    }
    return table;  // a word a key: the queries that see it
  };
  BOOST_TEST(seen({}) == "012345 .12345 ..2345 ...345 ....45 .....5 ");
  BOOST_TEST(seen({.window = 2}) == "01.... .12... ..23.. ...34. ....45 .....5 ");
  BOOST_TEST(seen({.first_key = first.data()}) == "012... .12... ..2... ...345 ....45 .....5 ");
  BOOST_TEST(seen({.window = 2, .first_key = first.data()}) == "01.... .12... ..2... ...34. ....45 .....5 ");
  BOOST_TEST(seen({.causal = false}) == "012345 012345 012345 012345 012345 012345 ");
}

BOOST_FIXTURE_TEST_CASE(of_ssd, reference_in_double) {
  const std::int64_t batch = 2, length = 9, heads = 4, dim = 3, groups = 2, state = 5, chunk = 4, rows = batch * length;
  const std::int64_t inner = heads * dim, wide = groups * state, width = inner + 2 * wide, chunks = 3;
  const std::int64_t carried = batch * inner * state;
  doubles xbc = draw(rows * width), dt = draw(rows * heads), bias = draw(heads), a_log = draw(heads, 0.5), d = draw(heads);
  doubles y = zeros(rows * inner), dy = draw(rows * inner), states = zeros(batch * chunks * inner * state);
  doubles d_xbc = zeros(rows * width), d_dt = zeros(rows * heads), d_bias = zeros(heads), d_a_log = d_bias, d_d = d_bias;
  doubles initial = draw(carried), final = initial, d_initial = zeros(carried);
  const doubles d_final = draw(carried);
  const auto loss = [&] {
    ops.ssd(s, {.x = xbc.data(),
                .b = xbc.data() + inner,
                .c = xbc.data() + inner + wide,
                .dt = dt.data(),
                .dt_bias = bias.data(),
                .a_log = a_log.data(),
                .d = d.data(),
                .y = y.data(),
                .states = states.data(),
                .initial = initial.data(),
                .final = final.data(),
                .batch = batch,
                .length = length,
                .heads = heads,
                .head_dim = dim,
                .groups = groups,
                .state = state,
                .chunk = chunk,
                .xbc_stride = width,
                .dt_stride = heads,
                .dt_min = 0.3,
                .dt_max = 1.5});
    return along(y, dy) + along(final, d_final);
  };
  loss();
  ops.ssd_backward(s, {.x = xbc.data(),
                       .b = xbc.data() + inner,
                       .c = xbc.data() + inner + wide,
                       .dt = dt.data(),
                       .dt_bias = bias.data(),
                       .a_log = a_log.data(),
                       .d = d.data(),
                       .y = y.data(),
                       .dy = dy.data(),
                       .states = states.data(),
                       .dx = d_xbc.data(),
                       .db = d_xbc.data() + inner,
                       .dc = d_xbc.data() + inner + wide,
                       .d_dt = d_dt.data(),
                       .d_dt_bias = d_bias.data(),
                       .d_a_log = d_a_log.data(),
                       .d_d = d_d.data(),
                       .d_final = d_final.data(),
                       .d_initial = d_initial.data(),
                       .batch = batch,
                       .length = length,
                       .heads = heads,
                       .head_dim = dim,
                       .groups = groups,
                       .state = state,
                       .chunk = chunk,
                       .xbc_stride = width,
                       .dt_stride = heads,
                       .d_xbc_stride = width,
                       .d_dt_stride = heads,
                       .dt_min = 0.3,
                       .dt_max = 1.5});
  check("x, b, c", xbc, d_xbc, loss);
  check("dt", dt, d_dt, loss);
  check("dt_bias", bias, d_bias, loss);
  check("a_log", a_log, d_a_log, loss);
  check("d", d, d_d, loss);
  check("initial", initial, d_initial, loss);
}

BOOST_FIXTURE_TEST_CASE(of_selective_scan, reference_in_double) {
  const std::int64_t batch = 2, length = 7, channels = 3, state = 4, chunk = 3, rows = batch * length, chunks = 3;
  const std::int64_t bc = 2 * state, carried = batch * channels * state;
  doubles x = draw(rows * channels), dt = draw(rows * channels), b_c = draw(rows * bc), z = draw(rows * channels), bias = draw(channels);
  doubles a_log = draw(channels * state, 0.5), d = draw(channels), initial = draw(carried), final = initial, y = x;
  doubles states = zeros(batch * chunks * channels * state), dx = zeros(rows * channels), d_dt = dx, dz = dx, d_b_c = zeros(rows * bc);
  doubles d_bias = zeros(channels), d_d = d_bias, d_a_log = zeros(channels * state), d_initial = zeros(carried);
  const doubles dy = draw(rows * channels), d_final = draw(carried);
  for (const bool gated : {false, true}) {
    const auto loss = [&] {
      ops.selective_scan(s, {.x = x.data(),
                             .dt = dt.data(),
                             .b = b_c.data(),
                             .c = b_c.data() + state,
                             .z = gated ? z.data() : nullptr,
                             .dt_bias = bias.data(),
                             .a_log = a_log.data(),
                             .d = d.data(),
                             .y = y.data(),
                             .states = states.data(),
                             .initial = initial.data(),
                             .final = final.data(),
                             .batch = batch,
                             .length = length,
                             .channels = channels,
                             .state = state,
                             .chunk = chunk,
                             .x_stride = channels,
                             .dt_stride = channels,
                             .bc_stride = bc,
                             .z_stride = channels});
      return along(y, dy) + along(final, d_final);
    };
    loss();
    for (doubles* sum : {&d_bias, &d_d, &d_a_log}) std::fill(sum->begin(), sum->end(), 0.0);
    ops.selective_scan_backward(s, {.x = x.data(),
                                    .dt = dt.data(),
                                    .b = b_c.data(),
                                    .c = b_c.data() + state,
                                    .z = gated ? z.data() : nullptr,
                                    .dt_bias = bias.data(),
                                    .a_log = a_log.data(),
                                    .d = d.data(),
                                    .dy = dy.data(),
                                    .states = states.data(),
                                    .dx = dx.data(),
                                    .d_dt = d_dt.data(),
                                    .db = d_b_c.data(),
                                    .dc = d_b_c.data() + state,
                                    .dz = gated ? dz.data() : nullptr,
                                    .d_dt_bias = d_bias.data(),
                                    .d_a_log = d_a_log.data(),
                                    .d_d = d_d.data(),
                                    .d_final = d_final.data(),
                                    .d_initial = d_initial.data(),
                                    .batch = batch,
                                    .length = length,
                                    .channels = channels,
                                    .state = state,
                                    .chunk = chunk,
                                    .x_stride = channels,
                                    .dt_stride = channels,
                                    .bc_stride = bc,
                                    .z_stride = channels,
                                    .dx_stride = channels,
                                    .d_dt_stride = channels,
                                    .d_bc_stride = bc,
                                    .dz_stride = channels});
    check("x", x, dx, loss);
    check("dt", dt, d_dt, loss);
    check("b, c", b_c, d_b_c, loss);
    check("dt_bias", bias, d_bias, loss);
    check("a_log", a_log, d_a_log, loss);
    check("d", d, d_d, loss);
    check("initial", initial, d_initial, loss);
    if (gated) check("z", z, dz, loss);
  }
}

BOOST_FIXTURE_TEST_CASE(of_cross_entropy, reference_in_double) {
  const std::int64_t rows = 4, vocabulary = 11, cols = 5;
  const auto targets = random.ids(rows, vocabulary);
  doubles w = draw(vocabulary * cols), h = draw(rows * cols), losses = zeros(rows);
  doubles dh = zeros(rows * cols), dw = zeros(vocabulary * cols);
  const auto head = ops.make_matrix(w.data(), vocabulary, cols);
  ops.cross_entropy(s, {head.get(), h.data(), targets.data(), losses.data(), dh.data(), dw.data(), rows, 0.25});
  const auto loss = [&] {
    ops.cross_entropy(s, {head.get(), h.data(), targets.data(), losses.data(), nullptr, nullptr, rows, 0});
    return 0.25 * std::accumulate(losses.begin(), losses.end(), 0.0);
  };
  check("h", h, dh, loss);
  check("w", w, dw, loss);
}

BOOST_FIXTURE_TEST_CASE(of_cross_entropy_with_a_bias, reference_in_double) {
  const std::int64_t rows = 4, vocabulary = 11, cols = 5;
  auto targets = random.ids(rows, vocabulary);
  targets[2] = no_target;
  doubles w = draw(vocabulary * cols), h = draw(rows * cols), bias = draw(vocabulary), losses = zeros(rows);
  doubles dh = zeros(rows * cols), dw = zeros(vocabulary * cols), d_bias = zeros(vocabulary);
  const auto head = ops.make_matrix(w.data(), vocabulary, cols);
  ops.cross_entropy(s,
                    {head.get(), h.data(), targets.data(), losses.data(), dh.data(), dw.data(), rows, 0.25, 0, bias.data(), d_bias.data()});
  const auto loss = [&] {
    ops.cross_entropy(s, {head.get(), h.data(), targets.data(), losses.data(), nullptr, nullptr, rows, 0, 0, bias.data()});
    return 0.25 * std::accumulate(losses.begin(), losses.end(), 0.0);
  };
  check("h", h, dh, loss);
  check("w", w, dw, loss);
  check("bias", bias, d_bias, loss);
}

/// The gradient of loss + z logsumexp^2 over the rows that have a target.
BOOST_FIXTURE_TEST_CASE(of_cross_entropy_with_z_loss_and_rows_that_do_not_count, reference_in_double) {
  const std::int64_t rows = 5, vocabulary = 7, cols = 4;
  auto targets = random.ids(rows, vocabulary);
  targets[1] = targets[4] = no_target;
  const double z = 0.3;
  doubles w = draw(vocabulary * cols), h = draw(rows * cols), losses = zeros(rows);
  doubles dh = zeros(rows * cols), dw = zeros(vocabulary * cols);
  const auto head = ops.make_matrix(w.data(), vocabulary, cols);
  ops.cross_entropy(s, {head.get(), h.data(), targets.data(), losses.data(), dh.data(), dw.data(), rows, 0.25, z});
  BOOST_TEST(losses[1] == 0);
  const auto loss = [&] {
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto target = targets[static_cast<std::size_t>(r)];
      if (target == no_target) continue;
      const auto logit = [&](std::int64_t v) {
        return std::inner_product(&h[static_cast<std::size_t>(r * cols)], &h[static_cast<std::size_t>(r * cols)] + cols,
                                  &w[static_cast<std::size_t>(v * cols)], 0.0);
      };
      double total = 0;
      for (std::int64_t v = 0; v < vocabulary; ++v) total += std::exp(logit(v));
      sum += std::log(total) - logit(target) + z * std::log(total) * std::log(total);
    }
    return 0.25 * sum;
  };
  check("h", h, dh, loss);
  check("w", w, dw, loss);
}

BOOST_AUTO_TEST_SUITE_END()
