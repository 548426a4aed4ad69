#pragma once

#include "framework/core/parameter_layout.hpp"
#include "framework/layers/inference_formats.hpp"
#include "framework/layers/layer_state.hpp"
#include "framework/layers/rotary.hpp"
#include "kernels/backend.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

/// A sequence that moves on: its rows lie among those of a pass, whose sequences may be of any lengths.
struct moving_sequence {
  std::int64_t first = 0, count = 0;  // rows of the pass
  std::int64_t position = 0;          // of the first of them in the sequence
  layer_state* state = nullptr;       // what the layer remembers of it
};

/// What a pass through the layers has in common. Activations are [batch * length, channels], row-major.
template <class Act>
struct layer_pass {
  using real = kernels::real<Act>;
  const kernels::op_table<Act>& ops;
  kernels::stream& stream;
  std::int64_t batch = 0, length = 0;
  std::int64_t position = 0;  // of the first row of each sequence
  rotary_tables<real>& rotary;
  /// [batch * length], or null: the place in its sequence of the first row of the document that a row is in.
  const std::int32_t* first_key = nullptr;
  real loss_scale = 0;         // backward: what the gradients of the token losses were multiplied by; a layer's own losses take the same
  std::int64_t first_row = 0;  // of this pass in arrays that a layer has placed for a longer one
  std::int64_t rows() const { return batch * length; }
  /// The pass of one sequence alone.
  layer_pass part(const moving_sequence& s) const { return {ops, stream, 1, s.count, s.position, rotary, nullptr, 0, first_row + s.first}; }
  /// Where its rows of so many numbers begin in such an array.
  template <class T>
  T* rows_of(T* placed, std::int64_t width) const {
    return placed + first_row * width;
  }
};

/// Weights and gradients as layers see them: flat arrays of one layout, looked into by name. Borrows all three. Without gradients (null)
/// nothing trains; then projections and caches may have other formats.
template <class Real>
struct parameter_view {
  const parameter_layout& layout;
  const Real* weights;
  Real* gradients;
  inference_formats formats = {};

  /// The slot's place in both arrays. Throws contract_error when there is no such tensor.
  const tensor_slot& find(const std::string& name) const;
  const Real* weight(const std::string& name) const { return weights + find(name).offset; }
  Real* gradient(const std::string& name) const { return gradients ? gradients + find(name).offset : nullptr; }
};

/// A tensor that no product multiplies by, and its gradient.
template <class Real>
struct parameter {
  const Real* weight;
  Real* gradient;
};

/// What a layer is made on: kernels of its type, weights and gradients, and how the names of its tensors begin. Borrows all but the prefix.
template <class Act>
struct layer_parts {
  const kernels::op_table<Act>& ops;
  const parameter_view<kernels::real<Act>>& parameters;
  std::string prefix;                                     // "model.layers.3.self_attn."
  const kernels::op_table<kernels::real<Act>>& real_ops;  // of the same backend, for what stays real

  /// Those whose names go on with "experts.3.".
  layer_parts within(const std::string& folder) const { return {ops, parameters, prefix + folder + ".", real_ops}; }
  parameter<kernels::real<Act>> vector(const std::string& name) const {
    return {parameters.weight(prefix + name), parameters.gradient(prefix + name)};
  }
};

/// A linear layer's weights: their matrix for the kernels and their gradient, and its biases. Joins consecutive tensors [out_i, in] into one
/// [sum of out_i, in], so that one product serves them all; they must lie without a gap.
template <class Act>
class projection {
public:
  /// names: "q_proj.weight", without the prefix of the parts; with biases there is a tensor "q_proj.bias" [out_i] for each.
  projection(const layer_parts<Act>& parts, std::initializer_list<std::string> names, bool biases = false);
  std::int64_t out() const { return matrix_->out; }
  std::int64_t in() const { return matrix_->in; }
  kernels::matrix<Act>* matrix() const { return matrix_.get(); }
  kernels::real<Act>* gradient() const { return gradient_; }

  /// y = x W^T + b; x: [rows, in], y: [rows, out].
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) const;
  /// dx = dy W, and the gradients grow by dy^T x and by the sum of dy.
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) const;
  void backward_input(const layer_pass<Act>& p, const Act* dy, Act* dx) const;
  void backward_weight(const layer_pass<Act>& p, const Act* x, const Act* dy) const;

private:
  /// Of columns [first, first + count) of the output.
  struct bias_of {
    parameter<kernels::real<Act>> values;
    std::int64_t first, count;
  };
  std::vector<bias_of> biases_;
  std::unique_ptr<kernels::matrix<Act>> matrix_;
  kernels::real<Act>* gradient_;
};

}  // namespace isthmus
