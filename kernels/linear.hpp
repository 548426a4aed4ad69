#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// A weight matrix W [out, in] as a backend likes to read it: borrows the master weights and keeps derived copies (rounded,
/// packed, transposed), made lazily by the first kernel that wants one. Made by op_table::make_matrix, only for that backend.
template <class Act>
class matrix {
public:
  matrix(const real<Act>* weights, std::int64_t rows, std::int64_t cols) : master(weights), out(rows), in(cols) {}
  virtual ~matrix() = default;
  matrix(const matrix&) = delete;
  matrix& operator=(const matrix&) = delete;
  /// The master weights have changed: every derived copy is stale.
  virtual void weights_changed() = 0;

  const real<Act>* const master;  // [out, in] row-major
  const std::int64_t out, in;
};

/// y = x W^T. With bf16 activations the weights are rounded to bf16, products are summed in fp32, the sum is rounded once.
template <class Act>
struct linear_args {
  matrix<Act>* w;
  const Act* x;  // [rows, in], rows x_stride apart
  Act* y;        // [rows, out], rows y_stride apart; no alias
  std::int64_t rows, x_stride, y_stride;
};

/// dx = dy W. Overwrites.
template <class Act>
struct linear_backward_input_args {
  matrix<Act>* w;
  const Act* dy;  // [rows, out], rows dy_stride apart
  Act* dx;        // [rows, in], rows dx_stride apart; no alias
  std::int64_t rows, dy_stride, dx_stride;
};

/// dw += dy^T x, summed in real<Act>.
template <class Act>
struct linear_backward_weight_args {
  matrix<Act>* w;  // for its shape and the backend's caches; the weights themselves are not read
  const Act* x;    // [rows, in]
  const Act* dy;   // [rows, out]
  real<Act>* dw;   // [out, in] row-major
  std::int64_t rows, x_stride, dy_stride;
};

}  // namespace isthmus::kernels
