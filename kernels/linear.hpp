#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>
#include <stdexcept>

namespace isthmus::kernels {

/// What products read in place of the master weights. bf16: each weight rounded. int8, int4: groups of 32 neighbours along `in` that
/// share a scale (kernels/quantise.hpp), 8.5 and 4.5 bits a weight. All but master are for inference alone.
enum class weight_format { master, bf16, int8, int4 };

/// A weight matrix W [out, in] as a backend likes to read it: borrows the master weights and keeps derived copies (rounded,
/// packed, transposed, quantised), made lazily by the first kernel that wants one. Made by op_table::make_matrix or
/// make_quantised_matrix, only for that backend.
template <class Act>
class matrix {
public:
  matrix(const real<Act>* weights, std::int64_t rows, std::int64_t cols, weight_format f = weight_format::master)
      : master(weights), out(rows), in(cols), format(f) {}
  virtual ~matrix() = default;
  matrix(const matrix&) = delete;
  matrix& operator=(const matrix&) = delete;
  /// The master weights have changed: every derived copy is stale.
  virtual void weights_changed() = 0;

  const real<Act>* const master;  // [out, in] row-major
  const std::int64_t out, in;
  const weight_format format;
};

/// Throws std::logic_error when w is quantised: gradients are of the master weights, which its products do not read.
template <class Act>
void ensure_trains(const matrix<Act>& w) {
  if (w.format != weight_format::master) throw std::logic_error("a quantised matrix does not train: make one in the master format");
}

/// y = x W^T. With bf16 activations the weights are rounded to bf16, products are summed in fp32, the sum is rounded once. With a
/// quantised matrix W is what its format makes of the weights; a backend may then round x as well: to bf16 beside bf16 weights, beside
/// int8 and int4 to 255 steps for each group of 32, which changes y[r,o] by at most sum_g max_i |x[r,g,i]| / 254 * sum_i |w[o,g,i]|.
template <class Act>
struct linear_args {
  matrix<Act>* w;
  const Act* x;  // [rows, in], rows x_stride apart
  Act* y;        // [rows, out], rows y_stride apart; no alias
  std::int64_t rows, x_stride, y_stride;
};

/// dx = dy W. Overwrites. Throws std::logic_error for a quantised matrix.
template <class Act>
struct linear_backward_input_args {
  matrix<Act>* w;
  const Act* dy;  // [rows, out], rows dy_stride apart
  Act* dx;        // [rows, in], rows dx_stride apart; no alias
  std::int64_t rows, dy_stride, dx_stride;
};

/// dw += dy^T x, summed in real<Act>.
template <class Act>
struct linear_backward_weight_args {
  matrix<Act>* w;  // for its shape and the backend's caches; the weights themselves are not read. Not quantised: std::logic_error
  const Act* x;    // [rows, in]
  const Act* dy;   // [rows, out]
  real<Act>* dw;   // [out, in] row-major
  std::int64_t rows, x_stride, dy_stride;
};

}  // namespace isthmus::kernels
