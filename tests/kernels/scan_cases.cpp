#include "tests/kernels/make_case.hpp"

#include <cstdint>

namespace isthmus::kernels::testing {

namespace {

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
    ssd_backward_args<Act> g{.x = f.x,
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
                             .d_final = nullptr,
                             .d_initial = nullptr,
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
                             .dt_max = f.dt_max};
    ops.ssd_backward(s, g);
    outputs o;
    o.add("y", y);
    o.add("states", states);
    o.add("d_xbc", d_xbc);
    o.add("d_dt", d_dt);
    o.add("d_dt_bias", d_dt_bias);
    o.add("d_a_log", d_a_log);
    o.add("d_d", d_d);

    // From a state, with the gradient of the last one, which makes room for that of the first.
    auto carried = random.reals<Act>(a.batch * inner * a.state), final = carried;
    auto carried_y = random.blank<Act>(rows * inner), step_y = random.blank<Act>(inner);
    auto d_carried = random.reals<Act>(a.batch * inner * a.state);
    f.y = carried_y.data();
    f.initial = f.final = final.data();
    ops.ssd(s, f);
    g.y = carried_y.data();
    g.d_final = g.d_initial = d_carried.data();
    ops.ssd_backward(s, g);
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
    o.add("y from a state", carried_y);
    o.add("d_xbc from a state", d_xbc);
    o.add("d_dt from a state", d_dt);
    o.add("d_dt_bias, twice", d_dt_bias);
    o.add("d_a_log, twice", d_a_log);
    o.add("d_d, twice", d_d);
    o.add("d_initial", d_carried);
    o.add("final state", final);
    o.add("step y", step_y);
    o.add("step state", one);
    return o;
  });
}

struct scan_shape {
  std::int64_t batch, length, channels, state, chunk, pad;
  bool gated;
};

kernel_case selective_scan_case(scan_shape a) {
  const std::string name = std::string(a.gated ? "gated " : "") + "selective_scan " + std::to_string(a.batch) + "x" +
                           std::to_string(a.length) + " channels " + std::to_string(a.channels) + " state " + std::to_string(a.state) +
                           " chunk " + std::to_string(a.chunk) + " pad " + std::to_string(a.pad);
  return make(name, [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, e = a.channels, chunks = (a.length + a.chunk - 1) / a.chunk;
    const std::int64_t xz = 2 * e + a.pad, dbc = e + 2 * a.state + a.pad, carried = a.batch * e * a.state;
    const auto x_z = random.act<Act>(rows * xz), dt_b_c = random.act<Act>(rows * dbc), dy = random.act<Act>(rows * e);
    const auto dt_bias = random.reals<Act>(e, 2, -2), a_log = random.reals<Act>(e * a.state, 0.7, 1), d = random.reals<Act>(e);
    const auto d_final = random.reals<Act>(carried);
    auto y = random.blank<Act>(rows * e), d_x_z = random.blank<Act>(rows * xz), d_dt_b_c = random.blank<Act>(rows * dbc);
    auto states = random.blank<R>(a.batch * chunks * e * a.state), final = random.reals<Act>(carried), d_initial = random.blank<R>(carried);
    auto d_dt_bias = random.reals<Act>(e), d_a_log = random.reals<Act>(e * a.state), d_d = random.reals<Act>(e);
    selective_scan_args<Act> f{.x = x_z.data(),
                               .dt = dt_b_c.data(),
                               .b = dt_b_c.data() + e,
                               .c = dt_b_c.data() + e + a.state,
                               .z = a.gated ? x_z.data() + e : nullptr,
                               .dt_bias = dt_bias.data(),
                               .a_log = a_log.data(),
                               .d = d.data(),
                               .y = y.data(),
                               .states = states.data(),
                               .initial = final.data(),
                               .final = final.data(),
                               .batch = a.batch,
                               .length = a.length,
                               .channels = e,
                               .state = a.state,
                               .chunk = a.chunk,
                               .x_stride = xz,
                               .dt_stride = dbc,
                               .bc_stride = dbc,
                               .z_stride = xz};
    ops.selective_scan(s, f);
    selective_scan_backward_args<Act> g{.x = f.x,
                                        .dt = f.dt,
                                        .b = f.b,
                                        .c = f.c,
                                        .z = f.z,
                                        .dt_bias = f.dt_bias,
                                        .a_log = f.a_log,
                                        .d = f.d,
                                        .dy = dy.data(),
                                        .states = states.data(),
                                        .dx = d_x_z.data(),
                                        .d_dt = d_dt_b_c.data(),
                                        .db = d_dt_b_c.data() + e,
                                        .dc = d_dt_b_c.data() + e + a.state,
                                        .dz = a.gated ? d_x_z.data() + e : nullptr,
                                        .d_dt_bias = d_dt_bias.data(),
                                        .d_a_log = d_a_log.data(),
                                        .d_d = d_d.data(),
                                        .d_final = d_final.data(),
                                        .d_initial = d_initial.data(),
                                        .batch = a.batch,
                                        .length = a.length,
                                        .channels = e,
                                        .state = a.state,
                                        .chunk = a.chunk,
                                        .x_stride = xz,
                                        .dt_stride = dbc,
                                        .bc_stride = dbc,
                                        .z_stride = xz,
                                        .dx_stride = xz,
                                        .d_dt_stride = dbc,
                                        .d_bc_stride = dbc,
                                        .dz_stride = xz};
    ops.selective_scan_backward(s, g);
    outputs o;
    o.add("y", y);
    o.add("states", states);
    o.add("final state", final);
    o.add("d_x_z", d_x_z);
    o.add("d_dt_b_c", d_dt_b_c);
    o.add("d_dt_bias", d_dt_bias);
    o.add("d_a_log", d_a_log);
    o.add("d_d", d_d);
    o.add("d_initial", d_initial);

    // From nothing, with no gradient of the last state.
    f.initial = nullptr;
    f.final = nullptr;
    ops.selective_scan(s, f);
    g.d_final = nullptr;
    g.d_initial = nullptr;
    ops.selective_scan_backward(s, g);
    auto one = random.reals<Act>(e * a.state);
    auto step_y = random.blank<Act>(e);
    // clang-format off
    ops.selective_scan_step(s, {.x = f.x, .dt = f.dt, .b = f.b, .c = f.c, .z = f.z, .dt_bias = f.dt_bias, .a_log = f.a_log, .d = f.d,
                                .h = one.data(), .y = step_y.data(), .channels = e, .state = a.state});
    // clang-format on
    o.add("y from nothing", y);
    o.add("d_x_z from nothing", d_x_z);
    o.add("d_a_log, twice", d_a_log);
    o.add("step y", step_y);
    o.add("step state", one);
    return o;
  });
}

}  // namespace

std::vector<kernel_case> scan_cases() {
  return {ssd_case({2, 11, 4, 8, 2, 5, 4}),
          ssd_case({1, 64, 2, 16, 1, 16, 64}),
          ssd_case({2, 150, 2, 64, 1, 64, 64}),
          ssd_case({1, 3, 1, 4, 1, 4, 16}),
          ssd_case({1, 200, 4, 64, 2, 128, 96}),
          ssd_case({2, 170, 4, 80, 1, 72, 128}),
          selective_scan_case({2, 13, 20, 5, 4, 3, true}),
          selective_scan_case({1, 70, 48, 16, 16, 0, true}),
          selective_scan_case({3, 33, 150, 16, 64, 5, false}),
          selective_scan_case({1, 9, 7, 1, 8, 0, false}),
          selective_scan_case({2, 40, 33, 64, 32, 0, true}),
          selective_scan_case({1, 50, 300, 23, 50, 1, true}),
          selective_scan_case({2, 1, 16, 16, 1, 0, true})};
}

}  // namespace isthmus::kernels::testing
