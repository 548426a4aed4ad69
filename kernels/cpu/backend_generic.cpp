#include "kernels/cpu/includes.hpp"

#define ISTHMUS_WIDTH 4
#define ISTHMUS_STRIP 4
#define ISTHMUS_STRIP_VECTORS 2

namespace isthmus::kernels::cpu {

namespace generic {
#include "kernels/cpu/all.inl"
}  // namespace generic

const backend generic_backend{.name = "cpu",
                              .make_stream = make_stream,
                              .memory = &host_memory,
                              .f32 = generic::table<float>(),
                              .b16 = generic::table<bf16>(),
                              .adamw = generic::adamw,
                              .sum_of_squares = generic::sum_of_squares};

}  // namespace isthmus::kernels::cpu
