// A Monarch mixer from a state: token by token, or many at once by one convolution over what the state holds and what is new.
#include "framework/core/error.hpp"
#include "framework/layers/monarch/monarch.hpp"

#include <algorithm>
#include <bit>

namespace isthmus {

namespace {

constexpr std::int64_t rows_by_steps = 64;  // fewer cost less one by one than by Fourier transforms and a network's filter

template <class Act>
const Act* last_rows(const state_part& part, std::int64_t count, std::int64_t width) {
  return part.as<Act>() + (part.rows() - count) * width;
}

}  // namespace

template <class Act>
layer_pass<Act> monarch_layer<Act>::pass_of(const layer_pass<Act>& p, const whole_text& whole) const {
  return {p.ops, p.stream, 1, whole.length, 0, p.rotary, nullptr, p.loss_scale};
}

/// Past rows lie as if their gates were one before the filter and zero behind it, so that nothing comes of them but what the filter carries
/// on.
template <class Act>
typename monarch_layer<Act>::whole_text monarch_layer<Act>::gather(const layer_pass<Act>& p, const layer_state& before, const Act* x) {
  whole_text whole;
  whole.past = std::min(before[1].rows(), context_);
  whole.length = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(whole.past + p.length)));
  const auto carve = [&](arena memory) {
    whole.at = take(whole.length, whole.length, memory, memory);
    if (residual_) whole.x = memory.take<Act>(whole.length * d_);
    return memory.most_used();
  };
  const std::size_t bytes = carve(arena());
  if (!whole_bytes_ || whole_bytes_->size() < bytes) whole_bytes_ = std::make_unique<buffer>(bytes);
  carve(arena(whole_bytes_->bytes()));

  const Act* w = last_rows<Act>(before[1], whole.past, d_);
  Act* u = std::fill_n(whole.at.u, whole.past * 3 * d_, Act(0));
  for (std::int64_t t = 0; t < whole.past; ++t) {
    std::fill_n(whole.at.u + (t * 3 + 1) * d_, d_, Act(1));
    std::copy_n(w + t * d_, d_, whole.at.u + (t * 3 + 2) * d_);
  }
  u = std::copy_n(p.rows_of(at_.u, 3 * d_), p.length * 3 * d_, u);
  std::fill(u, whole.at.u + whole.length * 3 * d_, Act(0));
  if (!residual_) return whole;
  Act* end = std::copy_n(last_rows<Act>(before[2], whole.past, d_), whole.past * d_, whole.x);
  end = std::copy_n(x, p.length * d_, end);
  std::fill(end, whole.x + whole.length * d_, Act(0));
  return whole;
}

/// What is convolved of the pass's rows stays in the state.
template <class Act>
void monarch_layer<Act>::append(const layer_pass<Act>& p, layer_state& state, const Act* x) const {
  const std::int64_t past = state[1].rows();
  state[1].grow(p.length);
  const Act* u = p.rows_of(at_.u, 3 * d_);
  p.ops.gate(p.stream, {.a = u + d_,
                        .b = u + 2 * d_,
                        .y = state[1].template as<Act>() + past * d_,
                        .rows = p.length,
                        .cols = d_,
                        .a_stride = 3 * d_,
                        .b_stride = 3 * d_,
                        .y_stride = d_});
  if (!residual_) return;
  state[2].grow(p.length);
  std::copy_n(x, p.length * d_, state[2].template as<Act>() + past * d_);
}

/// A text's beginning at once, as forward.
template <class Act>
void monarch_layer<Act>::begin(const layer_pass<Act>& p, layer_state& state, const Act* x) {
  convolve(p, at_, x);
  append(p, state, x);
}

/// Many rows behind others at once.
template <class Act>
void monarch_layer<Act>::go_on(const layer_pass<Act>& p, layer_state& state, const Act* x) {
  const whole_text whole = gather(p, state, x);
  convolve(pass_of(p, whole), whole.at, whole.x);
  std::copy_n(whole.at.y + whole.past * d_, p.length * d_, p.rows_of(at_.y, d_));
  append(p, state, x);
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

/// Row t of y, from the state.
template <class Act>
void monarch_layer<Act>::step(const layer_pass<Act>& p, layer_state& state, const Act* x, std::int64_t t) {
  const Act* u = at_.u + t * 3 * d_;
  Act* out = at_.y + t * d_;
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
    conv_.advance(part, (*s.state)[0].template as<Act>(), part.rows_of(in_, 3 * d_), part.rows_of(at_.u, 3 * d_));
    if (s.position == 0 && s.count > 1)
      begin(part, *s.state, part.rows_of(x, d_));
    else if (s.count > rows_by_steps)
      go_on(part, *s.state, part.rows_of(x, d_));
    else
      for (std::int64_t t = 0; t < s.count; ++t) step(part, *s.state, x, s.first + t);
  }
  out_proj_.forward(p, at_.y, y);
}

template <class Act>
void monarch_layer<Act>::forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) {
  ensure(!both_ways_, "monarch: a bidirectional layer sees what comes later, so it has no state");
  in_proj_.forward(p, x, in_);
  conv_.forward_from(p, state[0].template as<Act>(), in_, at_.u);
  go_on(p, state, x);
  out_proj_.forward(p, at_.y, y);
}

/// The gradient of the pass's rows of u, from that of the whole text and from that of x1 v which stayed in the state, d_w [rows, d].
template <class Act>
void monarch_layer<Act>::gates_back(const layer_pass<Act>& p, const whole_text& whole, const Act* d_w) const {
  for (std::int64_t t = 0; t < p.length; ++t)
    for (std::int64_t i = 0; i < d_; ++i) {
      const Act *u = at_.u + t * 3 * d_ + i, *d_u = whole.at.d_u + (whole.past + t) * 3 * d_ + i;
      const auto by_state = static_cast<real>(d_w[t * d_ + i]);
      Act* to = at_.d_u + t * 3 * d_ + i;
      to[0] = d_u[0];
      to[d_] = static_cast<Act>(static_cast<real>(d_u[d_]) + by_state * static_cast<real>(u[2 * d_]));
      to[2 * d_] = static_cast<Act>(static_cast<real>(d_u[2 * d_]) + by_state * static_cast<real>(u[d_]));
    }
}

template <class Act>
void monarch_layer<Act>::backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                                       layer_state& d_state) {
  out_proj_.backward(p, at_.y, dy, at_.d_y);
  const whole_text whole = gather(p, before, x);
  Act* d_y = std::fill_n(whole.at.d_y, whole.past * d_, Act(0));
  d_y = std::copy_n(at_.d_y, p.length * d_, d_y);
  std::fill(d_y, whole.at.d_y + whole.length * d_, Act(0));
  convolve_back(pass_of(p, whole), whole.at, whole.x);

  const std::int64_t held = before[1].rows();
  const auto add = [&](const Act* from, std::int64_t stride, Act* to, std::int64_t count) {
    p.ops.add(p.stream, {.x = from, .y = to, .rows = count, .cols = d_, .x_stride = stride, .y_stride = d_});
  };
  const std::int64_t reached = (held - whole.past) * d_;
  add(whole.at.d_u + 2 * d_, 3 * d_, d_state[1].template as<Act>() + reached, whole.past);
  gates_back(p, whole, d_state[1].template as<Act>() + held * d_);
  conv_.backward(p, in_, at_.d_u, d_in_, before[0].template as<Act>(), d_state[0].template as<Act>());
  in_proj_.backward(p, x, d_in_, dx);
  if (residual_) {
    add(whole.at.d_r, d_, d_state[2].template as<Act>() + reached, whole.past);
    add(whole.at.d_r + whole.past * d_, d_, dx, p.length);
    add(d_state[2].template as<Act>() + held * d_, d_, dx, p.length);
  }
  for (std::size_t i = 1; i < d_state.size(); ++i) d_state[i].bytes.resize(before[i].bytes.size());
}

template class monarch_layer<float>;
template class monarch_layer<kernels::bf16>;
template class monarch_layer<double>;

}  // namespace isthmus
