#pragma once

#include "kernels/backend.hpp"

namespace isthmus::kernels::cuda {

// The kernels of kernels/*.hpp on a GPU, instantiated for float and bf16.
template <class Act>
std::unique_ptr<matrix<Act>> make_matrix(const real<Act>* master, std::int64_t out, std::int64_t in);
template <class Act>
std::unique_ptr<matrix<Act>> make_quantised_matrix(const real<Act>* master, std::int64_t out, std::int64_t in, weight_format format);
template <class Act>
void linear(stream&, const linear_args<Act>&);
template <class Act>
void linear_backward_input(stream&, const linear_backward_input_args<Act>&);
template <class Act>
void linear_backward_weight(stream&, const linear_backward_weight_args<Act>&);
void embedding(stream&, const embedding_args<float>&);
void embedding_backward(stream&, const embedding_backward_args<float>&);
template <class Act>
void rms_norm(stream&, const rms_norm_args<Act>&);
template <class Act>
void rms_norm_backward(stream&, const rms_norm_backward_args<Act>&);
template <class Act>
void column_norm(stream&, const column_norm_args<Act>&);
template <class Act>
void column_norm_backward(stream&, const column_norm_backward_args<Act>&);
template <class Act>
void gated_norm(stream&, const gated_norm_args<Act>&);
template <class Act>
void gated_norm_backward(stream&, const gated_norm_backward_args<Act>&);
template <class Act>
void layer_norm(stream&, const layer_norm_args<Act>&);
template <class Act>
void layer_norm_backward(stream&, const layer_norm_backward_args<Act>&);
template <class Act>
void bias(stream&, const bias_args<Act>&);
template <class Act>
void bias_backward(stream&, const bias_backward_args<Act>&);
template <class Act>
void activation(stream&, const activation_args<Act>&);
template <class Act>
void activation_backward(stream&, const activation_backward_args<Act>&);
template <class Act>
void block_linear(stream&, const block_linear_args<Act>&);
template <class Act>
void block_linear_backward_input(stream&, const block_linear_backward_input_args<Act>&);
template <class Act>
void block_linear_backward_weight(stream&, const block_linear_backward_weight_args<Act>&);
template <class Act>
void gate(stream&, const gate_args<Act>&);
template <class Act>
void gate_backward(stream&, const gate_backward_args<Act>&);
template <class Act>
void shuffle(stream&, const shuffle_args<Act>&);
template <class Act>
void add(stream&, const add_args<Act>&);
template <class Act>
void route(stream&, const route_args<Act>&);
template <class Act>
void route_backward(stream&, const route_backward_args<Act>&);
template <class Act>
void dispatch(stream&, const dispatch_args<Act>&);
template <class Act>
void combine(stream&, const combine_args<Act>&);
template <class Act>
void combine_backward(stream&, const combine_backward_args<Act>&);
template <class Act>
void rope(stream&, const rope_args<Act>&);
template <class Act>
void attention(stream&, const attention_args<Act>&);
template <class Act>
void attention_backward(stream&, const attention_backward_args<Act>&);
template <class Act, class Cache>
void attention_cached(stream&, const attention_cached_args<Act, Cache>&);
template <class Act>
void conv1d(stream&, const conv1d_args<Act>&);
template <class Act>
void conv1d_backward(stream&, const conv1d_backward_args<Act>&);
template <class Act>
void conv1d_step(stream&, const conv1d_step_args<Act>&);
std::unique_ptr<long_conv_plan> make_long_conv_plan(std::int64_t length);
template <class Act>
void long_conv(stream&, const long_conv_args<Act>&);
template <class Act>
void long_conv_backward(stream&, const long_conv_backward_args<Act>&);
void modal_filter(stream&, const modal_filter_args<float>&);
void modal_filter_backward(stream&, const modal_filter_backward_args<float>&);
template <class Act>
void modal_scan(stream&, const modal_scan_args<Act>&);
template <class Act>
void modal_scan_backward(stream&, const modal_scan_backward_args<Act>&);
template <class Act>
void modal_step(stream&, const modal_step_args<Act>&);
template <class Act>
void ssd(stream&, const ssd_args<Act>&);
template <class Act>
void ssd_backward(stream&, const ssd_backward_args<Act>&);
template <class Act>
void ssd_step(stream&, const ssd_step_args<Act>&);
template <class Act>
void selective_scan(stream&, const selective_scan_args<Act>&);
template <class Act>
void selective_scan_backward(stream&, const selective_scan_backward_args<Act>&);
template <class Act>
void selective_scan_step(stream&, const selective_scan_step_args<Act>&);
template <class Act>
void cross_entropy(stream&, const cross_entropy_args<Act>&);
void adamw(stream&, const adamw_args&);
void sum_of_squares(stream&, const sum_of_squares_args&);

}  // namespace isthmus::kernels::cuda
