#pragma once

#include "kernels/cuda/queue.hpp"
#include "kernels/linear.hpp"

namespace isthmus::kernels::cuda {

/// y = x W^T with a quantised matrix: one warp an output, weights from their steps, sums in fp32. For decoding; many rows are slow.
template <class Act>
void quantised_linear(queue& q, const linear_args<Act>& a);

}  // namespace isthmus::kernels::cuda
