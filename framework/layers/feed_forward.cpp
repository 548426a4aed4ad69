#include "framework/layers/feed_forward.hpp"

namespace isthmus {

template <class Act>
feed_forward_layer<Act>::feed_forward_layer(const model_config& config, const kernels::op_table<Act>& ops,
                                            const parameter_view<kernels::real<Act>>& parameters, const std::string& prefix)
    : hidden_(config.ffn_hidden),
      gate_up_(ops, parameters, {prefix + "gate_proj.weight", prefix + "up_proj.weight"}),
      down_(ops, parameters, {prefix + "down_proj.weight"}) {}

template <class Act>
void feed_forward_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  gate_up_out_ = kept.take<Act>(batch * length * 2 * hidden_);
  activated_ = shared.take<Act>(batch * length * hidden_);
}

template <class Act>
void feed_forward_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  gate_up_.forward(p, x, gate_up_out_);
  p.ops.swiglu(p.stream, {.x = gate_up_out_, .y = activated_, .rows = p.rows(), .hidden = hidden_});
  down_.forward(p, activated_, y);
}

template <class Act>
void feed_forward_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  down_.backward_input(p, dy, activated_);
  p.ops.swiglu_backward(p.stream,
                        {.x = gate_up_out_, .dy = activated_, .dx = gate_up_out_, .y = activated_, .rows = p.rows(), .hidden = hidden_});
  down_.backward_weight(p, activated_, dy);
  gate_up_.backward(p, x, gate_up_out_, dx);
}

template <class Act>
void feed_forward_layer<Act>::advance(const layer_pass<Act>& p, std::int64_t, layer_state&, const Act* x, Act* y) {
  forward(p, x, y);
}

template <class Act>
void feed_forward_layer<Act>::weights_changed() {
  gate_up_.matrix()->weights_changed();
  down_.matrix()->weights_changed();
}

template class feed_forward_layer<float>;
template class feed_forward_layer<kernels::bf16>;
template class feed_forward_layer<double>;

}  // namespace isthmus
