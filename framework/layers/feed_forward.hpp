#pragma once

#include "framework/layers/layer.hpp"
#include "framework/models/config.hpp"

#include <string>

namespace isthmus {

/// SwiGLU, Shazeer 2020, arXiv:2002.05202: y = (silu(x W_gate^T) * (x W_up^T)) W_down^T, gate and up from one product.
template <class Act>
class feed_forward_layer final : public layer<Act> {
public:
  /// prefix: "model.layers.3.feed_forward."
  feed_forward_layer(const model_config& config, const kernels::op_table<Act>& ops, const parameter_view<kernels::real<Act>>& parameters,
                     const std::string& prefix);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void advance(const layer_pass<Act>& p, std::int64_t position, layer_state& state, const Act* x, Act* y) override;
  layer_state start() const override { return {}; }
  void weights_changed() override;

private:
  std::int64_t hidden_;
  projection<Act> gate_up_, down_;
  Act* gate_up_out_ = nullptr;  // kept: [rows, 2 hidden]; backward leaves its gradient there
  Act* activated_ = nullptr;    // shared: [rows, hidden]
};

}  // namespace isthmus
