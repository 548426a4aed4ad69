#include "framework/layers/mamba2/mamba2.hpp"

#include "framework/core/error.hpp"
#include "framework/layers/state_space.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace isthmus {

namespace {
template <class Real>
Real dt_max_of(double option) {
  return option == 0 ? std::numeric_limits<Real>::infinity() : static_cast<Real>(option);
}
}  // namespace

template <class Act>
mamba2_layer<Act>::mamba2_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : inner_(shape.integer("ssm_inner")),
      heads_(inner_ / shape.integer("ssm_head_dim")),
      head_dim_(shape.integer("ssm_head_dim")),
      groups_(shape.integer("ssm_groups")),
      state_(shape.integer("ssm_state")),
      chunk_(shape.integer("ssm_chunk")),
      conv_channels_(inner_ + 2 * groups_ * state_),
      in_width_(inner_ + conv_channels_ + heads_),
      eps_(static_cast<real>(shape.norm_eps)),
      dt_min_(static_cast<real>(shape.real("ssm_dt_min"))),
      dt_max_(dt_max_of<real>(shape.real("ssm_dt_max"))),
      in_proj_(parts, {"in_proj.weight"}, shape.flag("ssm_bias")),
      out_proj_(parts, {"out_proj.weight"}, shape.flag("ssm_bias")),
      conv_(parts.vector("conv1d.weight"), parts.vector("conv1d.bias"), conv_channels_, shape.integer("conv_width"), in_width_,
            kernels::conv_activation::silu),
      dt_bias_(parts.vector("dt_bias")),
      a_log_(parts.vector("A_log")),
      d_(parts.vector("D")),
      norm_(parts.vector("norm.weight")) {}

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
void mamba2_layer<Act>::scan(const layer_pass<Act>& p, real* ssm_state, real* chunk_states) const {
  const Act* xbc = p.rows_of(xbc_, conv_channels_);
  p.ops.ssd(p.stream, {.x = xbc,
                       .b = xbc + inner_,
                       .c = xbc + inner_ + groups_ * state_,
                       .dt = p.rows_of(zxbcdt_, in_width_) + inner_ + conv_channels_,
                       .dt_bias = dt_bias_.weight,
                       .a_log = a_log_.weight,
                       .d = d_.weight,
                       .y = p.rows_of(y_, inner_),
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
                       .dt_min = dt_min_,
                       .dt_max = dt_max_});
}

template <class Act>
void mamba2_layer<Act>::step(const layer_pass<Act>& p, real* ssm_state) const {
  const Act* xbc = p.rows_of(xbc_, conv_channels_);
  p.ops.ssd_step(p.stream, {.x = xbc,
                            .b = xbc + inner_,
                            .c = xbc + inner_ + groups_ * state_,
                            .dt = p.rows_of(zxbcdt_, in_width_) + inner_ + conv_channels_,
                            .dt_bias = dt_bias_.weight,
                            .a_log = a_log_.weight,
                            .d = d_.weight,
                            .s = ssm_state,
                            .y = p.rows_of(y_, inner_),
                            .heads = heads_,
                            .head_dim = head_dim_,
                            .groups = groups_,
                            .state = state_,
                            .dt_min = dt_min_,
                            .dt_max = dt_max_});
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
  conv_.forward(p, zxbcdt_ + inner_, xbc_);
  scan(p, nullptr, states_);
  gate(p);
  out_proj_.forward(p, gated_, y);
}

template <class Act>
void mamba2_layer<Act>::run_backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const layer_state* before,
                                     layer_state* d_state) {
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
  scan_backward(p, d_state ? (*d_state)[1].template as<real>() : nullptr);
  conv_.backward(p, zxbcdt_ + inner_, d_xbc_, d_zxbcdt_ + inner_, before ? (*before)[0].template as<Act>() : nullptr,
                 d_state ? (*d_state)[0].template as<Act>() : nullptr);
  in_proj_.backward(p, x, d_zxbcdt_, dx);
}

template <class Act>
void mamba2_layer<Act>::scan_backward(const layer_pass<Act>& p, real* d_state) const {
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
                                .d_final = d_state,
                                .d_initial = d_state,
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
                                .dt_min = dt_min_,
                                .dt_max = dt_max_});
}

template <class Act>
void mamba2_layer<Act>::advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) {
  in_proj_.forward(p, x, zxbcdt_);
  for (const auto& s : sequences) {
    const auto part = p.part(s);
    conv_.advance(part, (*s.state)[0].as<Act>(), part.rows_of(zxbcdt_, in_width_) + inner_, part.rows_of(xbc_, conv_channels_));
    auto* ssm_state = (*s.state)[1].as<real>();
    if (s.count == 1)
      step(part, ssm_state);
    else
      scan(part, ssm_state, nullptr);
  }
  gate(p);
  out_proj_.forward(p, gated_, y);
}

template <class Act>
void mamba2_layer<Act>::forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) {
  ensure(p.batch == 1, "mamba2: a state is of one sequence");
  in_proj_.forward(p, x, zxbcdt_);
  conv_.forward_from(p, state[0].template as<Act>(), zxbcdt_ + inner_, xbc_);
  scan(p, state[1].template as<real>(), states_);
  gate(p);
  out_proj_.forward(p, gated_, y);
}

template <class Act>
void mamba2_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  run_backward(p, x, dy, dx, nullptr, nullptr);
}

template <class Act>
void mamba2_layer<Act>::backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                                      layer_state& d_state) {
  run_backward(p, x, dy, dx, &before, &d_state);
}

template <class Act>
layer_state mamba2_layer<Act>::start() const {
  return {conv_.start(), fixed_part<real>(state_kind::ssm, state_size())};
}

template <class Act>
void mamba2_layer<Act>::weights_changed() {
  in_proj_.matrix()->weights_changed();
  out_proj_.matrix()->weights_changed();
}

namespace {

constexpr option_field options[] = {
    ssm_inner_option,
    integer_option("ssm_head_dim", 64, 1, 1024, "width of a Mamba-2 head; divides ssm_inner"),
    integer_option("ssm_state", 64, 1, 1024, "state size of a Mamba-2 head"),
    integer_option("ssm_groups", 1, 1, 1024, "groups that share B and C; divides the number of Mamba-2 heads"),
    conv_width_option,
    integer_option("ssm_chunk", 64, 1, 1024, "tokens in a chunk of the Mamba-2 scan"),
    real_option("ssm_dt_min", 0, 0, 1e6, "Mamba-2's time steps are at least this"),
    real_option("ssm_dt_max", 0, 0, 1e6, "and at most this; 0: no limit"),
    flag_option("ssm_bias", false, "whether Mamba-2's projections have biases"),
};

expected<void> check(const layer_shape& s) {
  if (s.real("ssm_dt_max") != 0 && s.real("ssm_dt_max") < s.real("ssm_dt_min"))
    return bad_option(s, "ssm_dt_max", fmt::format("it must be 0, or at least ssm_dt_min = {}", s.real("ssm_dt_min")));
  const std::int64_t inner = s.integer("ssm_inner"), heads = inner / s.integer("ssm_head_dim");
  if (inner % s.integer("ssm_head_dim") != 0) return bad_option(s, "ssm_head_dim", fmt::format("it must divide ssm_inner = {}", inner));
  if (heads % s.integer("ssm_groups") != 0) return bad_option(s, "ssm_groups", fmt::format("it must divide the {} Mamba-2 heads", heads));
  return {};
}

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t inner = s.integer("ssm_inner"), heads = inner / s.integer("ssm_head_dim"), width = s.integer("conv_width");
  const std::int64_t conv = inner + 2 * s.integer("ssm_groups") * s.integer("ssm_state");
  tensors.add_matrix("in_proj.weight", inner + conv + heads, s.d_model);
  if (s.flag("ssm_bias")) tensors.add_bias("in_proj.bias", inner + conv + heads);
  tensors.add("conv1d.weight", {conv, 1, width}, true, uniform_values(1 / std::sqrt(static_cast<double>(width))));
  tensors.add_vector("conv1d.bias", conv, constant_values(0));
  tensors.add_vector("A_log", heads, drawn_values([](rng& random) { return std::log(1 + 15 * random.uniform()); }));
  tensors.add_vector("D", heads, constant_values(1));
  tensors.add_vector("dt_bias", heads, time_step_biases());
  tensors.add_vector("norm.weight", inner, constant_values(1));
  tensors.add_output("out_proj.weight", s.d_model, inner);
  if (s.flag("ssm_bias")) tensors.add_bias("out_proj.bias", s.d_model);
}

}  // namespace

extern const layer_kind mamba2_kind;
const layer_kind mamba2_kind{.name = "mamba2",
                             .title = "Mamba-2 (state space duality)",
                             .folder = "mamba",
                             .mixes_sequence = true,
                             .options = options,
                             .check = check,
                             .declare = declare,
                             .make_f32 = make_layer<mamba2_layer, float>,
                             .make_b16 = make_layer<mamba2_layer, kernels::bf16>,
                             .make_f64 = make_layer<mamba2_layer, double>};

template class mamba2_layer<float>;
template class mamba2_layer<kernels::bf16>;
template class mamba2_layer<double>;

}  // namespace isthmus
