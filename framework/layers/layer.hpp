#pragma once

#include "framework/core/error.hpp"
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

  /// Whether gradients go through its state: then a text may be learnt from piece by piece, by the two below, with the gradients of the whole.
  virtual bool carries_gradients() const { return false; }
  /// As forward, from a state of one sequence (batch = 1), which it moves on. Throws contract_error where gradients do not go through it.
  virtual void forward_from(const layer_pass<Act>&, layer_state&, const Act* /*x*/, Act* /*y*/) {
    ensure(false, "layer: no gradients go through this layer's state");
  }
  /// As backward, after forward_from with the same x. before: the state that it began from. d_state: shaped as that one, the gradient of the
  /// state that it came to, and on return that of `before`, shaped as that: parts that grow lose the rows of the pass.
  virtual void backward_from(const layer_pass<Act>&, const layer_state& /*before*/, const Act* /*x*/, const Act* /*dy*/, Act* /*dx*/,
                             layer_state& /*d_state*/) {
    ensure(false, "layer: no gradients go through this layer's state");
  }
};

}  // namespace isthmus
