#pragma once

#include "framework/layers/layer_kind.hpp"

#include <optional>
#include <vector>

namespace isthmus {

/// An MLP of a mixture, y = (f(x W_gate^T) * (x W_up^T)) W_down^T or y = f(x W_up^T) W_down^T. The rows of several experts lie in one
/// array, so that what happens between the products happens to all of them at once.
template <class Act>
class expert_mlp {
public:
  /// parts: with the expert's prefix.
  expert_mlp(const layer_parts<Act>& parts, bool gated) : up_(up_of(parts, gated)), down_(parts, {"down_proj.weight"}) {}

  const projection<Act>& up() const { return up_; }  // gate and up when it is gated
  const projection<Act>& down() const { return down_; }
  void weights_changed() {
    up_.matrix()->weights_changed();
    down_.matrix()->weights_changed();
  }

private:
  static projection<Act> up_of(const layer_parts<Act>& parts, bool gated) {
    if (gated) return {parts, {"gate_proj.weight", "up_proj.weight"}};
    return {parts, {"up_proj.weight"}};
  }
  projection<Act> up_, down_;
};

/// A mixture of experts: a router gives each token moe_active of moe_experts MLPs, whose outputs it weighs (kernels/route.hpp has
/// the rules and their papers), beside one MLP that all tokens pass (moe_shared_hidden > 0). No token is dropped: experts multiply as many
/// rows as chose them. While training, two losses of the router's own are added to that of the tokens, both in the mean over the tokens of
/// a pass and multiplied as the token losses are: moe_balance * E sum_e f_e P_e and moe_z_loss * lse^2. Decoding reads the weights of
/// the chosen experts alone; the router's are never quantised, for near ties would go elsewhere.
template <class Act>
class moe_layer final : public layer<Act> {
public:
  moe_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void weights_changed() override;

private:
  using real = kernels::real<Act>;
  /// f(expert, first slot, a pass over its slots) for each expert that has some.
  template <class F>
  void each_expert(const layer_pass<Act>& p, F f) const;
  void route(const layer_pass<Act>& p, const Act* x);
  void dispatch(const layer_pass<Act>& p, const Act* x);
  void backward_experts(const layer_pass<Act>& p, const Act* x);
  void backward_shared(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx);
  void backward_router(const layer_pass<Act>& p, const Act* x, Act* dx);
  void activate(const layer_pass<Act>& p, const Act* up_out, Act* activated, std::int64_t rows, std::int64_t hidden) const;
  /// activated: the gradient of what the function gave, then once more what it gave; up_out gets its gradient.
  void activate_backward(const layer_pass<Act>& p, Act* up_out, Act* activated, std::int64_t rows, std::int64_t hidden) const;
  std::int64_t slots() const { return starts_.back(); }
  std::int64_t up_width(std::int64_t hidden) const { return gated_ ? 2 * hidden : hidden; }

  std::int64_t d_, n_experts_, active_, hidden_, shared_hidden_;
  kernels::activation_kind activation_;
  bool gated_;
  kernels::router_rule rule_;
  real scale_, balance_, z_loss_;
  std::unique_ptr<kernels::matrix<Act>> router_;
  real* d_router_;
  const real* correction_ = nullptr;  // [experts], or null
  std::vector<expert_mlp<Act>> experts_;
  std::optional<expert_mlp<Act>> shared_;
  std::vector<std::int64_t> starts_;  // [experts + 1]: see route_args

  Act* logits_ = nullptr;                                                                      // kept: [rows, experts]
  real* weights_ = nullptr;                                                                    // kept: [rows, active]
  std::int32_t *chosen_ = nullptr, *place_ = nullptr, *source_ = nullptr, *counts_ = nullptr;  // kept: see route_args
  Act *up_out_ = nullptr, *out_ = nullptr;                                                     // kept: [slots, up_width | d]
  Act* shared_up_out_ = nullptr;                                                               // kept: [rows, up_width of shared_hidden]
  Act *sorted_ = nullptr, *activated_ = nullptr, *d_logits_ = nullptr;  // shared: [slots, d | hidden], [rows, experts]
  Act *shared_activated_ = nullptr, *d_shared_ = nullptr;               // shared: [rows, shared_hidden | d]
  real* d_weights_ = nullptr;                                           // shared: [rows, active]
};

}  // namespace isthmus
