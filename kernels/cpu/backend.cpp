#include "kernels/cpu/backend.hpp"

#include "kernels/cpu/backends.hpp"

namespace isthmus::kernels {

namespace cpu {
std::unique_ptr<stream> make_stream(team& t) { return std::make_unique<cpu_stream>(t); }
}  // namespace cpu

std::vector<const backend*> cpu_backends() {
  std::vector<const backend*> found;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    found.push_back(&cpu::avx512_backend);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&cpu::avx2_backend);
#endif
  found.push_back(&cpu::generic_backend);
  return found;
}

const backend& cpu_backend() { return *cpu_backends().front(); }

}  // namespace isthmus::kernels
