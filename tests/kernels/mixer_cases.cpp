#include "tests/kernels/make_case.hpp"

#include <cmath>
#include <cstdint>

namespace isthmus::kernels::testing {

namespace {

struct attention_shape {
  std::int64_t batch, length, heads, kv_heads, head_dim;
  std::string name() const {
    return "attention " + std::to_string(batch) + "x" + std::to_string(length) + " heads " + std::to_string(heads) + "/" +
           std::to_string(kv_heads) + " of " + std::to_string(head_dim);
  }
};

kernel_case attention_case(attention_shape a) {
  return make(a.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, dim = a.head_dim, width = (a.heads + 2 * a.kv_heads) * dim;
    const std::int64_t k = a.heads * dim, v = k + a.kv_heads * dim;
    const auto qkv = random.act<Act>(rows * width), d_o = random.act<Act>(rows * k);
    auto o = random.blank<Act>(rows * k), d_qkv = random.blank<Act>(rows * width);
    auto lse = random.blank<R>(a.batch * a.heads * a.length);
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

/// The GPU has heads over 128 wide in fp32 alone.
kernel_case without_bf16(kernel_case c) {
  c.b16 = nullptr;
  return c;
}

kernel_case attention_cached_case(attention_shape a, std::int64_t past) {
  return make("cached after " + std::to_string(past) + ", " + a.name(),
              [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
                const std::int64_t dim = a.head_dim, stride = (a.heads + 2 * a.kv_heads) * dim;
                const auto q = random.act<Act>(a.length * stride);
                const auto keys = random.act<Act>((past + a.length) * a.kv_heads * dim);
                const auto values = random.act<Act>((past + a.length) * a.kv_heads * dim);
                auto o = random.blank<Act>(a.length * a.heads * dim);
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
  return make("rope", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t stride = (a.heads + 3) * a.head_dim, half = a.head_dim / 2;
    auto x = random.act<Act>(a.batch * a.length * stride);
    auto cosines = random.host.reals<Act>(a.length * half), sines = cosines;
    for (std::size_t i = 0; i < sines.size(); ++i) {
      cosines[i] = static_cast<float>(std::cos(static_cast<double>(sines[i])));
      sines[i] = static_cast<float>(std::sin(static_cast<double>(sines[i])));
    }
    const auto cosine = random.place(cosines), sine = random.place(sines);
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

struct ssd_shape {
  std::int64_t batch, length, heads, head_dim, groups, state, chunk;
};

kernel_case ssd_case(ssd_shape a) {
  const std::string name = "ssd " + std::to_string(a.batch) + "x" + std::to_string(a.length) + " heads " + std::to_string(a.heads) + "/" +
                           std::to_string(a.groups) + " of " + std::to_string(a.head_dim) + " state " + std::to_string(a.state) +
                           " chunk " + std::to_string(a.chunk);
  return make(name, [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, inner = a.heads * a.head_dim, wide = a.groups * a.state;
    const std::int64_t stride = inner + 2 * wide, dt_stride = a.heads + 3, chunks = (a.length + a.chunk - 1) / a.chunk;
    const auto xbc = random.act<Act>(rows * stride), dt = random.act<Act>(rows * dt_stride), dy = random.act<Act>(rows * inner);
    const auto dt_bias = random.reals<Act>(a.heads, 1, -3), a_log = random.reals<Act>(a.heads, 0.7, 1), d = random.reals<Act>(a.heads);
    auto y = random.blank<Act>(rows * inner), d_xbc = random.blank<Act>(rows * stride), d_dt = random.blank<Act>(rows * dt_stride);
    auto states = random.blank<R>(a.batch * chunks * inner * a.state);
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
    auto carried_y = random.blank<Act>(rows * inner), step_y = random.blank<Act>(inner);
    f.y = carried_y.data();
    f.states = nullptr;
    f.initial = f.final = final.data();
    ops.ssd(s, f);
    const auto states_then = final.values();
    auto one = random.place(std::vector<R>(states_then.begin(), states_then.begin() + inner * a.state));
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

}  // namespace

std::vector<kernel_case> mixer_cases() {
  // Attention has blocks of 64 or 128 rows, tiles 32, 64 or 128 columns wide; heads of 44 or 100 columns cannot be copied 16 bytes at a time.
  return {attention_case({1, 1, 1, 1, 16}),
          attention_case({2, 33, 4, 2, 16}),
          attention_case({1, 150, 2, 1, 64}),
          attention_case({2, 128, 3, 3, 64}),
          attention_case({1, 70, 4, 1, 6}),
          attention_case({2, 200, 4, 2, 128}),
          attention_case({1, 257, 2, 1, 32}),
          attention_case({1, 1, 2, 2, 64}),
          attention_case({1, 521, 4, 1, 64}),
          attention_case({2, 65, 6, 2, 48}),
          attention_case({1, 70, 2, 1, 44}),
          attention_case({1, 90, 2, 1, 100}),
          attention_case({1, 300, 2, 1, 96}),
          attention_case({1, 449, 2, 2, 128}),
          without_bf16(attention_case({1, 100, 2, 1, 160})),
          attention_cached_case({1, 1, 4, 2, 16}, 0),
          attention_cached_case({1, 1, 4, 2, 64}, 131),
          attention_cached_case({1, 5, 2, 2, 32}, 60),
          rope_case({2, 9, 3, 1, 16}, false),
          rope_case({1, 5, 2, 1, 6}, true),
          ssd_case({2, 11, 4, 8, 2, 5, 4}),
          ssd_case({1, 64, 2, 16, 1, 16, 64}),
          ssd_case({2, 150, 2, 64, 1, 64, 64}),
          ssd_case({1, 3, 1, 4, 1, 4, 16}),
          ssd_case({1, 200, 4, 64, 2, 128, 96}),
          ssd_case({2, 170, 4, 80, 1, 72, 128})};
}

}  // namespace isthmus::kernels::testing
