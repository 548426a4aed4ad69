#pragma once

#include "framework/core/parameter_layout.hpp"
#include "kernels/backend.hpp"

#include <cstdint>
#include <span>
#include <string>

namespace isthmus {

/// What a pass through the layers has in common. Activations are [batch * length, channels], row-major.
template <class Act>
struct layer_pass {
  using real = kernels::real<Act>;
  const kernels::op_table<Act>& ops;
  kernels::stream& stream;
  std::int64_t batch = 0, length = 0;
  const real *cosine = nullptr, *sine = nullptr;  // [length, head_dim / 2], of the positions of this pass
  std::int64_t rows() const { return batch * length; }
};

/// Weights and gradients as layers see them: flat arrays of one layout, looked into by name. Borrows all three.
template <class Real>
struct parameter_view {
  const parameter_layout& layout;
  const Real* weights;
  Real* gradients;

  /// The slot's place in both arrays. Throws contract_error when there is no such tensor.
  const tensor_slot& find(const std::string& name) const;
  const Real* weight(const std::string& name) const { return weights + find(name).offset; }
  Real* gradient(const std::string& name) const { return gradients + find(name).offset; }
};

/// A linear layer's weights: their matrix for the kernels and their gradient. Joins consecutive tensors [out_i, in] into one
/// [sum of out_i, in], so that one product serves them all; they must lie without a gap.
template <class Act>
class projection {
public:
  projection(const kernels::op_table<Act>& ops, const parameter_view<kernels::real<Act>>& parameters,
             std::initializer_list<std::string> names);
  std::int64_t out() const { return matrix_->out; }
  std::int64_t in() const { return matrix_->in; }
  kernels::matrix<Act>* matrix() const { return matrix_.get(); }
  kernels::real<Act>* gradient() const { return gradient_; }

  /// y = x W^T; x: [rows, in], y: [rows, out].
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) const;
  /// dx = dy W, and the gradient grows by dy^T x.
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) const;
  void backward_input(const layer_pass<Act>& p, const Act* dy, Act* dx) const;
  void backward_weight(const layer_pass<Act>& p, const Act* x, const Act* dy) const;

private:
  std::unique_ptr<kernels::matrix<Act>> matrix_;
  kernels::real<Act>* gradient_;
};

}  // namespace isthmus
