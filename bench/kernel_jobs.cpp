#include "bench/kernel_jobs.hpp"

#include "bench/common_arrays.hpp"

#include <memory>

namespace isthmus::bench {

using namespace kernels;

namespace {

template <class Act>
void add_products(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  const R* w = c.a->template numbers<R>(3 * c.d * c.d, 0.02);
  std::shared_ptr<matrix<Act>> m = c.ops->make_matrix(w, 3 * c.d, c.d);
  R* dw = c.a->template numbers<R>(3 * c.d * c.d);
  const double product = 2 * c.n * number(3 * c.d * c.d);
  jobs.push_back({"linear", 0, product, [=] { c.ops->linear(*c.s, {m.get(), c.rows_d, c.out_3d, c.rows, c.d, 3 * c.d}); }});
  jobs.push_back({"linear_backward_input", 0, product, [=] {
                    c.ops->linear_backward_input(*c.s, {m.get(), c.rows_3d, c.out_d, c.rows, 3 * c.d, c.d});
                  }});
  jobs.push_back({"linear_backward_weight", 0, product, [=] {
                    c.ops->linear_backward_weight(*c.s, {m.get(), c.rows_d, c.rows_3d, dw, c.rows, c.d, 3 * c.d});
                  }});
}

template <class Act>
void add_channel_mixers(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  jobs.push_back({"rms_norm", c.n * number(c.d) * (8 + 2 * c.act), 0, [=] {
                    c.ops->rms_norm(*c.s, {c.stream_in, c.rows_d, c.gain, c.stream_out, c.out_d, c.rstd, c.rows, c.d, R(1e-5F)});
                  }});
  jobs.push_back({"rms_norm_backward", c.n * number(c.d) * (12 + (sizeof(Act) == 2 ? 2 : 1) * c.act), 0, [=] {
                    c.ops->rms_norm_backward(*c.s, {c.rows_d, c.stream_in, c.gain, c.rstd, c.stream_out, c.stream_out,
                                                    sizeof(Act) == 2 ? c.out_d : nullptr, c.d_gain, c.rows, c.d});
                  }});

  const Act* gate_up = c.a->template numbers<Act>(c.rows * 2 * c.hidden);
  Act* d_gate_up = c.a->template numbers<Act>(c.rows * 2 * c.hidden);
  Act* out_hidden = c.a->template numbers<Act>(c.rows * c.hidden);
  jobs.push_back({"swiglu", c.n * number(c.hidden) * 3 * c.act, 0, [=] {
                    c.ops->activation(*c.s, {gate_up, out_hidden, c.rows, c.hidden});
                  }});
  jobs.push_back({"swiglu_backward", c.n * number(c.hidden) * 6 * c.act, 0, [=] {
                    c.ops->activation_backward(*c.s, {gate_up, out_hidden, d_gate_up, out_hidden, c.rows, c.hidden});
                  }});
}

/// pairs: of a query and a key in sight, in one head of one sequence.
template <class Act>
void add_attention_in_sight(const common<Act>& c, const std::string& name, attention_sight sight, double pairs, std::vector<job>& jobs) {
  real<Act>* lse = c.a->template numbers<real<Act>>(c.rows * c.x.heads());
  const double products = number(c.x.batch * c.x.heads()) * pairs * number(c.x.head_dim);
  const auto scale = real<Act>(0.125F);
  jobs.push_back({name, c.n * number(3 * c.d) * c.act, 4 * products, [=] {
                    c.ops->attention(*c.s, {c.rows_3d, c.rows_3d + c.d, c.rows_3d + 2 * c.d, c.out_d, lse, c.x.batch, c.x.length,
                                            c.x.heads(), c.x.heads(), c.x.head_dim, 3 * c.d, scale, sight});
                  }});
  jobs.push_back({name + "_backward", c.n * number(3 * c.d) * 2 * c.act, 10 * products, [=] {
                    c.ops->attention_backward(*c.s, {c.rows_3d, c.rows_3d + c.d, c.rows_3d + 2 * c.d, c.out_d, c.rows_d, lse, c.out_3d,
                                                     c.out_3d + c.d, c.out_3d + 2 * c.d, c.x.batch, c.x.length, c.x.heads(), c.x.heads(),
                                                     c.x.head_dim, 3 * c.d, 3 * c.d, scale, sight});
                  }});
}

template <class Act>
void add_attention(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  const R* angles = c.a->template numbers<R>(c.x.length * c.x.head_dim / 2);
  jobs.push_back(
      {"rope", c.n * number(2 * c.d) * 2 * c.act, 0, [=] {
         c.ops->rope(*c.s, {c.rows_3d, angles, angles, c.x.batch, c.x.length, 2 * c.x.heads(), c.x.head_dim, c.x.head_dim, 3 * c.d, false});
       }});
  const double all = number(c.x.length) * number(c.x.length) / 2;
  add_attention_in_sight(c, "attention", {}, all, jobs);
  const double window = number(std::min(c.x.window, c.x.length));
  add_attention_in_sight(c, "attention_window", {.window = c.x.window}, window * (number(c.x.length) - window / 2), jobs);
  const R scale = R(0.125F);
  jobs.push_back({"attention_cached", number(2 * c.x.length * c.d) * c.act, 0, [=] {
                    const cached_sequence<Act> one{0, 1, c.x.length - 1, c.rows_3d, c.rows_3d + c.x.length * c.d};
                    c.ops->attention_cached(*c.s, {c.rows_d, c.out_d, &one, 1, c.x.heads(), c.x.heads(), c.x.head_dim, c.d, scale});
                  }});
}

template <class Act>
void add_ssd(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  const std::int64_t chunks = (c.x.length + c.x.chunk - 1) / c.x.chunk;
  R* states = c.a->template numbers<R>(c.x.batch * chunks * c.inner * c.x.state);
  const R* a_log = c.a->template numbers<R>(c.ssm_heads);
  const double squares = c.n * number(c.ssm_heads) * 2;  // operations of a row and head for one product over a column
  const ssd_args<Act> f{.x = c.xbc,
                        .b = c.xbc + c.inner,
                        .c = c.xbc + c.inner + c.x.state,
                        .dt = c.zxbcdt + c.inner + c.channels,
                        .dt_bias = c.bias,
                        .a_log = a_log,
                        .d = c.bias,
                        .y = c.y,
                        .states = states,
                        .initial = nullptr,
                        .final = nullptr,
                        .batch = c.x.batch,
                        .length = c.x.length,
                        .heads = c.ssm_heads,
                        .head_dim = c.x.head_dim,
                        .groups = 1,
                        .state = c.x.state,
                        .chunk = c.x.chunk,
                        .xbc_stride = c.channels,
                        .dt_stride = c.wide,
                        .dt_min = 0,
                        .dt_max = R(100)};
  const double chunk_products = number(c.x.chunk) / 2 * number(c.x.state + c.x.head_dim) + 2 * number(c.x.head_dim * c.x.state);
  jobs.push_back({"ssd", c.n * number(c.channels + c.inner) * c.act, squares * chunk_products, [=] { c.ops->ssd(*c.s, f); }});
  jobs.push_back({"ssd_backward", c.n * number(2 * c.channels + c.inner) * c.act, squares * 2.5 * chunk_products, [=] {
                    c.ops->ssd_backward(*c.s, {.x = f.x,
                                               .b = f.b,
                                               .c = f.c,
                                               .dt = f.dt,
                                               .dt_bias = f.dt_bias,
                                               .a_log = f.a_log,
                                               .d = f.d,
                                               .y = c.y,
                                               .dy = c.dy,
                                               .states = states,
                                               .dx = c.d_xbc,
                                               .db = c.d_xbc + c.inner,
                                               .dc = c.d_xbc + c.inner + c.x.state,
                                               .d_dt = c.d_zxbcdt + c.inner + c.channels,
                                               .d_dt_bias = c.d_bias,
                                               .d_a_log = c.d_bias + c.ssm_heads,
                                               .d_d = c.d_bias + 2 * c.ssm_heads,
                                               .d_final = nullptr,
                                               .d_initial = nullptr,
                                               .batch = f.batch,
                                               .length = f.length,
                                               .heads = f.heads,
                                               .head_dim = f.head_dim,
                                               .groups = f.groups,
                                               .state = f.state,
                                               .chunk = f.chunk,
                                               .xbc_stride = c.channels,
                                               .dt_stride = c.wide,
                                               .d_xbc_stride = c.channels,
                                               .d_dt_stride = c.wide,
                                               .dt_min = f.dt_min,
                                               .dt_max = f.dt_max});
                  }});
}

template <class Act>
void add_gated_norm(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  jobs.push_back({"gated_norm", c.n * number(c.inner) * 3 * c.act, 0, [=] {
                    c.ops->gated_norm(*c.s, {c.y, c.zxbcdt, c.gain, c.dy, c.rstd, c.rows, c.inner, 1, c.wide, R(1e-5F)});
                  }});
  jobs.push_back({"gated_norm_backward", c.n * number(c.inner) * 5 * c.act, 0, [=] {
                    c.ops->gated_norm_backward(
                        *c.s, {c.dy, c.y, c.zxbcdt, c.gain, c.rstd, c.dy, c.d_zxbcdt, c.d_gain, c.rows, c.inner, 1, c.wide, c.wide});
                  }});
}

template <class Act>
void add_head(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  const R* table = c.a->template numbers<R>(c.x.vocabulary * c.d, 0.02);
  R* d_table = c.a->template numbers<R>(c.x.vocabulary * c.d);
  const std::int32_t* ids = c.a->ids(c.rows, c.x.vocabulary);
  R* losses = c.a->template numbers<R>(c.rows);
  std::shared_ptr<matrix<Act>> head = c.ops->make_matrix(table, c.x.vocabulary, c.d);
  jobs.push_back({"cross_entropy", 0, 6 * c.n * number(c.x.vocabulary * c.d), [=] {
                    c.ops->cross_entropy(*c.s, {head.get(), c.rows_d, ids, losses, c.out_d, d_table, c.rows, R(1e-4F)});
                  }});
  jobs.push_back({"embedding", c.n * number(c.d) * 8, 0, [=] {
                    c.ops->embedding(*c.s, {table, ids, c.stream_out, c.rows, c.d, c.x.vocabulary});
                  }});
  jobs.push_back({"embedding_backward", c.n * number(c.d) * 12, 0, [=] {
                    c.ops->embedding_backward(*c.s, {c.stream_in, ids, d_table, c.rows, c.d, c.x.vocabulary});
                  }});
}

}  // namespace

template <class Act>
std::vector<job> kernel_jobs(const backend& b, stream& s, arrays& a, const extents& x) {
  const common<Act> c{.ops = &ops_of<Act>(b), .s = &s, .a = &a, .x = x};
  std::vector<job> jobs;
  add_products(c, jobs);
  add_channel_mixers(c, jobs);
  add_attention(c, jobs);
  add_convolutions(c, jobs);
  add_ssd(c, jobs);
  add_selective_scan<Act>(b, s, a, x, jobs);
  add_gated_norm(c, jobs);
  add_head(c, jobs);
  return jobs;
}
template std::vector<job> kernel_jobs<float>(const backend&, stream&, arrays&, const extents&);
template std::vector<job> kernel_jobs<bf16>(const backend&, stream&, arrays&, const extents&);

std::vector<job> optimizer_jobs(const backend& b, stream& s, arrays& a, const extents& x) {
  const std::int64_t count = x.parameters;
  float *w = a.numbers<float>(count), *m = a.numbers<float>(count, 0.1), *v = a.numbers<float>(count, 0), *g = a.numbers<float>(count);
  static const decay_extent all[] = {{0, count, 0.1F}};
  const double n = static_cast<double>(count);
  return {{"adamw", n * 32, 0,
           [=, &b, &s] {
             b.adamw(s, {w, m, v, g, all, 1, 1e-4F, 0.9F, 0.95F, 1e-8F, 1, 0.1F, 0.05F, true});
           }},
          {"sum_of_squares", n * 4, 0, [=, &b, &s] {
             double sum = 0;
             b.sum_of_squares(s, {w, count, &sum});
           }}};
}

}  // namespace isthmus::bench
