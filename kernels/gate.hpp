#pragma once

#include <cstdint>

namespace isthmus::kernels {

/// y[r,c] = a[r,c] * b[r,c].
template <class Act>
struct gate_args {
  const Act *a, *b;  // [rows, cols], rows a_stride and b_stride apart
  Act* y;            // [rows, cols], rows y_stride apart; may alias a or b where they have its stride
  std::int64_t rows, cols, a_stride, b_stride, y_stride;
};

/// da = dy * b, db = dy * a. Both overwrite.
template <class Act>
struct gate_backward_args {
  const Act *a, *b;  // as in the forward pass
  const Act* dy;     // [rows, cols], rows dy_stride apart
  Act *da, *db;      // [rows, cols], rows da_stride and db_stride apart; da may alias dy where it has its stride
  std::int64_t rows, cols, a_stride, b_stride, dy_stride, da_stride, db_stride;
};

/// y[r, i * outer + o] = x[r, o * inner + i]: the columns of each row, seen as a matrix [outer, inner], transposed. Its own gradient with the
/// two exchanged. The strided permutation between the factors of a Monarch matrix: Dao et al. 2022, arXiv:2204.00595.
template <class Act>
struct shuffle_args {
  const Act* x;  // [rows, outer * inner]
  Act* y;        // the same; no alias
  std::int64_t rows, outer, inner;
};

/// y[r,c] += x[r,c].
template <class Act>
struct add_args {
  const Act* x;  // [rows, cols], rows x_stride apart
  Act* y;        // [rows, cols], rows y_stride apart; no alias
  std::int64_t rows, cols, x_stride, y_stride;
};

}  // namespace isthmus::kernels
