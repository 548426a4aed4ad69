#include "kernels/cuda/backend.hpp"

#include "kernels/cuda/ops.hpp"
#include "kernels/cuda/queue.hpp"

namespace isthmus::kernels {

namespace {

template <class Act>
constexpr op_table<Act> table() {
  return {.make_matrix = cuda::make_matrix<Act>,
          .make_quantised_matrix = cuda::make_quantised_matrix<Act>,
          .linear = cuda::linear<Act>,
          .linear_backward_input = cuda::linear_backward_input<Act>,
          .linear_backward_weight = cuda::linear_backward_weight<Act>,
          .block_linear = cuda::block_linear<Act>,
          .block_linear_backward_input = cuda::block_linear_backward_input<Act>,
          .block_linear_backward_weight = cuda::block_linear_backward_weight<Act>,
          .embedding = cuda::embedding,
          .embedding_backward = cuda::embedding_backward,
          .rms_norm = cuda::rms_norm<Act>,
          .rms_norm_backward = cuda::rms_norm_backward<Act>,
          .layer_norm = cuda::layer_norm<Act>,
          .layer_norm_backward = cuda::layer_norm_backward<Act>,
          .bias = cuda::bias<Act>,
          .bias_backward = cuda::bias_backward<Act>,
          .activation = cuda::activation<Act>,
          .activation_backward = cuda::activation_backward<Act>,
          .column_norm = cuda::column_norm<Act>,
          .column_norm_backward = cuda::column_norm_backward<Act>,
          .gate = cuda::gate<Act>,
          .gate_backward = cuda::gate_backward<Act>,
          .shuffle = cuda::shuffle<Act>,
          .add = cuda::add<Act>,
          .route = cuda::route<Act>,
          .route_backward = cuda::route_backward<Act>,
          .dispatch = cuda::dispatch<Act>,
          .combine = cuda::combine<Act>,
          .combine_backward = cuda::combine_backward<Act>,
          .rope = cuda::rope<Act>,
          .attention = cuda::attention<Act>,
          .attention_backward = cuda::attention_backward<Act>,
          .attention_cached = cuda::attention_cached<Act, Act>,
          .attention_cached_bf16 = cuda::attention_cached<Act, bf16>,
          .conv1d = cuda::conv1d<Act>,
          .conv1d_backward = cuda::conv1d_backward<Act>,
          .conv1d_step = cuda::conv1d_step<Act>,
          .make_long_conv_plan = cuda::make_long_conv_plan,
          .long_conv = cuda::long_conv<Act>,
          .long_conv_backward = cuda::long_conv_backward<Act>,
          .modal_filter = cuda::modal_filter,
          .modal_filter_backward = cuda::modal_filter_backward,
          .modal_scan = cuda::modal_scan<Act>,
          .modal_scan_backward = cuda::modal_scan_backward<Act>,
          .modal_step = cuda::modal_step<Act>,
          .ssd = cuda::ssd<Act>,
          .ssd_backward = cuda::ssd_backward<Act>,
          .ssd_step = cuda::ssd_step<Act>,
          .selective_scan = cuda::selective_scan<Act>,
          .selective_scan_backward = cuda::selective_scan_backward<Act>,
          .selective_scan_step = cuda::selective_scan_step<Act>,
          .gated_norm = cuda::gated_norm<Act>,
          .gated_norm_backward = cuda::gated_norm_backward<Act>,
          .cross_entropy = cuda::cross_entropy<Act>};
}

}  // namespace

const backend& cuda_backend() {
  static const backend the_gpu{.name = "cuda",
                               .make_stream = [](team& t) -> std::unique_ptr<stream> { return std::make_unique<cuda::queue>(t); },
                               .memory = &cuda::device_memory,
                               .f32 = table<float>(),
                               .b16 = table<bf16>(),
                               .adamw = cuda::adamw,
                               .sum_of_squares = cuda::sum_of_squares};
  return the_gpu;
}

bool cuda_works(std::string* why_not) {
  int devices = 0;
  const cudaError_t result = cudaGetDeviceCount(&devices);
  std::string reason;
  if (result == cudaErrorInsufficientDriver)
    reason = "no NVIDIA driver, or one older than CUDA " + std::to_string(CUDART_VERSION / 1000) + " needs";
  else if (result == cudaErrorNoDevice)
    reason = "this machine has no GPU";
  else if (result != cudaSuccess)
    reason = std::string("no GPU can be used: ") + cudaGetErrorString(result);
  else if (devices == 0)
    reason = "this machine has no GPU";
  else if (!cuda::blas_is_there())
    reason = "there is a GPU, but no cuBLAS";
  cudaGetLastError();
  if (why_not) *why_not = reason;
  return reason.empty();
}

std::string describe_cuda_device() {
  int device = 0;
  cudaDeviceProp found{};
  cuda::check(cudaGetDevice(&device), "asking for the GPU");
  cuda::check(cudaGetDeviceProperties(&found, device), "asking for the GPU's properties");
  return std::string(found.name) + ", " + std::to_string(found.multiProcessorCount) + " multiprocessors, " +
         std::to_string(found.totalGlobalMem >> 30) + " GiB";
}

}  // namespace isthmus::kernels
