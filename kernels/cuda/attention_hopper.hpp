#pragma once

#include "kernels/attention.hpp"
#include "kernels/cuda/queue.hpp"

namespace isthmus::kernels::cuda::hopper {

/// Whether the kernels for Hopper take these: on such a GPU, plain causal attention, heads of 33 to 128 columns, rows at multiples of 16
/// bytes. The kernels of attention_tiles*.cu take all others.
bool takes(const queue& q, const attention_args<bf16>& a);
bool takes(const queue& q, const attention_backward_args<bf16>& a);

void attention(queue& q, const attention_args<bf16>& a);
void attention_backward(queue& q, const attention_backward_args<bf16>& a);

}  // namespace isthmus::kernels::cuda::hopper
