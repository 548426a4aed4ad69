#pragma once

#include "kernels/backend.hpp"

namespace isthmus::kernels::cpu {

// One table for each instruction set; using one that the CPU lacks ends in an illegal instruction.
extern const backend generic_backend;
#if defined(__x86_64__)
extern const backend avx2_backend, avx512_backend;
#endif
/// The stream of all of them.
std::unique_ptr<stream> make_stream(team& t);

}  // namespace isthmus::kernels::cpu
