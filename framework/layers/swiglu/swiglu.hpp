#pragma once

#include "framework/layers/layer_kind.hpp"

namespace isthmus {

/// SwiGLU, Shazeer 2020, arXiv:2002.05202: y = (silu(x W_gate^T) * (x W_up^T)) W_down^T, gate and up from one product.
template <class Act>
class swiglu_layer final : public layer<Act> {
public:
  swiglu_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void weights_changed() override;

private:
  std::int64_t hidden_;
  projection<Act> gate_up_, down_;
  Act* gate_up_out_ = nullptr;  // kept: [rows, 2 hidden]; backward leaves its gradient there
  Act* activated_ = nullptr;    // shared: [rows, hidden]
};

}  // namespace isthmus
