#pragma once

#include "kernels/backend.hpp"

#include <string>

namespace isthmus::kernels {

/// Kernels on one NVIDIA GPU, the current one of the calling thread: asynchronous on a queue of the stream's own, in device memory.
/// Sums have a fixed order, so a rerun on the same GPU gives the same bits. Throws device_error where the driver, the device or
/// cuBLAS is not there. head_dim at most 256 in fp32 and 128 in bf16.
const backend& cuda_backend();

/// Whether there is a device to run on and a cuBLAS to multiply with; else why not, for people.
bool cuda_works(std::string* why_not = nullptr);

/// The device's name, its multiprocessors and memory, for people.
std::string describe_cuda_device();

}  // namespace isthmus::kernels
