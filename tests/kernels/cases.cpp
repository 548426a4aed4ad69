#include "tests/kernels/cases.hpp"

#include "kernels/reference/backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace isthmus::kernels::testing {

std::uint64_t inputs::bits() {  // splitmix64
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

double inputs::next() {  // the sum of four uniform numbers, of variance 1
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
  return sum * std::sqrt(3.0);
}

namespace {

template <class F>
kernel_case make(std::string name, F f) {
  return {std::move(name), [f](const op_table<float>& ops, stream& s, inputs& in) { return f.template operator()<float>(ops, s, in); },
          [f](const op_table<bf16>& ops, stream& s, inputs& in) { return f.template operator()<bf16>(ops, s, in); },
          [f](const op_table<double>& ops, stream& s, inputs& in) { return f.template operator()<double>(ops, s, in); }};
}

template <class T>
std::vector<T> blank(std::int64_t count) {  // overwritten or an error: not zero
  return std::vector<T>(static_cast<std::size_t>(count), static_cast<T>(static_cast<real<T>>(-77)));
}

kernel_case linear_case(std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t pad) {
  return make("linear " + std::to_string(rows) + "x" + std::to_string(out) + "x" + std::to_string(in) + " pad " + std::to_string(pad),
              [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
                const auto weights = random.act<Act>(out * in);
                const std::vector<real<Act>> master(weights.size());
                auto w = master;
                for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<real<Act>>(weights[i]);
                const auto x = random.act<Act>(rows * (in + pad)), dy = random.act<Act>(rows * (out + pad));
                auto y = blank<Act>(rows * (out + pad)), dx = blank<Act>(rows * (in + pad));
                auto dw = random.reals<Act>(out * in);
                const auto m = ops.make_matrix(w.data(), out, in);
                // The second round sees weights that have changed.
                for (int round = 0; round < 2; ++round) {
                  ops.linear(s, {m.get(), x.data(), y.data(), rows, in + pad, out + pad});
                  ops.linear_backward_input(s, {m.get(), dy.data(), dx.data(), rows, out + pad, in + pad});
                  ops.linear_backward_weight(s, {m.get(), x.data(), dy.data(), dw.data(), rows, in + pad, out + pad});
                  if (round == 0)
                    for (auto& v : w) v *= 2;
                  m->weights_changed();
                }
                outputs o;
                o.add("y", y);
                o.add("dx", dx);
                o.add("dw", dw);
                return o;
              });
}

kernel_case embedding_case(std::int64_t rows, std::int64_t cols, std::int64_t vocabulary) {
  return make("embedding", [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    using R = real<Act>;
    const auto table = random.reals<Act>(vocabulary * cols), dx = random.reals<Act>(rows * cols);
    const auto ids = random.ids(rows, vocabulary);
    auto x = blank<R>(rows * cols);
    auto d_table = random.reals<Act>(vocabulary * cols);
    ops.embedding(s, {table.data(), ids.data(), x.data(), rows, cols, vocabulary});
    ops.embedding_backward(s, {dx.data(), ids.data(), d_table.data(), rows, cols, vocabulary});
    outputs o;
    o.add("x", x);
    o.add("d_table", d_table);
    return o;
  });
}

kernel_case rms_norm_case(std::int64_t rows, std::int64_t cols, bool fused) {
  return make(fused ? "rms_norm with residual" : "rms_norm", [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    using R = real<Act>;
    auto x = random.reals<Act>(rows * cols);
    const auto branch = random.act<Act>(rows * cols), dy = random.act<Act>(rows * cols);
    const auto gain = random.reals<Act>(cols, 0.3, 1);
    auto y = blank<Act>(rows * cols), d_branch = blank<Act>(rows * cols);
    auto rstd = blank<R>(rows), dx = random.reals<Act>(rows * cols), d_gain = random.reals<Act>(cols);
    ops.rms_norm(s, {.residual = x.data(),
                     .branch = fused ? branch.data() : nullptr,
                     .gain = gain.data(),
                     .x = x.data(),
                     .y = y.data(),
                     .rstd = rstd.data(),
                     .rows = rows,
                     .cols = cols,
                     .eps = R(1e-5F)});
    ops.rms_norm_backward(s, {.dy = dy.data(),
                              .x = x.data(),
                              .gain = gain.data(),
                              .rstd = rstd.data(),
                              .d_residual = fused ? dx.data() : nullptr,
                              .dx = dx.data(),
                              .d_branch = fused ? d_branch.data() : nullptr,
                              .d_gain = d_gain.data(),
                              .rows = rows,
                              .cols = cols});
    outputs o;
    o.add("x", x);
    o.add("y", y);
    o.add("rstd", rstd);
    o.add("dx", dx);
    o.add("d_branch", d_branch);
    o.add("d_gain", d_gain);
    return o;
  });
}

kernel_case gated_norm_case(std::int64_t rows, std::int64_t cols, std::int64_t groups, std::int64_t stride) {
  return make("gated_norm, groups " + std::to_string(groups), [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    using R = real<Act>;
    const auto y = random.act<Act>(rows * cols), z = random.act<Act>(rows * stride);
    auto d_out = random.act<Act>(rows * cols);
    const auto gain = random.reals<Act>(cols, 0.3, 1);
    auto out = blank<Act>(rows * cols), dz = blank<Act>(rows * stride);
    auto rstd = blank<R>(rows * groups), d_gain = random.reals<Act>(cols);
    ops.gated_norm(s, {.y = y.data(),
                       .z = z.data(),
                       .gain = gain.data(),
                       .out = out.data(),
                       .rstd = rstd.data(),
                       .rows = rows,
                       .cols = cols,
                       .groups = groups,
                       .z_stride = stride,
                       .eps = R(1e-5F)});
    ops.gated_norm_backward(s, {.d_out = d_out.data(),
                                .y = y.data(),
                                .z = z.data(),
                                .gain = gain.data(),
                                .rstd = rstd.data(),
                                .dy = d_out.data(),
                                .dz = dz.data(),
                                .d_gain = d_gain.data(),
                                .rows = rows,
                                .cols = cols,
                                .groups = groups,
                                .z_stride = stride,
                                .dz_stride = stride});
    outputs o;
    o.add("out", out);
    o.add("rstd", rstd);
    o.add("dy", d_out);
    o.add("dz", dz);
    o.add("d_gain", d_gain);
    return o;
  });
}

kernel_case swiglu_case(std::int64_t rows, std::int64_t hidden) {
  return make("swiglu", [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    auto x = random.act<Act>(rows * 2 * hidden, 2), dy = random.act<Act>(rows * hidden);
    auto y = blank<Act>(rows * hidden), dx = blank<Act>(rows * 2 * hidden);
    ops.swiglu(s, {x.data(), y.data(), rows, hidden});
    ops.swiglu_backward(s, {x.data(), dy.data(), dx.data(), nullptr, rows, hidden});
    ops.swiglu_backward(s, {x.data(), dy.data(), x.data(), dy.data(), rows, hidden});  // in place, as the model has it
    outputs o;
    o.add("y", y);
    o.add("dx", dx);
    o.add("dx in place", x);
    o.add("y again", dy);
    return o;
  });
}

struct attention_shape {
  std::int64_t batch, length, heads, kv_heads, head_dim;
  std::string name() const {
    return "attention " + std::to_string(batch) + "x" + std::to_string(length) + " heads " + std::to_string(heads) + "/" +
           std::to_string(kv_heads) + " of " + std::to_string(head_dim);
  }
};

kernel_case attention_case(attention_shape a) {
  return make(a.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, dim = a.head_dim, width = (a.heads + 2 * a.kv_heads) * dim;
    const std::int64_t k = a.heads * dim, v = k + a.kv_heads * dim;
    const auto qkv = random.act<Act>(rows * width), d_o = random.act<Act>(rows * k);
    auto o = blank<Act>(rows * k), d_qkv = blank<Act>(rows * width);
    auto lse = blank<R>(a.batch * a.heads * a.length);
    const R scale = static_cast<R>(1 / std::sqrt(static_cast<float>(dim)));
    ops.attention(s, {.q = qkv.data(),
                      .k = qkv.data() + k,
                      .v = qkv.data() + v,
                      .o = o.data(),
                      .lse = lse.data(),
                      .batch = a.batch,
                      .length = a.length,
                      .heads = a.heads,
                      .kv_heads = a.kv_heads,
                      .head_dim = dim,
                      .qkv_stride = width,
                      .scale = scale});
    ops.attention_backward(s, {.q = qkv.data(),
                               .k = qkv.data() + k,
                               .v = qkv.data() + v,
                               .o = o.data(),
                               .d_o = d_o.data(),
                               .lse = lse.data(),
                               .dq = d_qkv.data(),
                               .dk = d_qkv.data() + k,
                               .dv = d_qkv.data() + v,
                               .batch = a.batch,
                               .length = a.length,
                               .heads = a.heads,
                               .kv_heads = a.kv_heads,
                               .head_dim = dim,
                               .qkv_stride = width,
                               .d_qkv_stride = width,
                               .scale = scale});
    outputs out;
    out.add("o", o);
    out.add("lse", lse);
    out.add("d_qkv", d_qkv);
    return out;
  });
}

kernel_case attention_cached_case(attention_shape a, std::int64_t past) {
  return make("cached after " + std::to_string(past) + ", " + a.name(),
              [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
                const std::int64_t dim = a.head_dim, stride = (a.heads + 2 * a.kv_heads) * dim;
                const auto q = random.act<Act>(a.length * stride);
                const auto keys = random.act<Act>((past + a.length) * a.kv_heads * dim);
                const auto values = random.act<Act>((past + a.length) * a.kv_heads * dim);
                auto o = blank<Act>(a.length * a.heads * dim);
                ops.attention_cached(s, {.q = q.data(),
                                         .keys = keys.data(),
                                         .values = values.data(),
                                         .o = o.data(),
                                         .tokens = a.length,
                                         .past = past,
                                         .heads = a.heads,
                                         .kv_heads = a.kv_heads,
                                         .head_dim = dim,
                                         .q_stride = stride,
                                         .scale = real<Act>(0.25F)});
                outputs out;
                out.add("o", o);
                return out;
              });
}

kernel_case rope_case(attention_shape a, bool inverse) {
  return make("rope", [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    const std::int64_t stride = (a.heads + 3) * a.head_dim, half = a.head_dim / 2;
    auto x = random.act<Act>(a.batch * a.length * stride);
    const auto angles = random.reals<Act>(a.length * half);
    auto cosine = angles, sine = angles;
    for (std::size_t i = 0; i < angles.size(); ++i) {
      cosine[i] = static_cast<float>(std::cos(static_cast<double>(angles[i])));
      sine[i] = static_cast<float>(std::sin(static_cast<double>(angles[i])));
    }
    ops.rope(s, {.x = x.data(),
                 .cosine = cosine.data(),
                 .sine = sine.data(),
                 .batch = a.batch,
                 .length = a.length,
                 .heads = a.heads,
                 .head_dim = a.head_dim,
                 .x_stride = stride,
                 .inverse = inverse});
    outputs o;
    o.add("x", x);
    return o;
  });
}

kernel_case conv1d_case(std::int64_t batch, std::int64_t length, std::int64_t channels, std::int64_t width, std::int64_t pad,
                        bool carried) {
  return make(carried ? "conv1d from a state" : "conv1d", [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    const std::int64_t rows = batch * length, stride = channels + pad;
    const auto x = random.act<Act>(rows * stride), dy = random.act<Act>(rows * channels);
    const auto weight = random.reals<Act>(channels * width, 0.5), bias = random.reals<Act>(channels, 0.5);
    auto state = random.act<Act>(batch * (width - 1) * channels);
    auto y = blank<Act>(rows * channels), dx = blank<Act>(rows * stride), step_y = blank<Act>(channels);
    auto d_weight = random.reals<Act>(channels * width), d_bias = random.reals<Act>(channels);
    ops.conv1d(s, {.x = x.data(),
                   .weight = weight.data(),
                   .bias = bias.data(),
                   .y = y.data(),
                   .initial = carried ? state.data() : nullptr,
                   .final = state.data(),
                   .batch = batch,
                   .length = length,
                   .channels = channels,
                   .width = width,
                   .x_stride = stride});
    ops.conv1d_backward(s, {.x = x.data(),
                            .weight = weight.data(),
                            .bias = bias.data(),
                            .dy = dy.data(),
                            .dx = dx.data(),
                            .d_weight = d_weight.data(),
                            .d_bias = d_bias.data(),
                            .batch = batch,
                            .length = length,
                            .channels = channels,
                            .width = width,
                            .x_stride = stride,
                            .dx_stride = stride});
    ops.conv1d_step(s, {.x = x.data(),
                        .weight = weight.data(),
                        .bias = bias.data(),
                        .state = state.data(),
                        .y = step_y.data(),
                        .channels = channels,
                        .width = width});
    outputs o;
    o.add("y", y);
    o.add("state", state);
    o.add("dx", dx);
    o.add("d_weight", d_weight);
    o.add("d_bias", d_bias);
    o.add("step y", step_y);
    return o;
  });
}

struct ssd_shape {
  std::int64_t batch, length, heads, head_dim, groups, state, chunk;
};

kernel_case ssd_case(ssd_shape a) {
  const std::string name = "ssd " + std::to_string(a.batch) + "x" + std::to_string(a.length) + " heads " + std::to_string(a.heads) + "/" +
                           std::to_string(a.groups) + " of " + std::to_string(a.head_dim) + " state " + std::to_string(a.state) +
                           " chunk " + std::to_string(a.chunk);
  return make(name, [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, inner = a.heads * a.head_dim, wide = a.groups * a.state;
    const std::int64_t stride = inner + 2 * wide, dt_stride = a.heads + 3, chunks = (a.length + a.chunk - 1) / a.chunk;
    const auto xbc = random.act<Act>(rows * stride), dt = random.act<Act>(rows * dt_stride), dy = random.act<Act>(rows * inner);
    const auto dt_bias = random.reals<Act>(a.heads, 1, -3), a_log = random.reals<Act>(a.heads, 0.7, 1), d = random.reals<Act>(a.heads);
    auto y = blank<Act>(rows * inner), d_xbc = blank<Act>(rows * stride), d_dt = blank<Act>(rows * dt_stride);
    auto states = blank<R>(a.batch * chunks * inner * a.state);
    auto d_dt_bias = random.reals<Act>(a.heads), d_a_log = random.reals<Act>(a.heads), d_d = random.reals<Act>(a.heads);
    ssd_args<Act> f{.x = xbc.data(),
                    .b = xbc.data() + inner,
                    .c = xbc.data() + inner + wide,
                    .dt = dt.data(),
                    .dt_bias = dt_bias.data(),
                    .a_log = a_log.data(),
                    .d = d.data(),
                    .y = y.data(),
                    .states = states.data(),
                    .initial = nullptr,
                    .final = nullptr,
                    .batch = a.batch,
                    .length = a.length,
                    .heads = a.heads,
                    .head_dim = a.head_dim,
                    .groups = a.groups,
                    .state = a.state,
                    .chunk = a.chunk,
                    .xbc_stride = stride,
                    .dt_stride = dt_stride,
                    .dt_min = R(0.02F),
                    .dt_max = R(0.5F)};  // both bounds bite
    ops.ssd(s, f);
    ops.ssd_backward(s, {.x = f.x,
                         .b = f.b,
                         .c = f.c,
                         .dt = f.dt,
                         .dt_bias = f.dt_bias,
                         .a_log = f.a_log,
                         .d = f.d,
                         .y = y.data(),
                         .dy = dy.data(),
                         .states = states.data(),
                         .dx = d_xbc.data(),
                         .db = d_xbc.data() + inner,
                         .dc = d_xbc.data() + inner + wide,
                         .d_dt = d_dt.data(),
                         .d_dt_bias = d_dt_bias.data(),
                         .d_a_log = d_a_log.data(),
                         .d_d = d_d.data(),
                         .batch = a.batch,
                         .length = a.length,
                         .heads = a.heads,
                         .head_dim = a.head_dim,
                         .groups = a.groups,
                         .state = a.state,
                         .chunk = a.chunk,
                         .xbc_stride = stride,
                         .dt_stride = dt_stride,
                         .d_xbc_stride = stride,
                         .d_dt_stride = dt_stride,
                         .dt_min = f.dt_min,
                         .dt_max = f.dt_max});
    auto carried = random.reals<Act>(a.batch * inner * a.state), final = carried;
    auto carried_y = blank<Act>(rows * inner), step_y = blank<Act>(inner);
    f.y = carried_y.data();
    f.states = nullptr;
    f.initial = f.final = final.data();
    ops.ssd(s, f);
    auto one = std::vector<R>(final.begin(), final.begin() + inner * a.state);
    ops.ssd_step(s, {.x = f.x,
                     .b = f.b,
                     .c = f.c,
                     .dt = f.dt,
                     .dt_bias = f.dt_bias,
                     .a_log = f.a_log,
                     .d = f.d,
                     .s = one.data(),
                     .y = step_y.data(),
                     .heads = a.heads,
                     .head_dim = a.head_dim,
                     .groups = a.groups,
                     .state = a.state,
                     .dt_min = f.dt_min,
                     .dt_max = f.dt_max});
    outputs o;
    o.add("y", y);
    o.add("states", states);
    o.add("d_xbc", d_xbc);
    o.add("d_dt", d_dt);
    o.add("d_dt_bias", d_dt_bias);
    o.add("d_a_log", d_a_log);
    o.add("d_d", d_d);
    o.add("y from a state", carried_y);
    o.add("final state", final);
    o.add("step y", step_y);
    o.add("step state", one);
    return o;
  });
}

kernel_case cross_entropy_case(std::int64_t rows, std::int64_t vocabulary, std::int64_t cols) {
  return make("cross_entropy " + std::to_string(rows) + "x" + std::to_string(vocabulary) + "x" + std::to_string(cols),
              [=]<class Act>(const op_table<Act>& ops, stream& s, inputs& random) {
                const auto weights = random.act<Act>(vocabulary * cols, 0.3), h = random.act<Act>(rows * cols);
                std::vector<real<Act>> w;
                for (const Act v : weights) w.push_back(static_cast<real<Act>>(v));
                const auto targets = random.ids(rows, vocabulary);
                auto losses = blank<real<Act>>(rows), only_losses = losses, dw = random.reals<Act>(vocabulary * cols);
                auto dh = blank<Act>(rows * cols);
                const auto head = ops.make_matrix(w.data(), vocabulary, cols);
                ops.cross_entropy(s, {head.get(), h.data(), targets.data(), only_losses.data(), nullptr, nullptr, rows, 1});
                ops.cross_entropy(s, {head.get(), h.data(), targets.data(), losses.data(), dh.data(), dw.data(), rows, real<Act>(0.25F)});
                outputs o;
                o.add("losses, forward only", only_losses);
                o.add("losses", losses);
                o.add("dh", dh);
                o.add("dw", dw);
                return o;
              });
}

}  // namespace

std::vector<kernel_case> kernel_cases() {
  return {linear_case(1, 48, 32, 0),
          linear_case(7, 5, 3, 0),
          linear_case(65, 80, 96, 0),
          linear_case(130, 70, 64, 5),
          linear_case(256, 256, 128, 0),
          linear_case(0, 16, 16, 0),
          embedding_case(33, 48, 11),
          rms_norm_case(5, 64, false),
          rms_norm_case(37, 80, true),
          rms_norm_case(130, 19, true),
          gated_norm_case(9, 64, 1, 64),
          gated_norm_case(70, 96, 2, 100),
          swiglu_case(13, 24),
          swiglu_case(70, 37),
          attention_case({1, 1, 1, 1, 16}),
          attention_case({2, 33, 4, 2, 16}),
          attention_case({1, 150, 2, 1, 64}),
          attention_case({2, 128, 3, 3, 64}),
          attention_case({1, 70, 4, 1, 6}),
          attention_cached_case({1, 1, 4, 2, 16}, 0),
          attention_cached_case({1, 1, 4, 2, 64}, 131),
          attention_cached_case({1, 5, 2, 2, 32}, 60),
          rope_case({2, 9, 3, 1, 16}, false),
          rope_case({1, 5, 2, 1, 6}, true),
          conv1d_case(2, 3, 20, 4, 7, false),
          conv1d_case(2, 70, 48, 4, 0, true),
          conv1d_case(1, 2, 16, 4, 3, true),
          conv1d_case(1, 9, 17, 2, 0, false),
          ssd_case({2, 11, 4, 8, 2, 5, 4}),
          ssd_case({1, 64, 2, 16, 1, 16, 64}),
          ssd_case({2, 150, 2, 64, 1, 64, 64}),
          ssd_case({1, 3, 1, 4, 1, 4, 16}),
          cross_entropy_case(3, 37, 16),
          cross_entropy_case(140, 300, 64)};
}

template <class Act>
std::pair<double, std::string> distance_from_reference(const kernel_case& c, const op_table<Act>& ops, stream& s, std::uint64_t seed) {
  constexpr bool narrow = std::is_same_v<Act, bf16>;
  inputs ours(seed, narrow), theirs(seed, narrow);
  serial_team alone;
  stream plain(alone);
  const outputs found = c.of<Act>()(ops, s, ours), expected = c.of<double>()(reference_double_ops(), plain, theirs);
  std::pair<double, std::string> worst{0, "none"};
  for (std::size_t t = 0; t < expected.tensors.size(); ++t) {
    double scale = 1e-30, difference = 0;
    for (const double v : expected.tensors[t].second) scale = std::max(scale, std::abs(v));
    for (std::size_t i = 0; i < expected.tensors[t].second.size(); ++i) {
      const double d = std::abs(found.tensors[t].second[i] - expected.tensors[t].second[i]);
      difference = std::max(difference, std::isfinite(d) ? d : std::numeric_limits<double>::infinity());
    }
    if (difference / scale > worst.first) worst = {difference / scale, expected.tensors[t].first};
  }
  return worst;
}

template std::pair<double, std::string> distance_from_reference(const kernel_case&, const op_table<float>&, stream&, std::uint64_t);
template std::pair<double, std::string> distance_from_reference(const kernel_case&, const op_table<bf16>&, stream&, std::uint64_t);

}  // namespace isthmus::kernels::testing
