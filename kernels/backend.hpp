#pragma once

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "kernels/bf16.hpp"
#include "kernels/block_linear.hpp"
#include "kernels/conv1d.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gate.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/linear.hpp"
#include "kernels/long_conv.hpp"
#include "kernels/memory.hpp"
#include "kernels/modal.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/route.hpp"
#include "kernels/selective_scan.hpp"
#include "kernels/ssd.hpp"
#include "kernels/stream.hpp"

#include <memory>

namespace isthmus::kernels {

/// The kernels of one activation type. Promises of every backend: a result depends on the arguments alone, never on the size of
/// the team or on which worker ran which tile; kernels have ended when they return, unless the backend's stream says otherwise;
/// memory that is said to add (+=) is read, all other output is overwritten; no alias beyond those named; extents may be zero rows.
template <class Act>
struct op_table {
  using real_type = real<Act>;

  /// Borrows the master weights [out, in].
  std::unique_ptr<matrix<Act>> (*make_matrix)(const real_type* master, std::int64_t out, std::int64_t in);
  /// The same, but products read the weights in that format, and it does not train. linear alone takes it.
  std::unique_ptr<matrix<Act>> (*make_quantised_matrix)(const real_type* master, std::int64_t out, std::int64_t in, weight_format format);
  void (*linear)(stream&, const linear_args<Act>&);
  void (*linear_backward_input)(stream&, const linear_backward_input_args<Act>&);
  void (*linear_backward_weight)(stream&, const linear_backward_weight_args<Act>&);

  void (*block_linear)(stream&, const block_linear_args<Act>&);
  void (*block_linear_backward_input)(stream&, const block_linear_backward_input_args<Act>&);
  void (*block_linear_backward_weight)(stream&, const block_linear_backward_weight_args<Act>&);

  void (*embedding)(stream&, const embedding_args<real_type>&);
  void (*embedding_backward)(stream&, const embedding_backward_args<real_type>&);
  void (*rms_norm)(stream&, const rms_norm_args<Act>&);
  void (*rms_norm_backward)(stream&, const rms_norm_backward_args<Act>&);
  void (*layer_norm)(stream&, const layer_norm_args<Act>&);
  void (*layer_norm_backward)(stream&, const layer_norm_backward_args<Act>&);
  void (*bias)(stream&, const bias_args<Act>&);
  void (*bias_backward)(stream&, const bias_backward_args<Act>&);
  void (*activation)(stream&, const activation_args<Act>&);
  void (*activation_backward)(stream&, const activation_backward_args<Act>&);
  void (*column_norm)(stream&, const column_norm_args<Act>&);
  void (*column_norm_backward)(stream&, const column_norm_backward_args<Act>&);
  void (*gate)(stream&, const gate_args<Act>&);
  void (*gate_backward)(stream&, const gate_backward_args<Act>&);
  void (*shuffle)(stream&, const shuffle_args<Act>&);
  void (*add)(stream&, const add_args<Act>&);

  void (*route)(stream&, const route_args<Act>&);
  void (*route_backward)(stream&, const route_backward_args<Act>&);
  void (*dispatch)(stream&, const dispatch_args<Act>&);
  void (*combine)(stream&, const combine_args<Act>&);
  void (*combine_backward)(stream&, const combine_backward_args<Act>&);

  void (*rope)(stream&, const rope_args<Act>&);
  void (*attention)(stream&, const attention_args<Act>&);
  void (*attention_backward)(stream&, const attention_backward_args<Act>&);
  void (*attention_cached)(stream&, const attention_cached_args<Act>&);
  void (*attention_cached_bf16)(stream&, const attention_cached_args<Act, bf16>&);

  void (*conv1d)(stream&, const conv1d_args<Act>&);
  void (*conv1d_backward)(stream&, const conv1d_backward_args<Act>&);
  void (*conv1d_step)(stream&, const conv1d_step_args<Act>&);
  /// length > 0.
  std::unique_ptr<long_conv_plan> (*make_long_conv_plan)(std::int64_t length);
  void (*long_conv)(stream&, const long_conv_args<Act>&);
  void (*long_conv_backward)(stream&, const long_conv_backward_args<Act>&);
  void (*modal_filter)(stream&, const modal_filter_args<real_type>&);
  void (*modal_filter_backward)(stream&, const modal_filter_backward_args<real_type>&);
  void (*modal_scan)(stream&, const modal_scan_args<Act>&);
  void (*modal_scan_backward)(stream&, const modal_scan_backward_args<Act>&);
  void (*modal_step)(stream&, const modal_step_args<Act>&);
  void (*ssd)(stream&, const ssd_args<Act>&);
  void (*ssd_backward)(stream&, const ssd_backward_args<Act>&);
  void (*ssd_step)(stream&, const ssd_step_args<Act>&);
  void (*selective_scan)(stream&, const selective_scan_args<Act>&);
  void (*selective_scan_backward)(stream&, const selective_scan_backward_args<Act>&);
  void (*selective_scan_step)(stream&, const selective_scan_step_args<Act>&);
  void (*gated_norm)(stream&, const gated_norm_args<Act>&);
  void (*gated_norm_backward)(stream&, const gated_norm_backward_args<Act>&);

  void (*cross_entropy)(stream&, const cross_entropy_args<Act>&);
};

/// One backend: a constant table, initialised by name, so that a missing kernel is a build error (-Wmissing-field-initializers).
struct backend {
  const char* name;
  std::unique_ptr<stream> (*make_stream)(team&);
  const memory_table* memory;  // where all pointers of the arguments below lie, unless they are said to be the host's
  op_table<float> f32;
  op_table<bf16> b16;
  void (*adamw)(stream&, const adamw_args&);
  void (*sum_of_squares)(stream&, const sum_of_squares_args&);
};

/// The table for activations of type Act (float or bf16).
template <class Act>
const op_table<Act>& ops_of(const backend& b);
template <>
inline const op_table<float>& ops_of<float>(const backend& b) {
  return b.f32;
}
template <>
inline const op_table<bf16>& ops_of<bf16>(const backend& b) {
  return b.b16;
}

}  // namespace isthmus::kernels
