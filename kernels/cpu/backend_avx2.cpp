#include "kernels/cpu/includes.hpp"

#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#define ISTHMUS_WIDTH 8
#define ISTHMUS_STRIP 6
#define ISTHMUS_STRIP_VECTORS 2

namespace isthmus::kernels::cpu {

namespace avx2 {
#include "kernels/cpu/all.inl"
}  // namespace avx2

const backend avx2_backend{.name = "cpu",
                           .make_stream = make_stream,
                           .memory = &host_memory,
                           .f32 = avx2::table<float>(),
                           .b16 = avx2::table<bf16>(),
                           .adamw = avx2::adamw,
                           .sum_of_squares = avx2::sum_of_squares};

}  // namespace isthmus::kernels::cpu
