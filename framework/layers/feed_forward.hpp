#pragma once

#include "framework/layers/layer_kind.hpp"

namespace isthmus {

inline constexpr std::string_view activation_words[] = {"gelu", "gelu_tanh", "relu2", "silu"};
constexpr option_field ffn_activation_option =
    word_option("ffn_activation", activation_words, "the function of an MLP's hidden channels; gelu is the exact one, relu2 max(x, 0)^2");
constexpr option_field ffn_gated_option = flag_option("ffn_gated", false, "whether an MLP multiplies them by a second projection");
/// What ffn_activation says.
kernels::activation_kind activation_of(const layer_shape& s);

/// What a feed-forward layer is told.
struct feed_forward_shape {
  std::int64_t hidden;
  kernels::activation_kind kind = kernels::activation_kind::silu;
  bool gated = true;
  bool biases = false;  // each projection's
};

/// y = f(x W_up^T) W_down^T, or gated, y = (f(x W_gate^T) * (x W_up^T)) W_down^T with gate and up from one product. Tensors: gate_proj [hidden,
/// d_model] when it is gated, up_proj [hidden, d_model], down_proj [d_model, hidden].
template <class Act>
class feed_forward_layer final : public layer<Act> {
public:
  feed_forward_layer(const layer_parts<Act>& parts, const feed_forward_shape& shape);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void weights_changed() override;

private:
  feed_forward_shape shape_;
  projection<Act> up_, down_;  // up_: gate and up when it is gated
  Act* up_out_ = nullptr;      // kept: [rows, up_.out()]; backward leaves its gradient there
  Act* activated_ = nullptr;   // shared: [rows, hidden]
};

/// Their tensors.
void declare_feed_forward(std::int64_t d_model, const feed_forward_shape& shape, tensor_list& tensors);

}  // namespace isthmus
