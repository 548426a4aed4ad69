#pragma once

#include "kernels/bf16.hpp"

#include <cuda.h>

#include <cstdint>

namespace isthmus::kernels::cuda {

/// Rows of heads as the copy engine of Hopper reads them: [batch, length, heads, head_dim], rows `stride` apart.
struct head_rows {
  const bf16* at;
  std::int64_t batch, length, heads, head_dim, stride;
};

/// Whether the copy engine can read them: everything at multiples of 16 bytes.
bool can_be_mapped(const head_rows& m);
/// What it needs to know to bring `rows` rows of one head, 64 columns of them, with a swizzle of 128 bytes.
CUtensorMap map_of(const head_rows& m, int rows);

}  // namespace isthmus::kernels::cuda
