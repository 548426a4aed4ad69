#include "kernels/select.hpp"

#include "kernels/reference/backend.hpp"
#ifdef ISTHMUS_CPU_BACKEND
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/gemm_library.hpp"
#endif

#ifdef ISTHMUS_CUDA_BACKEND
#include "kernels/cuda/backend.hpp"
#endif

#include <algorithm>

namespace isthmus::kernels {

std::vector<const backend*> backends() {
  std::vector<const backend*> all;
#ifdef ISTHMUS_CPU_BACKEND
  all.push_back(&cpu_backend());
#endif
#ifdef ISTHMUS_CUDA_BACKEND
  if (cuda_works()) all.push_back(&cuda_backend());
#endif
  all.push_back(&reference_backend());
  return all;
}

const backend* find_backend(std::string_view name) {
  const auto all = backends();
  const auto at = std::find_if(all.begin(), all.end(), [&](const backend* b) { return name == b->name; });
  return at == all.end() ? nullptr : *at;
}

const backend& default_backend() { return *backends().front(); }

std::string products() {
#ifdef ISTHMUS_CPU_BACKEND
  return cpu::describe_gemm_library();
#else
  return "own kernels";
#endif
}

std::string gpu() {
#ifdef ISTHMUS_CUDA_BACKEND
  std::string why_not;
  return cuda_works(&why_not) ? describe_cuda_device() : why_not;
#else
  return "not built in";
#endif
}

}  // namespace isthmus::kernels
