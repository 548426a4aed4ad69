#pragma once

#include "kernels/linear.hpp"
#include "kernels/scratch_block.hpp"

#include <memory>

namespace isthmus::kernels::cpu {

/// A weight matrix with its packed forms.
template <class Act>
class packed_matrix final : public matrix<Act> {
public:
  using matrix<Act>::matrix;
  void weights_changed() override {
    of_forward.fresh = of_backward.fresh = library_forward.fresh = library_backward.fresh = rounded.fresh = paired.fresh =
        paired_backward.fresh = split_forward.fresh = split_backward.fresh = grouped.fresh = false;
  }

  struct form {
    scratch_block panels;
    bool fresh = false;
  };
  form of_forward, of_backward;            // right operands of x W^T and of dy W
  form library_forward, library_backward;  // the same for a library
  form split_forward, split_backward;      // the same in bf16 parts
  form rounded;                            // [out, in] in bf16, for few rows
  form paired, paired_backward;            // bf16, of x W^T and of dy W: kernels/cpu/pair_product.hpp
  form grouped;                            // int8 or int4: kernels/cpu/grouped_weights.hpp
};

template <class Act>
std::unique_ptr<matrix<Act>> make_packed_matrix(const float* master, std::int64_t out, std::int64_t in);
template <class Act>
std::unique_ptr<matrix<Act>> make_packed_quantised_matrix(const float* master, std::int64_t out, std::int64_t in, weight_format format);

}  // namespace isthmus::kernels::cpu
