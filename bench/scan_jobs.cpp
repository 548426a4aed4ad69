#include "bench/kernel_jobs.hpp"

namespace isthmus::bench {

using namespace kernels;

namespace {
double number(std::int64_t v) { return static_cast<double>(v); }
}  // namespace

/// As a Mamba-1 layer has them: z in the second half of in_proj's rows, B and C in columns of x_proj's. Operations: sixteen for each state
/// of a row and channel forward, a power counted as ten, and 33 backward.
template <class Act>
void add_selective_scan(const backend& b, stream& s, arrays& a, const extents& x, std::vector<job>& jobs) {
  using R = real<Act>;
  const op_table<Act>& ops = ops_of<Act>(b);
  const std::int64_t rows = x.rows(), e = x.inner, bc = 2 * x.scan_state, chunks = (x.length + x.scan_chunk - 1) / x.scan_chunk;
  const Act *in = a.numbers<Act>(rows * e), *xz = a.numbers<Act>(rows * 2 * e), *dt = a.numbers<Act>(rows * e);
  const Act *b_c = a.numbers<Act>(rows * bc), *dy = a.numbers<Act>(rows * e);
  Act *y = a.numbers<Act>(rows * e), *dx = a.numbers<Act>(rows * e), *d_xz = a.numbers<Act>(rows * 2 * e), *d_dt = a.numbers<Act>(rows * e);
  Act* d_bc = a.numbers<Act>(rows * bc);
  const R *bias = a.numbers<R>(e), *a_log = a.numbers<R>(e * x.scan_state), *d = a.numbers<R>(e);
  R *d_bias = a.numbers<R>(e), *d_a_log = a.numbers<R>(e * x.scan_state), *d_d = a.numbers<R>(e);
  R* states = a.numbers<R>(x.batch * chunks * e * x.scan_state);
  const selective_scan_args<Act> f{.x = in,
                                   .dt = dt,
                                   .b = b_c,
                                   .c = b_c + x.scan_state,
                                   .z = xz + e,
                                   .dt_bias = bias,
                                   .a_log = a_log,
                                   .d = d,
                                   .y = y,
                                   .states = states,
                                   .initial = nullptr,
                                   .final = nullptr,
                                   .batch = x.batch,
                                   .length = x.length,
                                   .channels = e,
                                   .state = x.scan_state,
                                   .chunk = x.scan_chunk,
                                   .x_stride = e,
                                   .dt_stride = e,
                                   .bc_stride = bc,
                                   .z_stride = 2 * e};
  const double n = number(rows);
  const double elements = n * number(e * x.scan_state), row = number(e) * sizeof(Act);
  jobs.push_back({"selective_scan", n * row * 4, 16 * elements, [=, &s] { ops.selective_scan(s, f); }});
  jobs.push_back({"selective_scan_backward", n * row * 7, 33 * elements, [=, &s] {
                    ops.selective_scan_backward(s, {.x = f.x,
                                                    .dt = f.dt,
                                                    .b = f.b,
                                                    .c = f.c,
                                                    .z = f.z,
                                                    .dt_bias = f.dt_bias,
                                                    .a_log = f.a_log,
                                                    .d = f.d,
                                                    .dy = dy,
                                                    .states = states,
                                                    .dx = dx,
                                                    .d_dt = d_dt,
                                                    .db = d_bc,
                                                    .dc = d_bc + x.scan_state,
                                                    .dz = d_xz + e,
                                                    .d_dt_bias = d_bias,
                                                    .d_a_log = d_a_log,
                                                    .d_d = d_d,
                                                    .d_final = nullptr,
                                                    .d_initial = nullptr,
                                                    .batch = f.batch,
                                                    .length = f.length,
                                                    .channels = f.channels,
                                                    .state = f.state,
                                                    .chunk = f.chunk,
                                                    .x_stride = f.x_stride,
                                                    .dt_stride = f.dt_stride,
                                                    .bc_stride = f.bc_stride,
                                                    .z_stride = f.z_stride,
                                                    .dx_stride = e,
                                                    .d_dt_stride = e,
                                                    .d_bc_stride = bc,
                                                    .dz_stride = 2 * e});
                  }});
}
template void add_selective_scan<float>(const backend&, stream&, arrays&, const extents&, std::vector<job>&);
template void add_selective_scan<bf16>(const backend&, stream&, arrays&, const extents&, std::vector<job>&);

}  // namespace isthmus::bench
