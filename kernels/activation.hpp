#pragma once

#include <cstdint>

namespace isthmus::kernels {

/// The functions of channel mixers. gelu: x Phi(x), the exact one; gelu_tanh: with Phi by tanh (Hendrycks & Gimpel 2016,
/// arXiv:1606.08415); relu2: max(x, 0)^2 (So et al. 2021, arXiv:2109.08668).
enum class activation_kind { silu, gelu, gelu_tanh, relu2 };

/// Gated: y[r,c] = f(x[r,c]) * x[r, hidden + c], with silu SwiGLU (Shazeer 2020, arXiv:2002.05202); else y[r,c] = f(x[r,c]).
template <class Act>
struct activation_args {
  const Act* x;  // [rows, 2 * hidden]: gate, then up; [rows, hidden] when it is not gated
  Act* y;        // [rows, hidden]
  std::int64_t rows, hidden;
  activation_kind kind = activation_kind::silu;
  bool gated = true;
};

/// dx overwrites. y is the forward pass's output once more, so that nobody has to keep it.
template <class Act>
struct activation_backward_args {
  const Act* x;   // as in the forward pass
  const Act* dy;  // [rows, hidden]
  Act* dx;        // shaped as x; may alias x
  Act* y;         // [rows, hidden]; may alias dy; or null
  std::int64_t rows, hidden;
  activation_kind kind = activation_kind::silu;
  bool gated = true;
};

}  // namespace isthmus::kernels
