#pragma once

#include "kernels/backend.hpp"

namespace isthmus::kernels::cpu {

// Attention in bf16 by dot products of pairs (AVX-512 BF16), where pair_products_work(). Weights of keys and their gradients are rounded to
// bf16 between the products, as FlashAttention does on GPUs; sums are fp32.
void pair_attention(stream& s, const attention_args<bf16>& a);
void pair_attention_backward(stream& s, const attention_backward_args<bf16>& a);

}  // namespace isthmus::kernels::cpu
