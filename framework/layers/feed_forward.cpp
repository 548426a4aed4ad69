#include "framework/layers/feed_forward.hpp"

#include <array>

namespace isthmus {

kernels::activation_kind activation_of(const layer_shape& s) {
  using enum kernels::activation_kind;
  constexpr std::array kinds{gelu, gelu_tanh, relu2, silu};  // in the words' order
  return kinds[static_cast<std::size_t>(s.integer("ffn_activation"))];
}

namespace {

template <class Act>
projection<Act> up_of(const layer_parts<Act>& parts, const feed_forward_shape& shape) {
  if (shape.gated) return {parts, {"gate_proj.weight", "up_proj.weight"}, shape.biases};
  return {parts, {"up_proj.weight"}, shape.biases};
}

}  // namespace

template <class Act>
feed_forward_layer<Act>::feed_forward_layer(const layer_parts<Act>& parts, const feed_forward_shape& shape)
    : shape_(shape), up_(up_of(parts, shape)), down_(parts, {"down_proj.weight"}, shape.biases) {}

template <class Act>
void feed_forward_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  up_out_ = kept.take<Act>(batch * length * up_.out());
  activated_ = shared.take<Act>(batch * length * shape_.hidden);
}

template <class Act>
void feed_forward_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  up_.forward(p, x, up_out_);
  p.ops.activation(p.stream,
                   {.x = up_out_, .y = activated_, .rows = p.rows(), .hidden = shape_.hidden, .kind = shape_.kind, .gated = shape_.gated});
  down_.forward(p, activated_, y);
}

template <class Act>
void feed_forward_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  down_.backward_input(p, dy, activated_);
  p.ops.activation_backward(p.stream, {.x = up_out_,
                                       .dy = activated_,
                                       .dx = up_out_,
                                       .y = activated_,
                                       .rows = p.rows(),
                                       .hidden = shape_.hidden,
                                       .kind = shape_.kind,
                                       .gated = shape_.gated});
  down_.backward_weight(p, activated_, dy);
  up_.backward(p, x, up_out_, dx);
}

template <class Act>
void feed_forward_layer<Act>::weights_changed() {
  up_.matrix()->weights_changed();
  down_.matrix()->weights_changed();
}

void declare_feed_forward(std::int64_t d_model, const feed_forward_shape& shape, tensor_list& tensors) {
  if (shape.gated) tensors.add_matrix("gate_proj.weight", shape.hidden, d_model);
  tensors.add_matrix("up_proj.weight", shape.hidden, d_model);
  if (shape.biases && shape.gated) tensors.add_bias("gate_proj.bias", shape.hidden);
  if (shape.biases) tensors.add_bias("up_proj.bias", shape.hidden);
  tensors.add_output("down_proj.weight", d_model, shape.hidden);
  if (shape.biases) tensors.add_bias("down_proj.bias", d_model);
}

template class feed_forward_layer<float>;
template class feed_forward_layer<kernels::bf16>;
template class feed_forward_layer<double>;

}  // namespace isthmus
