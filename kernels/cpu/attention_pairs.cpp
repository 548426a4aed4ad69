#include "kernels/cpu/attention_pairs.hpp"

#include "kernels/cpu/includes.hpp"

#if !defined(__x86_64__)
#include <stdexcept>

namespace isthmus::kernels::cpu {
void pair_attention(stream&, const attention_args<bf16>&) { throw std::logic_error("pair_attention: this CPU has no AVX-512 BF16"); }
void pair_attention_backward(stream&, const attention_backward_args<bf16>&) {
  throw std::logic_error("pair_attention_backward: this CPU has no AVX-512 BF16");
}
}  // namespace isthmus::kernels::cpu
#else

#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi,bmi2,prefer-vector-width=512")
#define ISTHMUS_WIDTH 16
#define ISTHMUS_STRIP 14
#define ISTHMUS_STRIP_VECTORS 2

namespace isthmus::kernels::cpu {

namespace pairs {
#include "kernels/cpu/vec.inl"

#include "kernels/cpu/square.inl"

#include "kernels/cpu/product.inl"

#include "kernels/cpu/blocks.inl"

#include "kernels/cpu/attention.inl"

#include "kernels/cpu/attention_backward.inl"

#include "kernels/cpu/pairs.inl"
}  // namespace pairs

void pair_attention(stream& s, const attention_args<bf16>& a) { pairs::attention_by<pairs::pair>(s, a); }
void pair_attention_backward(stream& s, const attention_backward_args<bf16>& a) { pairs::attention_backward_by<pairs::pair>(s, a); }

}  // namespace isthmus::kernels::cpu
#endif
