#include "framework/layers/hyena/hyena.hpp"

#include "framework/core/error.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace isthmus {

namespace {

constexpr std::array<std::string_view, 3> filter_words{"modal", "decays", "explicit"};

kernels::modal_form form_of(const layer_shape& s) {
  return s.word("hyena_filter") == "decays" ? kernels::modal_form::decays : kernels::modal_form::complex;
}
std::int64_t filters_of(const layer_shape& s) { return s.integer("hyena_filters") != 0 ? s.integer("hyena_filters") : s.d_model; }

}  // namespace

template <class Act>
hyena_layer<Act>::hyena_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : d_(shape.d_model),
      taps_(shape.integer("hyena_taps")),
      filters_(filters_of(shape)),
      explicit_(shape.word("hyena_filter") == "explicit"),
      in_proj_(parts, {"in_proj.weight"}, shape.flag("hyena_bias")),
      out_proj_(parts, {"out_proj.weight"}, shape.flag("hyena_bias")),
      conv_(parts.vector("short_filter.weight"), parts.vector("short_filter.bias"), 3 * d_, shape.integer("hyena_short"), 3 * d_,
            kernels::conv_activation::none),
      skip_(parts.vector("filter.D")) {
  if (explicit_)
    tap_weight_ = parts.vector("filter.weight");
  else
    filter_.emplace(form_of(shape), d_, shape.integer("hyena_modes"), parts, skip_);
}

template <class Act>
void hyena_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length;
  in_ = kept.take<Act>(rows * 3 * d_);
  u_ = kept.take<Act>(rows * 3 * d_);
  y_ = kept.take<Act>(rows * d_);
  d_in_ = shared.take<Act>(rows * 3 * d_);
  d_u_ = shared.take<Act>(rows * 3 * d_);
  d_y_ = shared.take<Act>(rows * d_);
  if (filter_) return filter_->place(length, shared);
  w_ = kept.take<Act>(rows * d_);
  c_ = kept.take<Act>(rows * d_);
  d_w_ = shared.take<Act>(rows * d_);
}

/// c = taps (*) w + D w.
template <class Act>
kernels::conv1d_args<Act> hyena_layer<Act>::taps(const layer_pass<Act>& p, Act* state) const {
  return {.x = p.rows_of(w_, d_),
          .weight = tap_weight_.weight,
          .bias = nullptr,
          .skip = skip_.weight,
          .y = p.rows_of(c_, d_),
          .initial = state,
          .final = state,
          .batch = p.batch,
          .length = p.length,
          .channels = d_,
          .filters = filters_,
          .width = taps_,
          .x_stride = d_,
          .activation = kernels::conv_activation::none};
}

template <class Act>
void hyena_layer<Act>::gate(const layer_pass<Act>& p, const Act* a, std::int64_t a_stride, const Act* b, std::int64_t b_stride,
                            Act* to) const {
  p.ops.gate(p.stream, {.a = a, .b = b, .y = to, .rows = p.rows(), .cols = d_, .a_stride = a_stride, .b_stride = b_stride, .y_stride = d_});
}

template <class Act>
void hyena_layer<Act>::convolve_taps(const layer_pass<Act>& p, Act* state) const {
  const Act* u = p.rows_of(u_, 3 * d_);
  gate(p, u + d_, 3 * d_, u + 2 * d_, 3 * d_, p.rows_of(w_, d_));
  p.ops.conv1d(p.stream, taps(p, state));
  gate(p, u, 3 * d_, p.rows_of(c_, d_), d_, p.rows_of(y_, d_));
}

template <class Act>
void hyena_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  in_proj_.forward(p, x, in_);
  conv_.forward(p, in_, u_);
  if (filter_)
    filter_->forward(p, u_, y_);
  else
    convolve_taps(p, nullptr);
  out_proj_.forward(p, y_, y);
}

template <class Act>
void hyena_layer<Act>::run_backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const layer_state* before,
                                    layer_state* d_state) {
  out_proj_.backward(p, y_, dy, d_y_);
  if (filter_ && d_state)
    filter_->backward_from(p, u_, d_y_, d_u_, (*d_state)[1].template as<real>());
  else if (filter_)
    filter_->backward(p, u_, d_y_, d_u_);
  else
    taps_backward(p, before ? (*before)[1].template as<Act>() : nullptr, d_state ? (*d_state)[1].template as<Act>() : nullptr);
  conv_.backward(p, in_, d_u_, d_in_, before ? (*before)[0].template as<Act>() : nullptr,
                 d_state ? (*d_state)[0].template as<Act>() : nullptr);
  in_proj_.backward(p, x, d_in_, dx);
}

/// d_u_ from d_y_, which holds dc on the way.
template <class Act>
void hyena_layer<Act>::taps_backward(const layer_pass<Act>& p, const Act* before, Act* d_state) const {
  const std::int64_t wide = 3 * d_, rows = p.rows();
  p.ops.gate_backward(p.stream, {.a = u_,
                                 .b = c_,
                                 .dy = d_y_,
                                 .da = d_u_,
                                 .db = d_w_,
                                 .rows = rows,
                                 .cols = d_,
                                 .a_stride = wide,
                                 .b_stride = d_,
                                 .dy_stride = d_,
                                 .da_stride = wide,
                                 .db_stride = d_});
  p.ops.conv1d_backward(p.stream, {.x = w_,
                                   .weight = tap_weight_.weight,
                                   .bias = nullptr,
                                   .skip = skip_.weight,
                                   .dy = d_w_,
                                   .dx = d_y_,
                                   .d_weight = tap_weight_.gradient,
                                   .d_bias = nullptr,
                                   .d_skip = skip_.gradient,
                                   .initial = before,
                                   .d_final = d_state,
                                   .d_initial = d_state,
                                   .batch = p.batch,
                                   .length = p.length,
                                   .channels = d_,
                                   .filters = filters_,
                                   .width = taps_,
                                   .x_stride = d_,
                                   .dx_stride = d_,
                                   .activation = kernels::conv_activation::none});
  p.ops.gate_backward(p.stream, {.a = u_ + d_,
                                 .b = u_ + 2 * d_,
                                 .dy = d_y_,
                                 .da = d_u_ + d_,
                                 .db = d_u_ + 2 * d_,
                                 .rows = rows,
                                 .cols = d_,
                                 .a_stride = wide,
                                 .b_stride = wide,
                                 .dy_stride = d_,
                                 .da_stride = wide,
                                 .db_stride = wide});
}

template <class Act>
void hyena_layer<Act>::advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) {
  in_proj_.forward(p, x, in_);
  for (const auto& s : sequences) {
    const auto part = p.part(s);
    conv_.advance(part, (*s.state)[0].as<Act>(), part.rows_of(in_, 3 * d_), part.rows_of(u_, 3 * d_));
    if (filter_)
      filter_->advance(part, (*s.state)[1].as<real>(), part.rows_of(u_, 3 * d_), part.rows_of(y_, d_));
    else
      convolve_taps(part, (*s.state)[1].as<Act>());
  }
  out_proj_.forward(p, y_, y);
}

template <class Act>
void hyena_layer<Act>::forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) {
  ensure(p.batch == 1, "hyena: a state is of one sequence");
  in_proj_.forward(p, x, in_);
  conv_.forward_from(p, state[0].template as<Act>(), in_, u_);
  if (filter_)
    filter_->forward_from(p, state[1].template as<real>(), u_, y_);
  else
    convolve_taps(p, state[1].template as<Act>());
  out_proj_.forward(p, y_, y);
}

template <class Act>
void hyena_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  run_backward(p, x, dy, dx, nullptr, nullptr);
}

template <class Act>
void hyena_layer<Act>::backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                                     layer_state& d_state) {
  run_backward(p, x, dy, dx, &before, &d_state);
}

template <class Act>
layer_state hyena_layer<Act>::start() const {
  if (filter_) return {conv_.start(), fixed_part<real>(state_kind::hyena, filter_->state_size())};
  return {conv_.start(), fixed_part<Act>(state_kind::hyena, (taps_ - 1) * d_)};
}

template <class Act>
void hyena_layer<Act>::weights_changed() {
  in_proj_.matrix()->weights_changed();
  out_proj_.matrix()->weights_changed();
}

namespace {

constexpr option_field options[] = {
    word_option("hyena_filter", filter_words, "what Hyena's filters are: sums of complex exponentials, of real ones, or explicit taps"),
    integer_option("hyena_modes", 8, 1, 64, "exponentials of a filter"),
    integer_option("hyena_taps", 7, 1, 128, "taps of an explicit filter"),
    integer_option("hyena_filters", 0, 0, 65536, "explicit filters that the channels share; divides d_model; 0: one a channel"),
    integer_option("hyena_short", 3, 1, 16, "taps of the short convolution before the gates"),
    flag_option("hyena_bias", false, "whether Hyena's projections have biases"),
};

expected<void> check(const layer_shape& s) {
  if (s.d_model % filters_of(s) != 0) return bad_option(s, "hyena_filters", fmt::format("it must divide d_model = {}", s.d_model));
  return {};
}

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t d = s.d_model, width = s.integer("hyena_short"), taps = s.integer("hyena_taps");
  tensors.add_matrix("in_proj.weight", 3 * d, d);
  if (s.flag("hyena_bias")) tensors.add_bias("in_proj.bias", 3 * d);
  tensors.add("short_filter.weight", {3 * d, 1, width}, true, uniform_values(1 / std::sqrt(static_cast<double>(width))));
  tensors.add_vector("short_filter.bias", 3 * d, constant_values(0));
  if (s.word("hyena_filter") == "explicit")
    tensors.add("filter.weight", {filters_of(s), 1, taps}, true, normal_values(1 / std::sqrt(static_cast<double>(taps))));
  else
    declare_long_filter(form_of(s), d, s.integer("hyena_modes"), tensors);
  tensors.add_vector("filter.D", d, constant_values(1));
  tensors.add_output("out_proj.weight", d, d);
  if (s.flag("hyena_bias")) tensors.add_bias("out_proj.bias", d);
}

}  // namespace

extern const layer_kind hyena_kind;
const layer_kind hyena_kind{.name = "hyena",
                            .title = "Hyena (long gated convolution)",
                            .folder = "hyena",
                            .mixes_sequence = true,
                            .options = options,
                            .check = check,
                            .declare = declare,
                            .make_f32 = make_layer<hyena_layer, float>,
                            .make_b16 = make_layer<hyena_layer, kernels::bf16>,
                            .make_f64 = make_layer<hyena_layer, double>};

template class hyena_layer<float>;
template class hyena_layer<kernels::bf16>;
template class hyena_layer<double>;

}  // namespace isthmus
