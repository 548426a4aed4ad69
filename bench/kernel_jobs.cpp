#include "bench/kernel_jobs.hpp"

#include <memory>

namespace isthmus::bench {

using namespace kernels;

namespace {

double number(std::int64_t v) { return static_cast<double>(v); }

/// What several kernels read or write.
template <class Act>
struct common {
  using R = real<Act>;
  const op_table<Act>* ops;
  stream* s;
  arrays* a;
  extents x;
  std::int64_t rows = x.rows(), d = x.d, hidden = x.hidden, inner = x.inner, channels = x.channels(), ssm_heads = x.ssm_heads();
  std::int64_t wide = x.projected();
  double n = number(rows), act = sizeof(Act);
  Act *rows_d = a->numbers<Act>(rows * d), *out_d = a->numbers<Act>(rows * d);
  Act *rows_3d = a->numbers<Act>(rows * 3 * d), *out_3d = a->numbers<Act>(rows * 3 * d);
  R *stream_in = a->numbers<R>(rows * d), *stream_out = a->numbers<R>(rows * d), *rstd = a->numbers<R>(rows);
  R *gain = a->numbers<R>(std::max(d, inner)), *d_gain = a->numbers<R>(std::max(d, inner));
  Act *zxbcdt = a->numbers<Act>(rows * wide), *d_zxbcdt = a->numbers<Act>(rows * wide);
  Act *xbc = a->numbers<Act>(rows * channels, 0.3), *d_xbc = a->numbers<Act>(rows * channels, 0.3);
  Act *y = a->numbers<Act>(rows * inner), *dy = a->numbers<Act>(rows * inner);
  R *bias = a->numbers<R>(channels), *d_bias = a->numbers<R>(channels);
};

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
  jobs.push_back({"swiglu", c.n * number(c.hidden) * 3 * c.act, 0, [=] { c.ops->swiglu(*c.s, {gate_up, out_hidden, c.rows, c.hidden}); }});
  jobs.push_back({"swiglu_backward", c.n * number(c.hidden) * 6 * c.act, 0, [=] {
                    c.ops->swiglu_backward(*c.s, {gate_up, out_hidden, d_gate_up, out_hidden, c.rows, c.hidden});
                  }});
}

template <class Act>
void add_attention(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  const R* angles = c.a->template numbers<R>(c.x.length * c.x.head_dim / 2);
  jobs.push_back({"rope", c.n * number(2 * c.d) * 2 * c.act, 0, [=] {
                    c.ops->rope(*c.s, {c.rows_3d, angles, angles, c.x.batch, c.x.length, 2 * c.x.heads, c.x.head_dim, c.x.head_dim, 3 * c.d, false});
                  }});
  R* lse = c.a->template numbers<R>(c.rows * c.x.heads);
  const double pairs = number(c.x.batch * c.x.heads) * number(c.x.length) * number(c.x.length) / 2 * number(c.x.head_dim);
  const R scale = R(0.125F);
  jobs.push_back({"attention", c.n * number(3 * c.d) * c.act, 4 * pairs, [=] {
                    c.ops->attention(*c.s, {c.rows_3d, c.rows_3d + c.d, c.rows_3d + 2 * c.d, c.out_d, lse, c.x.batch, c.x.length, c.x.heads,
                                            c.x.heads, c.x.head_dim, 3 * c.d, scale});
                  }});
  jobs.push_back({"attention_backward", c.n * number(3 * c.d) * 2 * c.act, 10 * pairs, [=] {
                    c.ops->attention_backward(
                        *c.s, {c.rows_3d, c.rows_3d + c.d, c.rows_3d + 2 * c.d, c.out_d, c.rows_d, lse, c.out_3d, c.out_3d + c.d,
                               c.out_3d + 2 * c.d, c.x.batch, c.x.length, c.x.heads, c.x.heads, c.x.head_dim, 3 * c.d, 3 * c.d, scale});
                  }});
  jobs.push_back({"attention_cached", number(2 * c.x.length * c.d) * c.act, 0, [=] {
                    c.ops->attention_cached(*c.s, {c.rows_3d, c.rows_d, c.rows_d + c.x.length * c.d, c.out_d, 1, c.x.length - 1, c.x.heads,
                                                   c.x.heads, c.x.head_dim, 3 * c.d, scale});
                  }});
}

/// Few taps with silu, as Mamba has them; many that 16 channels share, as StripedHyena 2's.
template <class Act>
void add_conv1d(const common<Act>& c, std::int64_t width, std::int64_t sharers, std::vector<job>& jobs) {
  using R = real<Act>;
  const std::int64_t filters = c.channels / sharers;
  const R* taps = c.a->template numbers<R>(filters * width);
  R* d_taps = c.a->template numbers<R>(filters * width);
  const auto f = sharers == 1 ? conv_activation::silu : conv_activation::none;
  const std::string name = sharers == 1 ? "conv1d" : "conv1d_wide";
  const double work = 2 * c.n * number(c.channels * width);
  jobs.push_back({name, c.n * number(c.channels) * 2 * c.act, work, [=] {
                    c.ops->conv1d(*c.s, {c.zxbcdt + c.inner, taps, c.bias, nullptr, c.xbc, nullptr, nullptr, c.x.batch, c.x.length,
                                         c.channels, filters, width, c.wide, f});
                  }});
  jobs.push_back({name + "_backward", c.n * number(c.channels) * 3 * c.act, 2 * work, [=] {
                    c.ops->conv1d_backward(*c.s, {c.zxbcdt + c.inner, taps, c.bias, nullptr, c.d_xbc, c.d_zxbcdt + c.inner, d_taps,
                                                  c.d_bias, nullptr, c.x.batch, c.x.length, c.channels, filters, width, c.wide, c.wide, f});
                  }});
}

/// As Hyena has it: gates and input are columns of one projection, a filter a channel. Operations: 5 N log2 N of each complex transform
/// of N points, three a channel and sequence less those of the filters, which a batch shares.
template <class Act>
void add_long_conv(const common<Act>& c, std::vector<job>& jobs) {
  using R = real<Act>;
  const R *h = c.a->template numbers<R>(c.d * c.x.length, 0.02), *d = c.a->template numbers<R>(c.d);
  R *dh = c.a->template numbers<R>(c.d * c.x.length), *dd = c.a->template numbers<R>(c.d);
  std::shared_ptr<long_conv_plan> plan = c.ops->make_long_conv_plan(c.x.length);
  const long_conv_args<Act> f{.plan = plan.get(),
                              .v = c.rows_3d,
                              .x1 = c.rows_3d + c.d,
                              .x2 = c.rows_3d + 2 * c.d,
                              .h = h,
                              .h_back = nullptr,
                              .d = d,
                              .y = c.out_d,
                              .batch = c.x.batch,
                              .length = c.x.length,
                              .channels = c.d,
                              .filters = c.d,
                              .taps = c.x.length,
                              .x_stride = 3 * c.d,
                              .y_stride = c.d};
  const double n = number(c.x.length), transform = 5 * n * std::log2(n) * number(c.d), sequences = number(c.x.batch);
  const double filters = 4 * n * number(c.d);
  jobs.push_back({"long_conv", c.n * number(4 * c.d) * c.act + filters, (2 * sequences + 1) * transform,
                  [=, keep = plan] { c.ops->long_conv(*c.s, f); }});
  jobs.push_back({"long_conv_backward", c.n * number(7 * c.d) * c.act + 3 * filters, (4 * sequences + 2) * transform, [=, keep = plan] {
                    c.ops->long_conv_backward(*c.s, {.plan = f.plan,
                                                     .v = f.v,
                                                     .x1 = f.x1,
                                                     .x2 = f.x2,
                                                     .h = f.h,
                                                     .h_back = nullptr,
                                                     .d = f.d,
                                                     .dy = c.rows_d,
                                                     .dv = c.out_3d,
                                                     .dx1 = c.out_3d + c.d,
                                                     .dx2 = c.out_3d + 2 * c.d,
                                                     .dh = dh,
                                                     .dh_back = nullptr,
                                                     .dd = dd,
                                                     .batch = f.batch,
                                                     .length = f.length,
                                                     .channels = c.d,
                                                     .filters = c.d,
                                                     .taps = f.taps,
                                                     .x_stride = 3 * c.d,
                                                     .dy_stride = c.d,
                                                     .dx_stride = 3 * c.d});
                  }});
}

/// StripedHyena's two complex modes a channel, and StripedHyena 2's sixteen decays: taps, prefill and one token.
template <class Act>
void add_modal(const common<Act>& c, modal_form form, std::int64_t modes, std::vector<job>& jobs) {
  using R = real<Act>;
  const bool complex = form == modal_form::complex;
  const std::int64_t count = c.d * modes * (complex ? 2 : 1), taps = c.x.length;
  const R *poles = c.a->template numbers<R>(count, complex ? 0.69 : 0.001), *residues = c.a->template numbers<R>(count);
  R *h = c.a->template numbers<R>(c.d * taps, 0.02), *d_poles = c.a->template numbers<R>(count),
    *d_residues = c.a->template numbers<R>(count);
  R* state = c.a->template numbers<R>(c.x.batch * count, 0.1);
  const std::string name = complex ? "modal" : "modal_decays";
  const double terms = number(c.d * modes), parts = complex ? 2 : 1;
  const modal_scan_args<Act> f{.form = form,
                               .poles = poles,
                               .residues = residues,
                               .d = c.gain,
                               .v = c.rows_3d,
                               .x1 = c.rows_3d + c.d,
                               .x2 = c.rows_3d + 2 * c.d,
                               .y = c.out_d,
                               .initial = nullptr,
                               .final = state,
                               .batch = c.x.batch,
                               .length = c.x.length,
                               .channels = c.d,
                               .modes = modes,
                               .x_stride = 3 * c.d,
                               .y_stride = c.d};
  jobs.push_back({name + "_filter", number(c.d * taps) * 4, 2 * parts * terms * number(taps), [=] {
                    c.ops->modal_filter(*c.s, {form, poles, residues, h, c.d, modes, taps});
                  }});
  jobs.push_back({name + "_filter_backward", number(c.d * taps) * 4, 4 * parts * terms * number(taps), [=] {
                    c.ops->modal_filter_backward(*c.s, {form, poles, residues, h, d_poles, d_residues, c.d, modes, taps});
                  }});
  jobs.push_back({name + "_scan", c.n * number(4 * c.d) * c.act, c.n * terms * (complex ? 12 : 5), [=] { c.ops->modal_scan(*c.s, f); }});
  jobs.push_back({name + "_step", terms * parts * 16, terms * (complex ? 12 : 5), [=] {
                    c.ops->modal_step(*c.s, {form, poles, residues, c.gain, f.v, f.x1, f.x2, state, c.out_d, c.d, modes});
                  }});
}

/// The channel mixer of M2-BERT in four blocks, and one factor of a Monarch matrix of d columns in 32.
template <class Act>
void add_block_linear(const common<Act>& c, std::int64_t blocks, std::vector<job>& jobs) {
  using R = real<Act>;
  const std::int64_t in = c.d / blocks, out = blocks == 4 ? 3 * in : in;
  const R* w = c.a->template numbers<R>(blocks * out * in, 0.02);
  R* dw = c.a->template numbers<R>(blocks * out * in);
  auto owned = std::make_shared<std::vector<std::unique_ptr<matrix<Act>>>>();
  auto m = std::make_shared<std::vector<matrix<Act>*>>();
  for (std::int64_t k = 0; k < blocks; ++k) {
    owned->push_back(c.ops->make_matrix(w + k * out * in, out, in));
    m->push_back(owned->back().get());
  }
  const std::int64_t y_stride = blocks * out;
  Act *x = c.rows_d, *y = blocks == 4 ? c.out_3d : c.out_d, *dx = blocks == 4 ? c.out_d : c.rows_3d;
  const std::string name = "block_linear_" + std::to_string(blocks);
  const double product = 2 * c.n * number(blocks * out * in), bytes = c.n * number(blocks * (in + out)) * c.act;
  jobs.push_back({name, bytes, product, [=] {
                    c.ops->block_linear(*c.s, {m->data(), x, y, blocks, c.rows, c.d, y_stride});
                    static_cast<void>(owned);
                  }});
  jobs.push_back({name + "_backward_input", bytes, product, [=] {
                    c.ops->block_linear_backward_input(*c.s, {m->data(), y, dx, blocks, c.rows, y_stride, c.d});
                    static_cast<void>(owned);
                  }});
  jobs.push_back({name + "_backward_weight", bytes, product, [=] {
                    c.ops->block_linear_backward_weight(*c.s, {m->data(), x, y, dw, blocks, c.rows, c.d, y_stride});
                    static_cast<void>(owned);
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
  add_conv1d(c, x.conv_width, 1, jobs);
  add_conv1d(c, 128, 16, jobs);
  add_long_conv(c, jobs);
  add_modal(c, modal_form::complex, 2, jobs);
  add_modal(c, modal_form::decays, 16, jobs);
  add_block_linear(c, 4, jobs);
  add_block_linear(c, 32, jobs);
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
