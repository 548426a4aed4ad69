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
typename monarch_layer<Act>::places monarch_layer<Act>::take(std::int64_t rows, std::int64_t length, arena& kept, arena& shared) const {
  places at;
  at.u = kept.take<Act>(rows * 3 * d_);
  at.y = kept.take<Act>(rows * d_);
  at.d_u = shared.take<Act>(rows * 3 * d_);
  at.d_y = shared.take<Act>(rows * d_);
  at.gated = gated_.filter.place(length, shared);
  if (!residual_) return at;
  at.r = shared.take<Act>(rows * d_);
  at.d_r = shared.take<Act>(rows * d_);
  at.residual = residual_->filter.place(length, shared);
  return at;
}

template <class Act>
void monarch_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  in_ = kept.take<Act>(batch * length * 3 * d_);
  d_in_ = shared.take<Act>(batch * length * 3 * d_);
  at_ = take(batch * length, length, kept, shared);
  sums_ = shared.take<real>(d_);
}

/// Filter and extents; the caller says what is convolved.
template <class Act>
kernels::long_conv_args<Act> monarch_layer<Act>::arguments(const layer_pass<Act>& p, const convolution& c,
                                                           const implicit_memory<real>& taps) const {
  return {.plan = plans_.of(p),
          .v = nullptr,
          .x1 = nullptr,
          .x2 = nullptr,
          .h = taps.forward_taps(),
          .h_back = taps.backward_taps(),
          .d = c.skip.weight,
          .y = nullptr,
          .batch = p.batch,
          .length = p.length,
          .channels = d_,
          .filters = d_,
          .taps = taps.taps(),
          .x_stride = d_,
          .y_stride = d_};
}

/// y from u and x, over whole sequences.
template <class Act>
void monarch_layer<Act>::convolve(const layer_pass<Act>& p, const places& at, const Act* x) const {
  gated_.filter.materialise(p, at.gated);
  auto a = arguments(p, gated_, at.gated);
  const Act* u = p.rows_of(at.u, 3 * d_);
  Act* y = p.rows_of(at.y, d_);
  a.v = u + 2 * d_, a.x1 = u + d_, a.x2 = u, a.x_stride = 3 * d_, a.y = y;
  p.ops.long_conv(p.stream, a);
  if (!residual_) return;
  residual_->filter.materialise(p, at.residual);
  auto r = arguments(p, *residual_, at.residual);
  r.v = x, r.y = at.r;
  p.ops.long_conv(p.stream, r);
  p.ops.add(p.stream, {.x = at.r, .y = y, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
}

template <class Act>
void monarch_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  in_proj_.forward(p, x, in_);
  conv_.forward(p, in_, at_.u);
  convolve(p, at_, x);
  out_proj_.forward(p, at_.y, y);
}

/// Filter, its gradients and extents; the caller says what was convolved and where its gradients go.
template <class Act>
kernels::long_conv_backward_args<Act> monarch_layer<Act>::backward_arguments(const layer_pass<Act>& p, const convolution& c,
                                                                             const implicit_memory<real>& taps, const Act* dy) const {
  return {.plan = plans_.of(p),
          .v = nullptr,
          .x1 = nullptr,
          .x2 = nullptr,
          .h = taps.forward_taps(),
          .h_back = taps.backward_taps(),
          .d = c.skip.weight,
          .dy = dy,
          .dv = nullptr,
          .dx1 = nullptr,
          .dx2 = nullptr,
          .dh = taps.d_forward_taps(),
          .dh_back = taps.d_backward_taps(),
          .dd = c.skip.gradient,
          .batch = p.batch,
          .length = p.length,
          .channels = d_,
          .filters = d_,
          .taps = taps.taps(),
          .x_stride = d_,
          .dy_stride = d_,
          .dx_stride = d_};
}

/// d_u and d_r from d_y. The memory of filters is shared: other layers have been there since.
template <class Act>
void monarch_layer<Act>::convolve_back(const layer_pass<Act>& p, const places& at, const Act* x) const {
  const auto back = [&](const convolution& c, const implicit_memory<real>& taps, const kernels::long_conv_backward_args<Act>& a) {
    c.filter.materialise(p, taps);
    c.filter.clear(taps);
    p.ops.long_conv_backward(p.stream, a);
    c.filter.backward(p, taps);
  };
  auto a = backward_arguments(p, gated_, at.gated, at.d_y);
  a.v = at.u + 2 * d_, a.x1 = at.u + d_, a.x2 = at.u, a.x_stride = 3 * d_;
  a.dv = at.d_u + 2 * d_, a.dx1 = at.d_u + d_, a.dx2 = at.d_u, a.dx_stride = 3 * d_;
  back(gated_, at.gated, a);
  if (!residual_) return;
  auto r = backward_arguments(p, *residual_, at.residual, at.d_y);
  r.v = x, r.dv = at.d_r;
  back(*residual_, at.residual, r);
}

template <class Act>
void monarch_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  out_proj_.backward(p, at_.y, dy, at_.d_y);
  convolve_back(p, at_, x);
  conv_.backward(p, in_, at_.d_u, d_in_);
  in_proj_.backward(p, x, d_in_, dx);
  if (residual_) p.ops.add(p.stream, {.x = at_.d_r, .y = dx, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
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
