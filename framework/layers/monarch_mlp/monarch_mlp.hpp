#pragma once

#include "framework/layers/feed_forward.hpp"

#include <memory>
#include <vector>

namespace isthmus {

/// A matrix of diagonal blocks and its gradient: tensor [blocks, out / blocks, in / blocks], block k from the k-th columns of x to the k-th
/// of y.
template <class Act>
class block_projection {
public:
  block_projection(const layer_parts<Act>& parts, const std::string& name);
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) const;
  void backward_input(const layer_pass<Act>& p, const Act* dy, Act* dx) const;
  void backward_weight(const layer_pass<Act>& p, const Act* x, const Act* dy) const;
  void weights_changed() const;

private:
  std::int64_t blocks() const { return static_cast<std::int64_t>(pointers_.size()); }

  std::int64_t out_, in_;
  kernels::real<Act>* gradient_;
  std::vector<std::unique_ptr<kernels::matrix<Act>>> matrices_;
  std::vector<kernels::matrix<Act>*> pointers_;  // the same
};

/// The Monarch MLP, Fu et al. 2023, arXiv:2310.12109: a feed-forward layer whose matrices consist of diagonal blocks, 1 / blocks of the
/// weights and of the work. Gated, its first half of the blocks gives the gates, as M2-BERT's gated_layers do. With `monarch_shuffle` the
/// hidden channels are transposed as [blocks, hidden / blocks], so that every output hears of every input: the two factors of a Monarch matrix.
template <class Act>
class monarch_mlp_layer final : public layer<Act> {
public:
  monarch_mlp_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void weights_changed() override;

private:
  /// y = x with its columns, seen as [outer, hidden / outer], transposed; or x itself when nothing is shuffled.
  Act* shuffled(const layer_pass<Act>& p, Act* x, Act* y, std::int64_t outer) const;

  std::int64_t d_, hidden_, blocks_;
  kernels::activation_kind kind_;
  bool gated_, shuffles_;
  block_projection<Act> up_, down_;
  parameter<kernels::real<Act>> bias_{};         // of down
  Act* up_out_ = nullptr;                        // kept: [rows, hidden], or twice that when it is gated; backward leaves its gradient there
  Act *activated_ = nullptr, *mixed_ = nullptr;  // shared: [rows, hidden]
};

}  // namespace isthmus
