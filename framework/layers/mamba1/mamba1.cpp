#include "framework/layers/mamba1/mamba1.hpp"

#include "framework/core/error.hpp"
#include "framework/layers/state_space.hpp"

#include <cmath>

namespace isthmus {

namespace {

/// 0 stands for the paper's rank, ceil(d_model / 16).
std::int64_t rank_of(const layer_shape& shape) {
  const std::int64_t rank = shape.integer("scan_rank");
  return rank != 0 ? rank : (shape.d_model + 15) / 16;
}

}  // namespace

template <class Act>
mamba1_layer<Act>::mamba1_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : inner_(shape.integer("ssm_inner")),
      state_(shape.integer("scan_state")),
      rank_(rank_of(shape)),
      chunk_(shape.integer("scan_chunk")),
      dbc_width_(rank_ + 2 * state_),
      in_proj_(parts, {"in_proj.weight"}),
      x_proj_(parts, {"x_proj.weight"}),
      dt_proj_(parts, {"dt_proj.weight"}),
      out_proj_(parts, {"out_proj.weight"}),
      conv_(parts.vector("conv1d.weight"), parts.vector("conv1d.bias"), inner_, shape.integer("conv_width"), 2 * inner_,
            kernels::conv_activation::silu),
      dt_bias_(parts.vector("dt_proj.bias")),
      a_log_(parts.vector("A_log")),
      d_(parts.vector("D")),
      eps_(static_cast<real>(shape.norm_eps)) {
  if (!shape.flag("scan_norms")) return;
  norms_ = {{parts.vector("dt_layernorm.weight"), 0, rank_},
            {parts.vector("b_layernorm.weight"), rank_, state_},
            {parts.vector("c_layernorm.weight"), rank_ + state_, state_}};
}

template <class Act>
void mamba1_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length;
  xz_ = kept.take<Act>(rows * 2 * inner_);
  u_ = kept.take<Act>(rows * inner_);
  dbc_ = kept.take<Act>(rows * dbc_width_);
  normed_ = norms_.empty() ? dbc_ : kept.take<Act>(rows * dbc_width_);
  dt_ = kept.take<Act>(rows * inner_);
  y_ = kept.take<Act>(rows * inner_);
  states_ = kept.take<real>(batch * ((length + chunk_ - 1) / chunk_) * inner_ * state_);
  d_xz_ = shared.take<Act>(rows * 2 * inner_);
  d_u_ = shared.take<Act>(rows * inner_);
  d_dbc_ = shared.take<Act>(rows * dbc_width_);
  d_dt_ = shared.take<Act>(rows * inner_);
  d_y_ = shared.take<Act>(rows * inner_);
}

template <class Act>
void mamba1_layer<Act>::project(const layer_pass<Act>& p) const {
  x_proj_.forward(p, u_, dbc_);
  normalise(p);
  p.ops.linear(p.stream, {.w = dt_proj_.matrix(), .x = normed_, .y = dt_, .rows = p.rows(), .x_stride = dbc_width_, .y_stride = inner_});
}

template <class Act>
void mamba1_layer<Act>::normalise(const layer_pass<Act>& p) const {
  for (const auto& n : norms_)
    p.ops.column_norm(p.stream, {.x = dbc_ + n.first,
                                 .gain = n.gain.weight,
                                 .y = normed_ + n.first,
                                 .rows = p.rows(),
                                 .cols = n.count,
                                 .x_stride = dbc_width_,
                                 .y_stride = dbc_width_,
                                 .eps = eps_});
}

/// d_dbc_, in place.
template <class Act>
void mamba1_layer<Act>::normalise_backward(const layer_pass<Act>& p) const {
  for (const auto& n : norms_)
    p.ops.column_norm_backward(p.stream, {.dy = d_dbc_ + n.first,
                                          .x = dbc_ + n.first,
                                          .gain = n.gain.weight,
                                          .dx = d_dbc_ + n.first,
                                          .d_gain = n.gain.gradient,
                                          .rows = p.rows(),
                                          .cols = n.count,
                                          .dy_stride = dbc_width_,
                                          .x_stride = dbc_width_,
                                          .dx_stride = dbc_width_,
                                          .eps = eps_});
}

template <class Act>
void mamba1_layer<Act>::scan(const layer_pass<Act>& p, real* chunk_states, real* h) const {
  const Act* b = p.rows_of(normed_, dbc_width_) + rank_;
  p.ops.selective_scan(p.stream, {.x = p.rows_of(u_, inner_),
                                  .dt = p.rows_of(dt_, inner_),
                                  .b = b,
                                  .c = b + state_,
                                  .z = p.rows_of(xz_, 2 * inner_) + inner_,
                                  .dt_bias = dt_bias_.weight,
                                  .a_log = a_log_.weight,
                                  .d = d_.weight,
                                  .y = p.rows_of(y_, inner_),
                                  .states = chunk_states,
                                  .initial = h,
                                  .final = h,
                                  .batch = p.batch,
                                  .length = p.length,
                                  .channels = inner_,
                                  .state = state_,
                                  .chunk = chunk_,
                                  .x_stride = inner_,
                                  .dt_stride = inner_,
                                  .bc_stride = dbc_width_,
                                  .z_stride = 2 * inner_});
}

template <class Act>
void mamba1_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  in_proj_.forward(p, x, xz_);
  conv_.forward(p, xz_, u_);
  project(p);
  scan(p, states_, nullptr);
  out_proj_.forward(p, y_, y);
}

template <class Act>
void mamba1_layer<Act>::run_backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const layer_state* before,
                                     layer_state* d_state) {
  out_proj_.backward(p, y_, dy, d_y_);
  scan_backward(p, d_state ? (*d_state)[1].template as<real>() : nullptr);
  project_backward(p);
  conv_.backward(p, xz_, d_u_, d_xz_, before ? (*before)[0].template as<Act>() : nullptr,
                 d_state ? (*d_state)[0].template as<Act>() : nullptr);
  in_proj_.backward(p, x, d_xz_, dx);
}

/// d_u_, d_dt_, d_dbc_'s columns of b and c, d_xz_'s of z.
template <class Act>
void mamba1_layer<Act>::scan_backward(const layer_pass<Act>& p, real* d_state) const {
  p.ops.selective_scan_backward(p.stream, {.x = u_,
                                           .dt = dt_,
                                           .b = normed_ + rank_,
                                           .c = normed_ + rank_ + state_,
                                           .z = xz_ + inner_,
                                           .dt_bias = dt_bias_.weight,
                                           .a_log = a_log_.weight,
                                           .d = d_.weight,
                                           .dy = d_y_,
                                           .states = states_,
                                           .dx = d_u_,
                                           .d_dt = d_dt_,
                                           .db = d_dbc_ + rank_,
                                           .dc = d_dbc_ + rank_ + state_,
                                           .dz = d_xz_ + inner_,
                                           .d_dt_bias = dt_bias_.gradient,
                                           .d_a_log = a_log_.gradient,
                                           .d_d = d_.gradient,
                                           .d_final = d_state,
                                           .d_initial = d_state,
                                           .batch = p.batch,
                                           .length = p.length,
                                           .channels = inner_,
                                           .state = state_,
                                           .chunk = chunk_,
                                           .x_stride = inner_,
                                           .dt_stride = inner_,
                                           .bc_stride = dbc_width_,
                                           .z_stride = 2 * inner_,
                                           .dx_stride = inner_,
                                           .d_dt_stride = inner_,
                                           .d_bc_stride = dbc_width_,
                                           .dz_stride = 2 * inner_});
}

/// Back through dt_proj into d_dbc_'s first columns, then through the norms and x_proj: d_u_ grows. d_y_ has served, and holds what it
/// grows by.
template <class Act>
void mamba1_layer<Act>::project_backward(const layer_pass<Act>& p) const {
  p.ops.linear_backward_input(
      p.stream, {.w = dt_proj_.matrix(), .dy = d_dt_, .dx = d_dbc_, .rows = p.rows(), .dy_stride = inner_, .dx_stride = dbc_width_});
  p.ops.linear_backward_weight(p.stream, {.w = dt_proj_.matrix(),
                                          .x = normed_,
                                          .dy = d_dt_,
                                          .dw = dt_proj_.gradient(),
                                          .rows = p.rows(),
                                          .x_stride = dbc_width_,
                                          .dy_stride = inner_});
  normalise_backward(p);
  x_proj_.backward(p, u_, d_dbc_, d_y_);
  p.ops.add(p.stream, {.x = d_y_, .y = d_u_, .rows = p.rows(), .cols = inner_, .x_stride = inner_, .y_stride = inner_});
}

template <class Act>
void mamba1_layer<Act>::step(const layer_pass<Act>& p, real* h) const {
  const Act* b = p.rows_of(normed_, dbc_width_) + rank_;
  p.ops.selective_scan_step(p.stream, {.x = p.rows_of(u_, inner_),
                                       .dt = p.rows_of(dt_, inner_),
                                       .b = b,
                                       .c = b + state_,
                                       .z = p.rows_of(xz_, 2 * inner_) + inner_,
                                       .dt_bias = dt_bias_.weight,
                                       .a_log = a_log_.weight,
                                       .d = d_.weight,
                                       .h = h,
                                       .y = p.rows_of(y_, inner_),
                                       .channels = inner_,
                                       .state = state_});
}

template <class Act>
void mamba1_layer<Act>::advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) {
  in_proj_.forward(p, x, xz_);
  for (const auto& s : sequences) {
    const auto part = p.part(s);
    conv_.advance(part, (*s.state)[0].as<Act>(), part.rows_of(xz_, 2 * inner_), part.rows_of(u_, inner_));
  }
  project(p);
  for (const auto& s : sequences) {
    auto* h = (*s.state)[1].as<real>();
    if (s.count == 1)
      step(p.part(s), h);
    else
      scan(p.part(s), nullptr, h);
  }
  out_proj_.forward(p, y_, y);
}

template <class Act>
void mamba1_layer<Act>::forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) {
  ensure(p.batch == 1, "mamba1: a state is of one sequence");
  in_proj_.forward(p, x, xz_);
  conv_.forward_from(p, state[0].template as<Act>(), xz_, u_);
  project(p);
  scan(p, states_, state[1].template as<real>());
  out_proj_.forward(p, y_, y);
}

template <class Act>
void mamba1_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  run_backward(p, x, dy, dx, nullptr, nullptr);
}

template <class Act>
void mamba1_layer<Act>::backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                                      layer_state& d_state) {
  run_backward(p, x, dy, dx, &before, &d_state);
}

template <class Act>
layer_state mamba1_layer<Act>::start() const {
  return {conv_.start(), fixed_part<real>(state_kind::ssm, inner_ * state_)};
}

template <class Act>
void mamba1_layer<Act>::weights_changed() {
  for (const auto* proj : {&in_proj_, &x_proj_, &dt_proj_, &out_proj_}) proj->matrix()->weights_changed();
}

namespace {

constexpr option_field options[] = {
    ssm_inner_option,
    integer_option("scan_state", 16, 1, 64, "state size of a Mamba-1 channel"),
    integer_option("scan_rank", 0, 0, 4096, "rank of Mamba-1's time steps; 0: d_model / 16, rounded up"),
    conv_width_option,
    flag_option("scan_norms", false, "RMS norms over Mamba-1's time steps, B and C, as Jamba has them"),
    integer_option("scan_chunk", 64, 1, 1024, "tokens between two states that Mamba-1 keeps for its backward pass"),
};

expected<void> check(const layer_shape&) { return {}; }

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t inner = s.integer("ssm_inner"), state = s.integer("scan_state"), rank = rank_of(s), width = s.integer("conv_width");
  tensors.add_matrix("in_proj.weight", 2 * inner, s.d_model);
  tensors.add("conv1d.weight", {inner, 1, width}, true, uniform_values(1 / std::sqrt(static_cast<double>(width))));
  tensors.add_vector("conv1d.bias", inner, constant_values(0));
  tensors.add_matrix("x_proj.weight", rank + 2 * state, inner);
  tensors.add_matrix("dt_proj.weight", inner, rank);
  tensors.add_vector("dt_proj.bias", inner, time_step_biases());
  // Every channel begins with decays of 1 ... N.
  tensors.add("A_log", {inner, state}, false, [state](rng&, std::span<float> w) {
    for (std::size_t i = 0; i < w.size(); ++i)
      w[i] = static_cast<float>(std::log(static_cast<double>(i % static_cast<std::size_t>(state)) + 1));
  });
  tensors.add_vector("D", inner, constant_values(1));
  if (s.flag("scan_norms")) {
    tensors.add_vector("dt_layernorm.weight", rank, constant_values(1));
    tensors.add_vector("b_layernorm.weight", state, constant_values(1));
    tensors.add_vector("c_layernorm.weight", state, constant_values(1));
  }
  tensors.add_output("out_proj.weight", s.d_model, inner);
}

}  // namespace

extern const layer_kind mamba1_kind;
const layer_kind mamba1_kind{.name = "mamba1",
                             .title = "Mamba (selective scan)",
                             .folder = "mamba",
                             .mixes_sequence = true,
                             .options = options,
                             .check = check,
                             .declare = declare,
                             .make_f32 = make_layer<mamba1_layer, float>,
                             .make_b16 = make_layer<mamba1_layer, kernels::bf16>,
                             .make_f64 = make_layer<mamba1_layer, double>};

template class mamba1_layer<float>;
template class mamba1_layer<kernels::bf16>;
template class mamba1_layer<double>;

}  // namespace isthmus
