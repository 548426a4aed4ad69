#include "framework/layers/swiglu/swiglu.hpp"

#include "framework/layers/shared_options.hpp"

namespace isthmus {

template <class Act>
swiglu_layer<Act>::swiglu_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : hidden_(shape.integer("ffn_hidden")), gate_up_(parts, {"gate_proj.weight", "up_proj.weight"}), down_(parts, {"down_proj.weight"}) {}

template <class Act>
void swiglu_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  gate_up_out_ = kept.take<Act>(batch * length * 2 * hidden_);
  activated_ = shared.take<Act>(batch * length * hidden_);
}

template <class Act>
void swiglu_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  gate_up_.forward(p, x, gate_up_out_);
  p.ops.swiglu(p.stream, {.x = gate_up_out_, .y = activated_, .rows = p.rows(), .hidden = hidden_});
  down_.forward(p, activated_, y);
}

template <class Act>
void swiglu_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  down_.backward_input(p, dy, activated_);
  p.ops.swiglu_backward(p.stream,
                        {.x = gate_up_out_, .dy = activated_, .dx = gate_up_out_, .y = activated_, .rows = p.rows(), .hidden = hidden_});
  down_.backward_weight(p, activated_, dy);
  gate_up_.backward(p, x, gate_up_out_, dx);
}

template <class Act>
void swiglu_layer<Act>::weights_changed() {
  gate_up_.matrix()->weights_changed();
  down_.matrix()->weights_changed();
}

namespace {

constexpr option_field options[] = {ffn_hidden_option};

expected<void> check(const layer_shape&) { return {}; }

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t d = s.d_model, hidden = s.integer("ffn_hidden");
  tensors.add_matrix("gate_proj.weight", hidden, d);
  tensors.add_matrix("up_proj.weight", hidden, d);
  tensors.add_output("down_proj.weight", d, hidden);
}

}  // namespace

extern const layer_kind swiglu_kind;
const layer_kind swiglu_kind{.name = "swiglu",
                             .title = "SwiGLU",
                             .folder = "feed_forward",
                             .mixes_sequence = false,
                             .options = options,
                             .check = check,
                             .declare = declare,
                             .make_f32 = make_layer<swiglu_layer, float>,
                             .make_b16 = make_layer<swiglu_layer, kernels::bf16>,
                             .make_f64 = make_layer<swiglu_layer, double>};

template class swiglu_layer<float>;
template class swiglu_layer<kernels::bf16>;
template class swiglu_layer<double>;

}  // namespace isthmus
