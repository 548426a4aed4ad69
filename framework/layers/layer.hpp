#pragma once

#include "framework/layers/layer_state.hpp"
#include "framework/layers/pass.hpp"
#include "framework/tensor/arena.hpp"

#include <cstdint>
#include <span>

namespace isthmus {

/// A mixer, over the sequence or over the channels: [batch * length, d_model] -> the same, without the residual. Weights and
/// gradients belong to someone else; what it keeps between forward and backward lies in an arena of someone else.
template <class Act>
class layer {
public:
  virtual ~layer() = default;
  /// Says where activations of passes of this shape lie: `kept` from forward to backward, `shared` only inside one call, so all
  /// layers take it from the same place.
  virtual void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) = 0;
  /// x and y do not alias.
  virtual void forward(const layer_pass<Act>& p, const Act* x, Act* y) = 0;
  /// After forward with the same x. Overwrites dx, adds to the gradients. dx does not alias dy.
  virtual void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) = 0;
  /// Rows of some sequences (together those of the pass, batch = 1) that follow those which their states have seen: prefill and decoding.
  /// Moves the states on. What does not look along the sequence is best done for all rows at once, the rest by p.part(sequence). A layer
  /// that remembers nothing does the same as forward.
  virtual void advance(const layer_pass<Act>& p, std::span<const moving_sequence>, const Act* x, Act* y) { forward(p, x, y); }
  /// The state before the first token; empty when the layer remembers nothing.
  virtual layer_state start() const { return {}; }
  virtual void weights_changed() = 0;
};

}  // namespace isthmus
