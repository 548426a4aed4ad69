#pragma once

#include "framework/core/buffer.hpp"
#include "framework/layers/layer_kind.hpp"

#include <memory>
#include <vector>

namespace isthmus {

/// Grouped-query attention with rotary positions, causal or bidirectional: q, k, v from one product, o = attention(rope(q), rope(k), v),
/// y = o W_o^T. Its state holds the keys, rotated, and the values of every token, [tokens, kv_heads * head_dim] in the activation type or in
/// bf16 (inference_formats::caches); with a window those of the last tokens alone (state_part::drop_unseen).
template <class Act>
class attention_layer final : public layer<Act> {
public:
  attention_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  /// Throws contract_error when the layer is bidirectional.
  void advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) override;
  layer_state start() const override;
  void weights_changed() override;
  bool carries_gradients() const override { return !both_ways_; }
  void forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) override;
  void backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                     layer_state& d_state) override;

private:
  using real = kernels::real<Act>;
  /// Where the rows of a pass lie, or those of a state and a pass behind them.
  struct places {
    Act *qkv = nullptr, *o = nullptr;      // kept: [rows, qkv_width], rotated; [rows, heads * head_dim]
    real* lse = nullptr;                   // kept: [batch, heads, length]
    Act *d_qkv = nullptr, *d_o = nullptr;  // shared, as qkv and o
  };
  places take(std::int64_t rows, arena& kept, arena& shared) const;
  void rotate(const layer_pass<Act>& p, Act* qkv, bool inverse) const;
  void attend(const layer_pass<Act>& p, const places& at, std::int64_t first_query = 0) const;
  void attend_back(const layer_pass<Act>& p, const places& at, std::int64_t first_query = 0) const;
  template <class Cache>
  kernels::cached_sequence<Cache> remember(const layer_pass<Act>& p, layer_state& state) const;
  template <class Cache>
  void attend_to_caches(const layer_pass<Act>& p, std::span<const moving_sequence> sequences,
                        std::vector<kernels::cached_sequence<Cache>>& cached,
                        void (*attend_cached)(kernels::stream&, const kernels::attention_cached_args<Act, Cache>&));
  kernels::attention_sight sight(const layer_pass<Act>& p, std::int64_t first_query) const {
    return {.causal = !both_ways_, .window = window_, .first_key = p.first_key, .first_query = first_query};
  }

  std::int64_t heads_, kv_heads_, head_dim_, qkv_width_, window_;
  bool both_ways_, rotates_, short_caches_;
  rotary_rule rotary_;
  real scale_;
  projection<Act> qkv_proj_, o_proj_;
  places at_, whole_;                                                  // whole_: of the last pass from a state
  std::unique_ptr<buffer> whole_bytes_;                                // where those lie
  std::vector<kernels::cached_sequence<Act>> cached_;                  // of a pass of advance()
  std::vector<kernels::cached_sequence<kernels::bf16>> short_cached_;  // the same with short caches
};

}  // namespace isthmus
