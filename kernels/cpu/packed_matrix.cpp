#include "kernels/cpu/packed_matrix.hpp"

namespace isthmus::kernels::cpu {

template <class Act>
std::unique_ptr<matrix<Act>> make_packed_matrix(const float* master, std::int64_t out, std::int64_t in) {
  return std::make_unique<packed_matrix<Act>>(master, out, in);
}

template <class Act>
std::unique_ptr<matrix<Act>> make_packed_quantised_matrix(const float* master, std::int64_t out, std::int64_t in, weight_format format) {
  return std::make_unique<packed_matrix<Act>>(master, out, in, format);
}

template std::unique_ptr<matrix<float>> make_packed_matrix<float>(const float*, std::int64_t, std::int64_t);
template std::unique_ptr<matrix<bf16>> make_packed_matrix<bf16>(const float*, std::int64_t, std::int64_t);
template std::unique_ptr<matrix<float>> make_packed_quantised_matrix<float>(const float*, std::int64_t, std::int64_t, weight_format);
template std::unique_ptr<matrix<bf16>> make_packed_quantised_matrix<bf16>(const float*, std::int64_t, std::int64_t, weight_format);

}  // namespace isthmus::kernels::cpu
