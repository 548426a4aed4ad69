#pragma once

#include <cstdint>

namespace isthmus::kernels {

/// x[r] = table[ids[r]]. The caller has checked the ids.
template <class Real>
struct embedding_args {
  const Real* table;        // [vocabulary, cols]
  const std::int32_t* ids;  // [rows]
  Real* x;                  // [rows, cols]
  std::int64_t rows, cols, vocabulary;
};

/// d_table[ids[r]] += dx[r], rows of equal id in ascending order of r.
template <class Real>
struct embedding_backward_args {
  const Real* dx;           // [rows, cols]
  const std::int32_t* ids;  // [rows]
  Real* d_table;            // [vocabulary, cols]
  std::int64_t rows, cols, vocabulary;
};

}  // namespace isthmus::kernels
