#pragma once

#include "kernels/cuda/blas.hpp"
#include "kernels/memory.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace isthmus::kernels::cuda {

/// Throws device_error naming `what` unless the call went well.
void check(cudaError_t result, const char* what);

/// The stream of this backend: a queue of the device, a handle of cuBLAS, and memory that kernels want for the length of a call.
class queue final : public stream {
public:
  explicit queue(team& t);
  ~queue() override;
  void finish() override;

  cudaStream_t handle() const { return handle_; }
  const blas_handle& blas() const { return blas_; }
  /// Whether the GPU runs machine code of compute capability 9.0a.
  bool on_hopper() const { return on_hopper_; }
  /// What a block can have of shared memory.
  int shared_bytes() const { return shared_bytes_; }
  /// Device memory of at least `bytes`, contents undefined; the next call gives the same again. Grows and is kept.
  std::byte* scratch(std::size_t bytes);
  /// The device's copy of some of the host's bytes, which is made anew only when they differ from those of the last call.
  const std::byte* keep(const void* host, std::size_t bytes);
  float* scratch_floats(std::int64_t count) { return reinterpret_cast<float*>(scratch(static_cast<std::size_t>(count) * sizeof(float))); }

private:
  cudaStream_t handle_ = nullptr;
  blas_handle blas_;
  bool on_hopper_ = false;
  int shared_bytes_ = 0;
  std::byte* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  std::vector<std::byte> kept_;  // what `resident_` holds
  std::byte* resident_ = nullptr;
};

inline queue& queue_of(stream& s) { return static_cast<queue&>(s); }

/// Device memory, for this backend's memory table.
extern const memory_table device_memory;

}  // namespace isthmus::kernels::cuda
