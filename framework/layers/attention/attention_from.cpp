// Attention that learns from a text piece by piece: the rows of the state, which ask nothing, and those of the pass behind them as one
// text.
#include "framework/core/error.hpp"
#include "framework/layers/attention/attention.hpp"

#include <algorithm>

namespace isthmus {

namespace {

/// A pass of so many rows of one sequence that begins at the first of the state's.
template <class Act>
layer_pass<Act> pass_of(const layer_pass<Act>& p, std::int64_t rows) {
  return {p.ops, p.stream, 1, rows, 0, p.rotary, nullptr, p.loss_scale};
}

}  // namespace

template <class Act>
void attention_layer<Act>::forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) {
  ensure(!both_ways_, "attention: a bidirectional layer sees what comes later, so it has no state");
  ensure(p.batch == 1 && !p.first_key, "attention: a pass from a state is of one sequence, without documents' ends");
  qkv_proj_.forward(p, x, at_.qkv);
  rotate(p, p.rows_of(at_.qkv, qkv_width_), false);
  const std::int64_t past = remember<Act>(p, state).past, rows = past + p.length, kv_width = kv_heads_ * head_dim_,
                     o_width = heads_ * head_dim_;
  arena counting;
  take(rows, counting, counting);
  if (!whole_bytes_ || whole_bytes_->size() < counting.most_used()) whole_bytes_ = std::make_unique<buffer>(counting.most_used());
  arena memory(whole_bytes_->bytes());
  whole_ = take(rows, memory, memory);
  const Act *keys = state[0].as<Act>(), *values = state[1].as<Act>();
  Act* to = whole_.qkv;
  for (std::int64_t t = 0; t < past; ++t) {
    to = std::fill_n(to, o_width, Act(0));
    to = std::copy_n(keys + t * kv_width, kv_width, to);
    to = std::copy_n(values + t * kv_width, kv_width, to);
  }
  std::copy_n(at_.qkv, p.length * qkv_width_, to);
  attend(pass_of(p, rows), whole_, past);
  std::copy_n(whole_.o + past * o_width, p.length * o_width, at_.o);
  o_proj_.forward(p, at_.o, y);
}

template <class Act>
void attention_layer<Act>::backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                                         layer_state& d_state) {
  const std::int64_t past = before[0].rows(), rows = past + p.length, kv_width = kv_heads_ * head_dim_, o_width = heads_ * head_dim_;
  o_proj_.backward(p, at_.o, dy, at_.d_o);
  std::fill_n(whole_.d_o, past * o_width, Act(0));
  std::copy_n(at_.d_o, p.length * o_width, whole_.d_o + past * o_width);
  attend_back(pass_of(p, rows), whole_, past);
  std::copy_n(whole_.d_qkv + past * qkv_width_, p.length * qkv_width_, at_.d_qkv);
  const auto add = [&](const Act* from, std::int64_t stride, Act* to, std::int64_t to_stride, std::int64_t count) {
    p.ops.add(p.stream, {.x = from, .y = to, .rows = count, .cols = kv_width, .x_stride = stride, .y_stride = to_stride});
  };
  for (std::size_t part = 0; part < 2; ++part) {  // keys, then values
    const std::int64_t column = o_width + static_cast<std::int64_t>(part) * kv_width;
    Act* d_part = d_state[part].template as<Act>();
    add(whole_.d_qkv + column, qkv_width_, d_part, kv_width, past);
    add(d_part + past * kv_width, kv_width, at_.d_qkv + column, qkv_width_, p.length);
    d_state[part].bytes.resize(before[part].bytes.size());
  }
  rotate(p, at_.d_qkv, true);
  qkv_proj_.backward(p, x, at_.d_qkv, dx);
}

template class attention_layer<float>;
template class attention_layer<kernels::bf16>;
template class attention_layer<double>;

}  // namespace isthmus
