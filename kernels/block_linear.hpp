#pragma once

#include "kernels/linear.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// Block-diagonal product: y[r, k, q] = sum_p W[k, q, p] x[r, k, p], each block k a matrix of its own, all of one shape. Two of them with
/// strided permutations around are a Monarch matrix: Dao et al. 2022, arXiv:2204.00595. Rounding is that of linear.
template <class Act>
struct block_linear_args {
  matrix<Act>* const* w;  // the host's, [blocks]: W[k] [out, in]
  const Act* x;           // [rows, blocks * in], rows x_stride apart
  Act* y;                 // [rows, blocks * out], rows y_stride apart; no alias
  std::int64_t blocks, rows, x_stride, y_stride;
};

/// dx = dy W. Overwrites.
template <class Act>
struct block_linear_backward_input_args {
  matrix<Act>* const* w;
  const Act* dy;  // [rows, blocks * out], rows dy_stride apart
  Act* dx;        // [rows, blocks * in], rows dx_stride apart; no alias
  std::int64_t blocks, rows, dy_stride, dx_stride;
};

/// dw[k] += dy_k^T x_k, summed in real<Act>.
template <class Act>
struct block_linear_backward_weight_args {
  matrix<Act>* const* w;  // for their shape and the backend's caches
  const Act* x;           // [rows, blocks * in]
  const Act* dy;          // [rows, blocks * out]
  real<Act>* dw;          // [blocks, out, in]
  std::int64_t blocks, rows, x_stride, dy_stride;
};

/// The products of block k, for backends that do one block after another.
template <class Act>
linear_args<Act> block_of(const block_linear_args<Act>& a, std::int64_t k) {
  return {
      .w = a.w[k], .x = a.x + k * a.w[k]->in, .y = a.y + k * a.w[k]->out, .rows = a.rows, .x_stride = a.x_stride, .y_stride = a.y_stride};
}
template <class Act>
linear_backward_input_args<Act> block_of(const block_linear_backward_input_args<Act>& a, std::int64_t k) {
  return {.w = a.w[k],
          .dy = a.dy + k * a.w[k]->out,
          .dx = a.dx + k * a.w[k]->in,
          .rows = a.rows,
          .dy_stride = a.dy_stride,
          .dx_stride = a.dx_stride};
}
template <class Act>
linear_backward_weight_args<Act> block_of(const block_linear_backward_weight_args<Act>& a, std::int64_t k) {
  const std::int64_t out = a.w[k]->out, in = a.w[k]->in;
  return {.w = a.w[k],
          .x = a.x + k * in,
          .dy = a.dy + k * out,
          .dw = a.dw + k * out * in,
          .rows = a.rows,
          .x_stride = a.x_stride,
          .dy_stride = a.dy_stride};
}

}  // namespace isthmus::kernels
