#include "kernels/reference/backend.hpp"

#include "kernels/reference/ops.hpp"

namespace isthmus::kernels {

namespace {

template <class Act>
constexpr op_table<Act> table() {
  return {.make_matrix = reference::make_matrix<Act>,
          .make_quantised_matrix = reference::make_quantised_matrix<Act>,
          .linear = reference::linear<Act>,
          .linear_backward_input = reference::linear_backward_input<Act>,
          .linear_backward_weight = reference::linear_backward_weight<Act>,
          .block_linear = reference::block_linear<Act>,
          .block_linear_backward_input = reference::block_linear_backward_input<Act>,
          .block_linear_backward_weight = reference::block_linear_backward_weight<Act>,
          .embedding = reference::embedding<real<Act>>,
          .embedding_backward = reference::embedding_backward<real<Act>>,
          .rms_norm = reference::rms_norm<Act>,
          .rms_norm_backward = reference::rms_norm_backward<Act>,
          .layer_norm = reference::layer_norm<Act>,
          .layer_norm_backward = reference::layer_norm_backward<Act>,
          .bias = reference::bias<Act>,
          .bias_backward = reference::bias_backward<Act>,
          .activation = reference::activation<Act>,
          .activation_backward = reference::activation_backward<Act>,
          .column_norm = reference::column_norm<Act>,
          .column_norm_backward = reference::column_norm_backward<Act>,
          .gate = reference::gate<Act>,
          .gate_backward = reference::gate_backward<Act>,
          .shuffle = reference::shuffle<Act>,
          .add = reference::add<Act>,
          .route = reference::route<Act>,
          .route_backward = reference::route_backward<Act>,
          .dispatch = reference::dispatch<Act>,
          .combine = reference::combine<Act>,
          .combine_backward = reference::combine_backward<Act>,
          .rope = reference::rope<Act>,
          .attention = reference::attention<Act>,
          .attention_backward = reference::attention_backward<Act>,
          .attention_cached = reference::attention_cached<Act, Act>,
          .attention_cached_bf16 = reference::attention_cached<Act, bf16>,
          .conv1d = reference::conv1d<Act>,
          .conv1d_backward = reference::conv1d_backward<Act>,
          .conv1d_step = reference::conv1d_step<Act>,
          .make_long_conv_plan = reference::make_long_conv_plan,
          .long_conv = reference::long_conv<Act>,
          .long_conv_backward = reference::long_conv_backward<Act>,
          .modal_filter = reference::modal_filter<real<Act>>,
          .modal_filter_backward = reference::modal_filter_backward<real<Act>>,
          .modal_scan = reference::modal_scan<Act>,
          .modal_scan_backward = reference::modal_scan_backward<Act>,
          .modal_step = reference::modal_step<Act>,
          .ssd = reference::ssd<Act>,
          .ssd_backward = reference::ssd_backward<Act>,
          .ssd_step = reference::ssd_step<Act>,
          .selective_scan = reference::selective_scan<Act>,
          .selective_scan_backward = reference::selective_scan_backward<Act>,
          .selective_scan_step = reference::selective_scan_step<Act>,
          .gated_norm = reference::gated_norm<Act>,
          .gated_norm_backward = reference::gated_norm_backward<Act>,
          .cross_entropy = reference::cross_entropy<Act>};
}

constexpr backend the_reference{.name = "reference",
                                .make_stream = [](team& t) { return std::make_unique<stream>(t); },
                                .memory = &host_memory,
                                .f32 = table<float>(),
                                .b16 = table<bf16>(),
                                .adamw = reference::adamw,
                                .sum_of_squares = reference::sum_of_squares};
constexpr op_table<double> the_reference_in_double = table<double>();

}  // namespace

const backend& reference_backend() { return the_reference; }
const op_table<double>& reference_double_ops() { return the_reference_in_double; }

}  // namespace isthmus::kernels
