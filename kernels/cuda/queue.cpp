#include "kernels/cuda/queue.hpp"

#include <algorithm>
#include <new>
#include <string>

namespace isthmus::kernels::cuda {

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  throw device_error(std::string(what) + ": the GPU answered \"" + cudaGetErrorString(result) + "\" (" + cudaGetErrorName(result) + ")");
}

queue::queue(team& t) : stream(t) {
  check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "making a queue on the GPU");
  blas_ = make_blas_handle(handle_);
  int device = 0;
  check(cudaGetDevice(&device), "asking for the GPU");
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "asking what the GPU can do");
    return value;
  };
  on_hopper_ = attribute(cudaDevAttrComputeCapabilityMajor) == 9 && attribute(cudaDevAttrComputeCapabilityMinor) == 0;
  shared_bytes_ = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

queue::~queue() {
  cudaStreamSynchronize(handle_);
  blas_.reset();
  cudaFree(scratch_);
  cudaFree(resident_);
  cudaStreamDestroy(handle_);
}

void queue::finish() { check(cudaStreamSynchronize(handle_), "waiting for the GPU"); }

std::byte* queue::scratch(std::size_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_;
  finish();
  cudaFree(scratch_);
  scratch_bytes_ = 0;
  scratch_ = static_cast<std::byte*>(device_memory.allocate(bytes));
  scratch_bytes_ = bytes;
  return scratch_;
}

const std::byte* queue::keep(const void* host, std::size_t bytes) {
  const auto* first = static_cast<const std::byte*>(host);
  if (resident_ && std::equal(kept_.begin(), kept_.end(), first, first + bytes)) return resident_;
  finish();
  cudaFree(resident_);
  kept_.assign(first, first + bytes);
  resident_ = nullptr;
  resident_ = static_cast<std::byte*>(device_memory.allocate(bytes));
  device_memory.upload(*this, resident_, host, bytes);
  return resident_;
}

namespace {

void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  const cudaError_t result = cudaMalloc(&memory, bytes);
  if (result == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is told by the exception
    throw std::bad_alloc();
  }
  check(result, "taking memory of the GPU");
  return memory;
}

void release(void* memory) { cudaFree(memory); }

void upload(stream& s, void* to, const void* host, std::size_t bytes) {
  check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, queue_of(s).handle()), "copying to the GPU");
  queue_of(s).finish();  // pinned memory is read later than the call returns
}

void download(stream& s, void* host, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, queue_of(s).handle()), "copying from the GPU");
  queue_of(s).finish();
}

void clear(stream& s, void* memory, std::size_t bytes) {
  check(cudaMemsetAsync(memory, 0, bytes, queue_of(s).handle()), "clearing memory of the GPU");
}

}  // namespace

const memory_table device_memory{
    .on_host = false, .allocate = allocate, .release = release, .upload = upload, .download = download, .clear = clear};

}  // namespace isthmus::kernels::cuda
