#include "framework/layers/feed_forward.hpp"
#include "framework/layers/shared_options.hpp"

namespace isthmus {

namespace {

constexpr option_field options[] = {
    ffn_hidden_option,
    ffn_activation_option,
    ffn_gated_option,
    flag_option("ffn_bias", false, "whether an mlp's projections have biases"),
};

feed_forward_shape extents(const layer_shape& s) {
  return {.hidden = s.integer("ffn_hidden"), .kind = activation_of(s), .gated = s.flag("ffn_gated"), .biases = s.flag("ffn_bias")};
}

expected<void> check(const layer_shape&) { return {}; }

void declare(const layer_shape& s, tensor_list& tensors) { declare_feed_forward(s.d_model, extents(s), tensors); }

template <class Act>
std::unique_ptr<layer<Act>> make(const layer_shape& s, const layer_parts<Act>& parts) {
  return std::make_unique<feed_forward_layer<Act>>(parts, extents(s));
}

}  // namespace

extern const layer_kind mlp_kind;
const layer_kind mlp_kind{.name = "mlp",
                          .title = "MLP",
                          .folder = "feed_forward",
                          .mixes_sequence = false,
                          .options = options,
                          .check = check,
                          .declare = declare,
                          .make_f32 = make<float>,
                          .make_b16 = make<kernels::bf16>,
                          .make_f64 = make<double>};

}  // namespace isthmus
