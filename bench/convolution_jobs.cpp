#include "bench/common_arrays.hpp"

#include <cmath>
#include <memory>
#include <string>

namespace isthmus::bench {

using namespace kernels;

namespace {

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
                    c.ops->conv1d_backward(*c.s, {c.zxbcdt + c.inner,
                                                  taps,
                                                  c.bias,
                                                  nullptr,
                                                  c.d_xbc,
                                                  c.d_zxbcdt + c.inner,
                                                  d_taps,
                                                  c.d_bias,
                                                  nullptr,
                                                  nullptr,
                                                  nullptr,
                                                  nullptr,
                                                  c.x.batch,
                                                  c.x.length,
                                                  c.channels,
                                                  filters,
                                                  width,
                                                  c.wide,
                                                  c.wide,
                                                  f});
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
                               .states = nullptr,
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

}  // namespace

template <class Act>
void add_convolutions(const common<Act>& c, std::vector<job>& jobs) {
  add_conv1d(c, c.x.conv_width, 1, jobs);
  add_conv1d(c, 128, 16, jobs);
  add_long_conv(c, jobs);
  add_modal(c, modal_form::complex, 2, jobs);
  add_modal(c, modal_form::decays, 16, jobs);
  add_block_linear(c, 4, jobs);
  add_block_linear(c, 32, jobs);
}
template void add_convolutions(const common<float>&, std::vector<job>&);
template void add_convolutions(const common<bf16>&, std::vector<job>&);

}  // namespace isthmus::bench
