#include "framework/layers/monarch/monarch.hpp"

#include "framework/core/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

implicit_shape filter_of(const layer_shape& s) {
  return {.d = s.d_model,
          .context = s.integer("monarch_context"),
          .features = s.integer("monarch_features"),
          .order = s.integer("monarch_order"),
          .frequency = s.real("monarch_frequency"),
          .both_ways = s.flag("monarch_bidirectional"),
          .learned = s.flag("monarch_learned")};
}

}  // namespace

template <class Act>
monarch_layer<Act>::monarch_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : d_(shape.d_model),
      context_(shape.integer("monarch_context")),
      both_ways_(shape.flag("monarch_bidirectional")),
      in_proj_(parts, {"in_proj.weight"}, shape.flag("monarch_bias")),
      out_proj_(parts, {"out_proj.weight"}, shape.flag("monarch_bias")),
      conv_(parts.vector("short_filter.weight"), parts.vector("short_filter.bias"), 3 * d_, shape.integer("monarch_short"), 3 * d_,
            kernels::conv_activation::none),
      gated_{{filter_of(shape), parts, "filter."}, parts.vector("filter.D")} {
  if (shape.flag("monarch_residual"))
    residual_.emplace(convolution{{filter_of(shape), parts, "residual_filter."}, parts.vector("residual_filter.D")});
}

template <class Act>
void monarch_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length;
  in_ = kept.take<Act>(rows * 3 * d_);
  u_ = kept.take<Act>(rows * 3 * d_);
  y_ = kept.take<Act>(rows * d_);
  d_in_ = shared.take<Act>(rows * 3 * d_);
  d_u_ = shared.take<Act>(rows * 3 * d_);
  d_y_ = shared.take<Act>(rows * d_);
  sums_ = shared.take<real>(d_);
  gated_.filter.place(length, shared);
  if (!residual_) return;
  r_ = shared.take<Act>(rows * d_);
  d_r_ = shared.take<Act>(rows * d_);
  residual_->filter.place(length, shared);
}

/// Filter and extents; the caller says what is convolved.
template <class Act>
kernels::long_conv_args<Act> monarch_layer<Act>::arguments(const layer_pass<Act>& p, convolution& c) const {
  return {.plan = plans_.of(p),
          .v = nullptr,
          .x1 = nullptr,
          .x2 = nullptr,
          .h = c.filter.forward_taps(),
          .h_back = c.filter.backward_taps(),
          .d = c.skip.weight,
          .y = nullptr,
          .batch = p.batch,
          .length = p.length,
          .channels = d_,
          .filters = d_,
          .taps = c.filter.taps(),
          .x_stride = d_,
          .y_stride = d_};
}

/// y_ from u_ and x, over whole sequences.
template <class Act>
void monarch_layer<Act>::convolve(const layer_pass<Act>& p, const Act* x) {
  gated_.filter.materialise(p);
  auto a = arguments(p, gated_);
  const Act* u = p.rows_of(u_, 3 * d_);
  Act* y = p.rows_of(y_, d_);
  a.v = u + 2 * d_, a.x1 = u + d_, a.x2 = u, a.x_stride = 3 * d_, a.y = y;
  p.ops.long_conv(p.stream, a);
  if (!residual_) return;
  residual_->filter.materialise(p);
  auto r = arguments(p, *residual_);
  r.v = x, r.y = r_;
  p.ops.long_conv(p.stream, r);
  p.ops.add(p.stream, {.x = r_, .y = y, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
}

template <class Act>
void monarch_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  in_proj_.forward(p, x, in_);
  conv_.forward(p, in_, u_);
  convolve(p, x);
  out_proj_.forward(p, y_, y);
}

/// Filter, its gradients and extents; the caller says what was convolved and where its gradients go.
template <class Act>
kernels::long_conv_backward_args<Act> monarch_layer<Act>::backward_arguments(const layer_pass<Act>& p, convolution& c) const {
  return {.plan = plans_.of(p),
          .v = nullptr,
          .x1 = nullptr,
          .x2 = nullptr,
          .h = c.filter.forward_taps(),
          .h_back = c.filter.backward_taps(),
          .d = c.skip.weight,
          .dy = d_y_,
          .dv = nullptr,
          .dx1 = nullptr,
          .dx2 = nullptr,
          .dh = c.filter.d_forward_taps(),
          .dh_back = c.filter.d_backward_taps(),
          .dd = c.skip.gradient,
          .batch = p.batch,
          .length = p.length,
          .channels = d_,
          .filters = d_,
          .taps = c.filter.taps(),
          .x_stride = d_,
          .dy_stride = d_,
          .dx_stride = d_};
}

/// The memory of filters is shared: other layers have been there since.
template <class Act>
void monarch_layer<Act>::convolve_back(const layer_pass<Act>& p, convolution& c, kernels::long_conv_backward_args<Act> a) const {
  c.filter.materialise(p);
  c.filter.clear();
  p.ops.long_conv_backward(p.stream, a);
  c.filter.backward(p);
}

template <class Act>
void monarch_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  out_proj_.backward(p, y_, dy, d_y_);
  auto a = backward_arguments(p, gated_);
  a.v = u_ + 2 * d_, a.x1 = u_ + d_, a.x2 = u_, a.x_stride = 3 * d_;
  a.dv = d_u_ + 2 * d_, a.dx1 = d_u_ + d_, a.dx2 = d_u_, a.dx_stride = 3 * d_;
  convolve_back(p, gated_, a);
  if (residual_) {
    auto r = backward_arguments(p, *residual_);
    r.v = x, r.dv = d_r_;
    convolve_back(p, *residual_, r);
  }
  conv_.backward(p, in_, d_u_, d_in_);
  in_proj_.backward(p, x, d_in_, dx);
  if (residual_) p.ops.add(p.stream, {.x = d_r_, .y = dx, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
}

/// sums = sum_k h[k] past[t - k] + D now, t the newest row of `past`, which takes `now` on first.
template <class Act>
void monarch_layer<Act>::convolve_past(const layer_pass<Act>& p, convolution& c, state_part& past, const Act* now, real* sums) const {
  if (c.taps.empty()) c.taps = c.filter.rows_of_taps(p);
  past.grow(1);
  const std::int64_t rows = past.rows();
  Act* newest = past.template as<Act>() + (rows - 1) * d_;
  std::copy_n(now, d_, newest);
  for (std::int64_t i = 0; i < d_; ++i) sums[i] = c.skip.weight[i] * static_cast<real>(newest[i]);
  for (std::int64_t k = 0; k < std::min(rows, context_); ++k) {
    const real* h = c.taps.data() + k * d_;
    const Act* row = newest - k * d_;
    for (std::int64_t i = 0; i < d_; ++i) sums[i] += h[i] * static_cast<real>(row[i]);
  }
}

/// A text's beginning at once: as forward, and what is convolved stays in the state.
template <class Act>
void monarch_layer<Act>::begin(const layer_pass<Act>& p, layer_state& state, const Act* x) {
  convolve(p, x);
  state[1].grow(p.length);
  const Act* u = p.rows_of(u_, 3 * d_);
  p.ops.gate(p.stream, {.a = u + d_,
                        .b = u + 2 * d_,
                        .y = state[1].template as<Act>(),
                        .rows = p.length,
                        .cols = d_,
                        .a_stride = 3 * d_,
                        .b_stride = 3 * d_,
                        .y_stride = d_});
  if (!residual_) return;
  state[2].grow(p.length);
  std::copy_n(x, p.length * d_, state[2].template as<Act>());
}

/// Row t of y_, from the state.
template <class Act>
void monarch_layer<Act>::step(const layer_pass<Act>& p, layer_state& state, const Act* x, std::int64_t t) {
  const Act* u = u_ + t * 3 * d_;
  Act* out = y_ + t * d_;
  for (std::int64_t i = 0; i < d_; ++i) out[i] = static_cast<Act>(static_cast<real>(u[d_ + i]) * static_cast<real>(u[2 * d_ + i]));
  convolve_past(p, gated_, state[1], out, sums_);
  for (std::int64_t i = 0; i < d_; ++i) out[i] = static_cast<Act>(static_cast<real>(u[i]) * sums_[i]);
  if (!residual_) return;
  convolve_past(p, *residual_, state[2], x + t * d_, sums_);
  for (std::int64_t i = 0; i < d_; ++i)
    out[i] = static_cast<Act>(static_cast<real>(out[i]) + static_cast<real>(static_cast<Act>(sums_[i])));
}

template <class Act>
void monarch_layer<Act>::advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) {
  ensure(!both_ways_, "monarch: a bidirectional layer sees what comes later, so it cannot decode");
  in_proj_.forward(p, x, in_);
  for (const auto& s : sequences) {
    const auto part = p.part(s);
    conv_.advance(part, (*s.state)[0].template as<Act>(), part.rows_of(in_, 3 * d_), part.rows_of(u_, 3 * d_));
    if (s.position == 0 && s.count > 1)
      begin(part, *s.state, part.rows_of(x, d_));
    else
      for (std::int64_t t = 0; t < s.count; ++t) step(part, *s.state, x, s.first + t);
  }
  out_proj_.forward(p, y_, y);
}

template <class Act>
layer_state monarch_layer<Act>::start() const {
  layer_state state{conv_.start(), growing_part<Act>(state_kind::hyena, d_, context_)};
  if (residual_) state.push_back(growing_part<Act>(state_kind::hyena, d_, context_));
  return state;
}

template <class Act>
void monarch_layer<Act>::weights_changed() {
  in_proj_.matrix()->weights_changed();
  out_proj_.matrix()->weights_changed();
  gated_.filter.weights_changed();
  gated_.taps.clear();
  if (!residual_) return;
  residual_->filter.weights_changed();
  residual_->taps.clear();
}

namespace {

constexpr option_field options[] = {
    integer_option("monarch_context", 1024, 1, 1 << 20, "taps of a Monarch mixer's filters, and what their times are parts of"),
    integer_option("monarch_features", 5, 3, 65, "features of a tap's time that its network sees, odd"),
    flag_option("monarch_learned", false, "whether those features are weights, as M2-BERT's are"),
    integer_option("monarch_order", 64, 1, 1024, "width of that network"),
    real_option("monarch_frequency", 10, 1e-3, 1e3, "that the network's sines begin with"),
    integer_option("monarch_short", 3, 1, 16, "taps of the short convolution before a Monarch mixer's gates"),
    flag_option("monarch_bidirectional", false, "whether a Monarch mixer sees later tokens, too: for masked targets, not for decoding"),
    flag_option("monarch_residual", false, "whether a second long convolution runs beside, over the layer's input"),
    flag_option("monarch_bias", false, "whether a Monarch mixer's projections have biases"),
};

expected<void> check(const layer_shape& s) {
  if (s.integer("monarch_features") % 2 == 0)
    return bad_option(s, "monarch_features", "it must be odd: the time, and pairs of cosine and sine");
  return {};
}

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t d = s.d_model, width = s.integer("monarch_short");
  const bool biases = s.flag("monarch_bias");
  tensors.add_matrix("in_proj.weight", 3 * d, d);
  if (biases) tensors.add_bias("in_proj.bias", 3 * d);
  tensors.add("short_filter.weight", {3 * d, 1, width}, true, uniform_values(1 / std::sqrt(static_cast<double>(width))));
  tensors.add_bias("short_filter.bias", 3 * d);
  declare_implicit_filter(filter_of(s), "filter.", tensors);
  tensors.add_vector("filter.D", d, normal_values(1));
  if (s.flag("monarch_residual")) {
    declare_implicit_filter(filter_of(s), "residual_filter.", tensors);
    tensors.add_vector("residual_filter.D", d, normal_values(1));
  }
  tensors.add_output("out_proj.weight", d, d);
  if (biases) tensors.add_bias("out_proj.bias", d);
}

}  // namespace

extern const layer_kind monarch_kind;
const layer_kind monarch_kind{.name = "monarch",
                              .title = "Monarch Mixer (long convolution, implicit filters)",
                              .folder = "monarch",
                              .mixes_sequence = true,
                              .options = options,
                              .check = check,
                              .declare = declare,
                              .make_f32 = make_layer<monarch_layer, float>,
                              .make_b16 = make_layer<monarch_layer, kernels::bf16>,
                              .make_f64 = make_layer<monarch_layer, double>,
                              .sees_ahead = [](const layer_shape& s) { return s.flag("monarch_bidirectional"); }};

template class monarch_layer<float>;
template class monarch_layer<kernels::bf16>;
template class monarch_layer<double>;

}  // namespace isthmus
