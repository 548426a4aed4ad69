#include "framework/layers/monarch_mlp/monarch_mlp.hpp"

#include "framework/layers/shared_options.hpp"

#include <fmt/format.h>

#include <cmath>

namespace isthmus {

template <class Act>
block_projection<Act>::block_projection(const layer_parts<Act>& parts, const std::string& name) {
  const auto& shape = parts.parameters.find(parts.prefix + name).shape;  // [blocks, out, in]
  const auto values = parts.vector(name);
  gradient_ = values.gradient;
  out_ = shape[0] * shape[1];
  in_ = shape[0] * shape[2];
  for (std::int64_t k = 0; k < shape[0]; ++k) {
    matrices_.push_back(parts.ops.make_matrix(values.weight + k * shape[1] * shape[2], shape[1], shape[2]));
    pointers_.push_back(matrices_.back().get());
  }
}

template <class Act>
void block_projection<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) const {
  p.ops.block_linear(p.stream,
                     {.w = pointers_.data(), .x = x, .y = y, .blocks = blocks(), .rows = p.rows(), .x_stride = in_, .y_stride = out_});
}

template <class Act>
void block_projection<Act>::backward_input(const layer_pass<Act>& p, const Act* dy, Act* dx) const {
  p.ops.block_linear_backward_input(
      p.stream, {.w = pointers_.data(), .dy = dy, .dx = dx, .blocks = blocks(), .rows = p.rows(), .dy_stride = out_, .dx_stride = in_});
}

template <class Act>
void block_projection<Act>::backward_weight(const layer_pass<Act>& p, const Act* x, const Act* dy) const {
  p.ops.block_linear_backward_weight(
      p.stream,
      {.w = pointers_.data(), .x = x, .dy = dy, .dw = gradient_, .blocks = blocks(), .rows = p.rows(), .x_stride = in_, .dy_stride = out_});
}

template <class Act>
void block_projection<Act>::weights_changed() const {
  for (auto* w : pointers_) w->weights_changed();
}

template <class Act>
monarch_mlp_layer<Act>::monarch_mlp_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : d_(shape.d_model),
      hidden_(shape.integer("ffn_hidden")),
      blocks_(shape.integer("monarch_blocks")),
      kind_(activation_of(shape)),
      gated_(shape.flag("ffn_gated")),
      shuffles_(shape.flag("monarch_shuffle")),
      up_(parts, "up_proj.weight"),
      down_(parts, "down_proj.weight") {
  if (shape.flag("monarch_out_bias")) bias_ = parts.vector("down_proj.bias");
}

template <class Act>
void monarch_mlp_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  up_out_ = kept.take<Act>(batch * length * hidden_ * (gated_ ? 2 : 1));
  activated_ = shared.take<Act>(batch * length * hidden_);
  mixed_ = shared.take<Act>(batch * length * hidden_);
}

template <class Act>
Act* monarch_mlp_layer<Act>::shuffled(const layer_pass<Act>& p, Act* x, Act* y, std::int64_t outer) const {
  if (!shuffles_) return x;
  p.ops.shuffle(p.stream, {.x = x, .y = y, .rows = p.rows(), .outer = outer, .inner = hidden_ / outer});
  return y;
}

template <class Act>
void monarch_mlp_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  up_.forward(p, x, up_out_);
  p.ops.activation(p.stream, {.x = up_out_, .y = activated_, .rows = p.rows(), .hidden = hidden_, .kind = kind_, .gated = gated_});
  down_.forward(p, shuffled(p, activated_, mixed_, blocks_), y);
  if (bias_.weight) p.ops.bias(p.stream, {.bias = bias_.weight, .y = y, .rows = p.rows(), .cols = d_, .y_stride = d_});
}

template <class Act>
void monarch_mlp_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  Act* d_hidden = shuffles_ ? mixed_ : activated_;
  down_.backward_input(p, dy, d_hidden);
  d_hidden = shuffled(p, d_hidden, activated_, hidden_ / blocks_);  // and back
  p.ops.activation_backward(
      p.stream,
      {.x = up_out_, .dy = d_hidden, .dx = up_out_, .y = d_hidden, .rows = p.rows(), .hidden = hidden_, .kind = kind_, .gated = gated_});
  down_.backward_weight(p, shuffled(p, activated_, mixed_, blocks_), dy);
  if (bias_.weight) p.ops.bias_backward(p.stream, {.dy = dy, .d_bias = bias_.gradient, .rows = p.rows(), .cols = d_, .dy_stride = d_});
  up_.backward_input(p, up_out_, dx);
  up_.backward_weight(p, x, up_out_);
}

template <class Act>
void monarch_mlp_layer<Act>::weights_changed() {
  up_.weights_changed();
  down_.weights_changed();
}

namespace {

constexpr option_field options[] = {
    ffn_hidden_option,
    ffn_activation_option,
    ffn_gated_option,
    integer_option("monarch_blocks", 4, 1, 1024, "diagonal blocks of a Monarch MLP's matrices; divides d_model and ffn_hidden"),
    flag_option("monarch_shuffle", true, "whether its hidden channels are transposed between them, so that blocks hear of each other"),
    flag_option("monarch_out_bias", false, "whether what a Monarch MLP gives has a bias"),
};

expected<void> check(const layer_shape& s) {
  const std::int64_t blocks = s.integer("monarch_blocks"), hidden = s.integer("ffn_hidden");
  if (s.d_model % blocks != 0 || hidden % blocks != 0)
    return bad_option(s, "monarch_blocks", fmt::format("it must divide d_model = {} and ffn_hidden = {}", s.d_model, hidden));
  return {};
}

/// Uniform within +-1/sqrt(in), as add_matrix has it, divided by `by`.
void add_blocks(std::string_view name, std::int64_t blocks, std::int64_t out, std::int64_t in, double by, tensor_list& tensors) {
  tensors.add(name, {blocks, out / blocks, in / blocks}, true, uniform_values(by / std::sqrt(static_cast<double>(in / blocks))));
}

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t blocks = s.integer("monarch_blocks"), hidden = s.integer("ffn_hidden");
  add_blocks("up_proj.weight", blocks, s.flag("ffn_gated") ? 2 * hidden : hidden, s.d_model, 1, tensors);
  add_blocks("down_proj.weight", blocks, s.d_model, hidden, 1 / std::sqrt(2 * static_cast<double>(s.n_layers)), tensors);
  if (s.flag("monarch_out_bias")) tensors.add_bias("down_proj.bias", s.d_model);
}

}  // namespace

extern const layer_kind monarch_mlp_kind;
const layer_kind monarch_mlp_kind{.name = "monarch_mlp",
                                  .title = "Monarch MLP (diagonal blocks)",
                                  .folder = "feed_forward",
                                  .mixes_sequence = false,
                                  .options = options,
                                  .check = check,
                                  .declare = declare,
                                  .make_f32 = make_layer<monarch_mlp_layer, float>,
                                  .make_b16 = make_layer<monarch_mlp_layer, kernels::bf16>,
                                  .make_f64 = make_layer<monarch_mlp_layer, double>};

template class monarch_mlp_layer<float>;
template class monarch_mlp_layer<kernels::bf16>;
template class monarch_mlp_layer<double>;

}  // namespace isthmus
