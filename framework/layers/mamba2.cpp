#include "framework/layers/mamba2.hpp"

#include "framework/core/error.hpp"

#include <limits>

namespace isthmus {

namespace {
// The paper's dt_limit: no clamp.
template <class Real>
constexpr Real dt_max = std::numeric_limits<Real>::infinity();
}  // namespace

template <class Act>
mamba2_layer<Act>::mamba2_layer(const model_config& config, const kernels::op_table<Act>& ops,
                                const parameter_view<kernels::real<Act>>& parameters, const std::string& prefix)
    : inner_(config.ssm_inner),
      heads_(config.ssm_inner / config.ssm_head_dim),
      head_dim_(config.ssm_head_dim),
      groups_(config.ssm_groups),
      state_(config.ssm_state),
      width_(config.conv_width),
      chunk_(config.ssm_chunk),
      conv_channels_(config.ssm_inner + 2 * config.ssm_groups * config.ssm_state),
      in_width_(config.ssm_inner + conv_channels_ + heads_),
      eps_(static_cast<real>(config.norm_eps)),
      in_proj_(ops, parameters, {prefix + "in_proj.weight"}),
      out_proj_(ops, parameters, {prefix + "out_proj.weight"}) {
  const auto both = [&](const char* name) { return vector{parameters.weight(prefix + name), parameters.gradient(prefix + name)}; };
  conv_weight_ = both("conv1d.weight");
  conv_bias_ = both("conv1d.bias");
  dt_bias_ = both("dt_bias");
  a_log_ = both("A_log");
  d_ = both("D");
  norm_ = both("norm.weight");
}

template <class Act>
void mamba2_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length;
  zxbcdt_ = kept.take<Act>(rows * in_width_);
  xbc_ = kept.take<Act>(rows * conv_channels_);
  y_ = kept.take<Act>(rows * inner_);
  gated_ = kept.take<Act>(rows * inner_);
  rstd_ = kept.take<real>(rows * groups_);
  states_ = kept.take<real>(batch * ((length + chunk_ - 1) / chunk_) * state_size());
  d_zxbcdt_ = shared.take<Act>(rows * in_width_);
  d_xbc_ = shared.take<Act>(rows * conv_channels_);
  d_y_ = shared.take<Act>(rows * inner_);
}

template <class Act>
void mamba2_layer<Act>::conv_and_scan(const layer_pass<Act>& p, Act* conv_state, real* ssm_state, real* chunk_states) const {
  p.ops.conv1d(p.stream, {.x = zxbcdt_ + inner_,
                          .weight = conv_weight_.weight,
                          .bias = conv_bias_.weight,
                          .y = xbc_,
                          .initial = conv_state,
                          .final = conv_state,
                          .batch = p.batch,
                          .length = p.length,
                          .channels = conv_channels_,
                          .width = width_,
                          .x_stride = in_width_});
  p.ops.ssd(p.stream, {.x = xbc_,
                       .b = xbc_ + inner_,
                       .c = xbc_ + inner_ + groups_ * state_,
                       .dt = zxbcdt_ + inner_ + conv_channels_,
                       .dt_bias = dt_bias_.weight,
                       .a_log = a_log_.weight,
                       .d = d_.weight,
                       .y = y_,
                       .states = chunk_states,
                       .initial = ssm_state,
                       .final = ssm_state,
                       .batch = p.batch,
                       .length = p.length,
                       .heads = heads_,
                       .head_dim = head_dim_,
                       .groups = groups_,
                       .state = state_,
                       .chunk = chunk_,
                       .xbc_stride = conv_channels_,
                       .dt_stride = in_width_,
                       .dt_min = 0,
                       .dt_max = dt_max<real>});
}

template <class Act>
void mamba2_layer<Act>::step(const layer_pass<Act>& p, Act* conv_state, real* ssm_state) const {
  p.ops.conv1d_step(p.stream, {.x = zxbcdt_ + inner_,
                               .weight = conv_weight_.weight,
                               .bias = conv_bias_.weight,
                               .state = conv_state,
                               .y = xbc_,
                               .channels = conv_channels_,
                               .width = width_});
  p.ops.ssd_step(p.stream, {.x = xbc_,
                            .b = xbc_ + inner_,
                            .c = xbc_ + inner_ + groups_ * state_,
                            .dt = zxbcdt_ + inner_ + conv_channels_,
                            .dt_bias = dt_bias_.weight,
                            .a_log = a_log_.weight,
                            .d = d_.weight,
                            .s = ssm_state,
                            .y = y_,
                            .heads = heads_,
                            .head_dim = head_dim_,
                            .groups = groups_,
                            .state = state_,
                            .dt_min = 0,
                            .dt_max = dt_max<real>});
}

template <class Act>
void mamba2_layer<Act>::gate(const layer_pass<Act>& p) const {
  p.ops.gated_norm(p.stream, {.y = y_,
                              .z = zxbcdt_,
                              .gain = norm_.weight,
                              .out = gated_,
                              .rstd = rstd_,
                              .rows = p.rows(),
                              .cols = inner_,
                              .groups = groups_,
                              .z_stride = in_width_,
                              .eps = eps_});
}

template <class Act>
void mamba2_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  in_proj_.forward(p, x, zxbcdt_);
  conv_and_scan(p, nullptr, nullptr, states_);
  gate(p);
  out_proj_.forward(p, gated_, y);
}

template <class Act>
void mamba2_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  out_proj_.backward(p, gated_, dy, d_y_);
  p.ops.gated_norm_backward(p.stream, {.d_out = d_y_,
                                       .y = y_,
                                       .z = zxbcdt_,
                                       .gain = norm_.weight,
                                       .rstd = rstd_,
                                       .dy = d_y_,
                                       .dz = d_zxbcdt_,
                                       .d_gain = norm_.gradient,
                                       .rows = p.rows(),
                                       .cols = inner_,
                                       .groups = groups_,
                                       .z_stride = in_width_,
                                       .dz_stride = in_width_});
  scan_backward(p);
  p.ops.conv1d_backward(p.stream, {.x = zxbcdt_ + inner_,
                                   .weight = conv_weight_.weight,
                                   .bias = conv_bias_.weight,
                                   .dy = d_xbc_,
                                   .dx = d_zxbcdt_ + inner_,
                                   .d_weight = conv_weight_.gradient,
                                   .d_bias = conv_bias_.gradient,
                                   .batch = p.batch,
                                   .length = p.length,
                                   .channels = conv_channels_,
                                   .width = width_,
                                   .x_stride = in_width_,
                                   .dx_stride = in_width_});
  in_proj_.backward(p, x, d_zxbcdt_, dx);
}

template <class Act>
void mamba2_layer<Act>::scan_backward(const layer_pass<Act>& p) const {
  const std::int64_t b = inner_, c = inner_ + groups_ * state_, dt = inner_ + conv_channels_;
  p.ops.ssd_backward(p.stream, {.x = xbc_,
                                .b = xbc_ + b,
                                .c = xbc_ + c,
                                .dt = zxbcdt_ + dt,
                                .dt_bias = dt_bias_.weight,
                                .a_log = a_log_.weight,
                                .d = d_.weight,
                                .y = y_,
                                .dy = d_y_,
                                .states = states_,
                                .dx = d_xbc_,
                                .db = d_xbc_ + b,
                                .dc = d_xbc_ + c,
                                .d_dt = d_zxbcdt_ + dt,
                                .d_dt_bias = dt_bias_.gradient,
                                .d_a_log = a_log_.gradient,
                                .d_d = d_.gradient,
                                .batch = p.batch,
                                .length = p.length,
                                .heads = heads_,
                                .head_dim = head_dim_,
                                .groups = groups_,
                                .state = state_,
                                .chunk = chunk_,
                                .xbc_stride = conv_channels_,
                                .dt_stride = in_width_,
                                .d_xbc_stride = conv_channels_,
                                .d_dt_stride = in_width_,
                                .dt_min = 0,
                                .dt_max = dt_max<real>});
}

template <class Act>
void mamba2_layer<Act>::advance(const layer_pass<Act>& p, std::int64_t, layer_state& state, const Act* x, Act* y) {
  ensure(p.batch == 1, "mamba2: a state is of one sequence");
  in_proj_.forward(p, x, zxbcdt_);
  auto* conv_state = reinterpret_cast<Act*>(state.conv.data());
  auto* ssm_state = reinterpret_cast<real*>(state.ssm.data());
  if (p.length == 1)
    step(p, conv_state, ssm_state);
  else
    conv_and_scan(p, conv_state, ssm_state, nullptr);
  gate(p);
  out_proj_.forward(p, gated_, y);
}

template <class Act>
layer_state mamba2_layer<Act>::start() const {
  layer_state state;
  state.conv.resize(static_cast<std::size_t>((width_ - 1) * conv_channels_) * sizeof(Act));
  state.ssm.resize(static_cast<std::size_t>(state_size()) * sizeof(real));
  return state;
}

template <class Act>
void mamba2_layer<Act>::weights_changed() {
  in_proj_.matrix()->weights_changed();
  out_proj_.matrix()->weights_changed();
}

template class mamba2_layer<float>;
template class mamba2_layer<kernels::bf16>;
template class mamba2_layer<double>;

}  // namespace isthmus
