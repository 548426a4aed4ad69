#include "framework/layers/feed_forward.hpp"
#include "framework/layers/shared_options.hpp"

namespace isthmus {

namespace {

constexpr option_field options[] = {ffn_hidden_option};

expected<void> check(const layer_shape&) { return {}; }

void declare(const layer_shape& s, tensor_list& tensors) { declare_feed_forward(s.d_model, {.hidden = s.integer("ffn_hidden")}, tensors); }

template <class Act>
std::unique_ptr<layer<Act>> make(const layer_shape& s, const layer_parts<Act>& parts) {
  return std::make_unique<feed_forward_layer<Act>>(parts, feed_forward_shape{.hidden = s.integer("ffn_hidden")});
}

}  // namespace

// Shazeer 2020, arXiv:2002.05202.
extern const layer_kind swiglu_kind;
const layer_kind swiglu_kind{.name = "swiglu",
                             .title = "SwiGLU",
                             .folder = "feed_forward",
                             .mixes_sequence = false,
                             .options = options,
                             .check = check,
                             .declare = declare,
                             .make_f32 = make<float>,
                             .make_b16 = make<kernels::bf16>,
                             .make_f64 = make<double>};

}  // namespace isthmus
