#pragma once

#include "framework/layers/layer_kind.hpp"
#include "framework/layers/long_conv_plans.hpp"

#include <vector>

namespace isthmus {

/// The gated long convolution y = x2 * (h (*) w + D w), w = x1 * v, whose filters are sums of exponentials: by Fourier transform over whole
/// sequences, as a recurrence from a state. x2, x1, v are columns of u: [rows, 3 d], in this order.
template <class Act>
class long_filter {
public:
  using real = kernels::real<Act>;
  long_filter(kernels::modal_form form, std::int64_t d, std::int64_t modes, const layer_parts<Act>& parts, parameter<real> skip);
  /// h and its gradient lie in `shared`.
  void place(std::int64_t length, arena& shared);
  void forward(const layer_pass<Act>& p, const Act* u, Act* y);
  /// d_u overwrites.
  void backward(const layer_pass<Act>& p, const Act* u, const Act* dy, Act* d_u);
  void advance(const layer_pass<Act>& p, real* state, const Act* u, Act* y) const { scan(p, state, nullptr, u, y); }
  /// The recurrence, as advance, and back through it: of one sequence. d_state: the gradient of the state that forward_from came to, on return
  /// of the one that it began from.
  void forward_from(const layer_pass<Act>& p, real* state, const Act* u, Act* y);
  void backward_from(const layer_pass<Act>& p, const Act* u, const Act* dy, Act* d_u, real* d_state) const;
  std::int64_t state_size() const { return d_ * modes_ * numbers_; }

private:
  void materialise(const layer_pass<Act>& p) const;
  void scan(const layer_pass<Act>& p, real* state, real* chunk_states, const Act* u, Act* y) const;

  kernels::modal_form form_;
  std::int64_t d_, modes_, numbers_;  // numbers a mode: 2 of a complex one
  parameter<real> poles_, residues_, skip_;
  long_conv_plans<Act> plans_;
  real *h_ = nullptr, *dh_ = nullptr;  // [d, length]
  std::vector<real> states_;           // of forward_from, that backward_from begins chunks with: see modal_scan_args
};

/// How a long filter's tensors are called and begin: poles and residues, [d, modes, 2] or [d, modes].
void declare_long_filter(kernels::modal_form form, std::int64_t d, std::int64_t modes, tensor_list& tensors);

}  // namespace isthmus
