#pragma once

#include "kernels/attention.hpp"
#include "kernels/cuda/device.cuh"

namespace isthmus::kernels::cuda {

/// d_o . o of each row, [batch, heads, length], in the queue's scratch.
template <class Act>
const float* means_of(queue& q, const attention_backward_args<Act>& a);

}  // namespace isthmus::kernels::cuda
