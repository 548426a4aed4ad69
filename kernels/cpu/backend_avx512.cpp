#include "kernels/cpu/includes.hpp"

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi,bmi2,prefer-vector-width=512")
#define ISTHMUS_WIDTH 16
#define ISTHMUS_STRIP 14
#define ISTHMUS_STRIP_VECTORS 2

namespace isthmus::kernels::cpu {

namespace avx512 {
#include "kernels/cpu/all.inl"
}  // namespace avx512

const backend avx512_backend{.name = "cpu",
                             .make_stream = make_stream,
                             .memory = &host_memory,
                             .f32 = avx512::table<float>(),
                             .b16 = avx512::table<bf16>(),
                             .adamw = avx512::adamw,
                             .sum_of_squares = avx512::sum_of_squares};

}  // namespace isthmus::kernels::cpu
