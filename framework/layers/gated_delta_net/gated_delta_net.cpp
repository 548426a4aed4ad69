#include "framework/layers/gated_delta_net/gated_delta_net.hpp"

#include "framework/core/error.hpp"
#include "framework/layers/state_space.hpp"

#include <cmath>

namespace isthmus {

template <class Act>
gated_delta_net_layer<Act>::gated_delta_net_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : heads_(shape.integer("delta_heads")),
      key_dim_(shape.integer("delta_key_dim")),
      value_dim_(shape.integer("delta_value_dim")),
      chunk_(shape.integer("delta_chunk")),
      channels_(heads_ * (2 * key_dim_ + value_dim_)),
      in_width_(channels_ + heads_ * (value_dim_ + 2)),
      eps_(static_cast<real>(shape.norm_eps)),
      in_proj_(parts, {"in_proj.weight"}),
      out_proj_(parts, {"out_proj.weight"}),
      conv_(parts.vector("conv1d.weight"), {nullptr, nullptr}, channels_, shape.integer("conv_width"), in_width_,
            kernels::conv_activation::silu),
      a_log_(parts.vector("A_log")),
      dt_bias_(parts.vector("dt_bias")),
      norm_(parts.vector("norm.weight")) {}

template <class Act>
void gated_delta_net_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length;
  in_ = kept.take<Act>(rows * in_width_);
  qkv_ = kept.take<Act>(rows * channels_);
  y_ = kept.take<Act>(rows * heads_ * value_dim_);
  states_ = kept.take<real>(batch * heads_ * ((length + chunk_ - 1) / chunk_) * key_dim_ * value_dim_);
  d_in_ = shared.take<Act>(rows * in_width_);
  d_qkv_ = shared.take<Act>(rows * channels_);
  d_y_ = shared.take<Act>(rows * heads_ * value_dim_);
}

template <class Act>
delta_rule_args<Act> gated_delta_net_layer<Act>::rule(const layer_pass<Act>& p, real* states, real* state) const {
  const Act* z = p.rows_of(in_, in_width_) + channels_;
  const Act* beta = z + heads_ * value_dim_;
  return {.qkv = p.rows_of(qkv_, channels_),
          .z = z,
          .beta = beta,
          .alpha = beta + heads_,
          .a_log = a_log_.weight,
          .dt_bias = dt_bias_.weight,
          .gain = norm_.weight,
          .y = p.rows_of(y_, heads_ * value_dim_),
          .states = states,
          .state = state,
          .batch = p.batch,
          .length = p.length,
          .heads = heads_,
          .key_dim = key_dim_,
          .value_dim = value_dim_,
          .chunk = chunk_,
          .stride = in_width_,
          .eps = eps_};
}

template <class Act>
void gated_delta_net_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  in_proj_.forward(p, x, in_);
  conv_.forward(p, in_, qkv_);
  delta_rule(p.stream, rule(p, states_, nullptr));
  out_proj_.forward(p, y_, y);
}

template <class Act>
void gated_delta_net_layer<Act>::run_backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const layer_state* before,
                                              layer_state* d_state) {
  out_proj_.backward(p, y_, dy, d_y_);
  real* d_s = d_state ? (*d_state)[1].template as<real>() : nullptr;
  Act* d_beta = d_in_ + channels_ + heads_ * value_dim_;
  delta_rule_backward(p.stream, rule(p, states_, nullptr),
                      {.dy = d_y_,
                       .d_qkv = d_qkv_,
                       .dz = d_in_ + channels_,
                       .d_beta = d_beta,
                       .d_alpha = d_beta + heads_,
                       .d_a_log = a_log_.gradient,
                       .d_dt_bias = dt_bias_.gradient,
                       .d_gain = norm_.gradient,
                       .d_final = d_s,
                       .d_initial = d_s});
  conv_.backward(p, in_, d_qkv_, d_in_, before ? (*before)[0].template as<Act>() : nullptr,
                 d_state ? (*d_state)[0].template as<Act>() : nullptr);
  in_proj_.backward(p, x, d_in_, dx);
}

template <class Act>
void gated_delta_net_layer<Act>::advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) {
  in_proj_.forward(p, x, in_);
  for (const auto& s : sequences) {
    const auto part = p.part(s);
    conv_.advance(part, (*s.state)[0].as<Act>(), part.rows_of(in_, in_width_), part.rows_of(qkv_, channels_));
    delta_rule(p.stream, rule(part, nullptr, (*s.state)[1].as<real>()));
  }
  out_proj_.forward(p, y_, y);
}

template <class Act>
void gated_delta_net_layer<Act>::forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) {
  ensure(p.batch == 1, "gated_delta_net: a state is of one sequence");
  in_proj_.forward(p, x, in_);
  conv_.forward_from(p, state[0].template as<Act>(), in_, qkv_);
  delta_rule(p.stream, rule(p, states_, state[1].template as<real>()));
  out_proj_.forward(p, y_, y);
}

template <class Act>
void gated_delta_net_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  run_backward(p, x, dy, dx, nullptr, nullptr);
}

template <class Act>
void gated_delta_net_layer<Act>::backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                                               layer_state& d_state) {
  run_backward(p, x, dy, dx, &before, &d_state);
}

template <class Act>
layer_state gated_delta_net_layer<Act>::start() const {
  return {conv_.start(), fixed_part<real>(state_kind::ssm, heads_ * key_dim_ * value_dim_)};
}

template <class Act>
void gated_delta_net_layer<Act>::weights_changed() {
  in_proj_.matrix()->weights_changed();
  out_proj_.matrix()->weights_changed();
}

namespace {

constexpr option_field options[] = {
    integer_option("delta_heads", 4, 1, 1024, "heads of a gated DeltaNet"),
    integer_option("delta_key_dim", 64, 1, 512, "width of its keys and queries"),
    integer_option("delta_value_dim", 64, 1, 512, "width of its values"),
    conv_width_option,
    integer_option("delta_chunk", 16, 1, 1024, "tokens between two states that it keeps for its backward pass"),
};

expected<void> check(const layer_shape&) { return {}; }

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t heads = s.integer("delta_heads"), key = s.integer("delta_key_dim"), value = s.integer("delta_value_dim");
  const std::int64_t channels = heads * (2 * key + value), width = s.integer("conv_width");
  tensors.add_matrix("in_proj.weight", channels + heads * (value + 2), s.d_model);
  tensors.add("conv1d.weight", {channels, 1, width}, true, uniform_values(1 / std::sqrt(static_cast<double>(width))));
  tensors.add_vector("A_log", heads, drawn_values([](rng& random) { return std::log(1 + 15 * random.uniform()); }));
  tensors.add_vector("dt_bias", heads, time_step_biases());
  tensors.add_vector("norm.weight", value, constant_values(1));
  tensors.add_output("out_proj.weight", s.d_model, heads * value);
}

}  // namespace

extern const layer_kind gated_delta_net_kind;
const layer_kind gated_delta_net_kind{.name = "gated_delta_net",
                                      .title = "gated DeltaNet",
                                      .folder = "linear_attn",
                                      .mixes_sequence = true,
                                      .options = options,
                                      .check = check,
                                      .declare = declare,
                                      .make_f32 = make_layer<gated_delta_net_layer, float>,
                                      .make_b16 = make_layer<gated_delta_net_layer, kernels::bf16>,
                                      .make_f64 = make_layer<gated_delta_net_layer, double>};

template class gated_delta_net_layer<float>;
template class gated_delta_net_layer<kernels::bf16>;
template class gated_delta_net_layer<double>;

}  // namespace isthmus
