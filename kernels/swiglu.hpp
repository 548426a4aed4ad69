#pragma once

#include <cstdint>

namespace isthmus::kernels {

/// y[r,c] = silu(x[r,c]) * x[r, hidden + c]. Shazeer 2020, arXiv:2002.05202.
template <class Act>
struct swiglu_args {
  const Act* x;  // [rows, 2 * hidden]: gate, then up
  Act* y;        // [rows, hidden]
  std::int64_t rows, hidden;
};

template <class Act>
struct swiglu_backward_args {
  const Act* x;   // [rows, 2 * hidden]
  const Act* dy;  // [rows, hidden]
  Act* dx;        // [rows, 2 * hidden], overwritten; may alias x
  std::int64_t rows, hidden;
};

}  // namespace isthmus::kernels
