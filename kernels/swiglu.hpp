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

/// dx overwrites. y is the forward pass's output once more, so that nobody has to keep it.
template <class Act>
struct swiglu_backward_args {
  const Act* x;   // [rows, 2 * hidden]
  const Act* dy;  // [rows, hidden]
  Act* dx;        // [rows, 2 * hidden]; may alias x
  Act* y;         // [rows, hidden]; may alias dy; or null
  std::int64_t rows, hidden;
};

}  // namespace isthmus::kernels
