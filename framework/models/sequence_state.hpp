#pragma once

#include "framework/layers/layer_state.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace isthmus {

/// All that decoding needs to go on: a value, so a copy is a snapshot and an assignment restores it.
struct sequence_state {
  std::int64_t position = 0;        // tokens read
  std::vector<layer_state> layers;  // one a mixer or channel mixer, in the model's order
  bool operator==(const sequence_state&) const = default;
};

/// Bytes that a state holds; of one kind, where it is named.
std::size_t bytes_of(const sequence_state& state);
std::size_t bytes_of(const sequence_state& state, state_kind kind);

/// Tokens read on trial: what is not committed is undone. Keeps a copy of the parts that do not grow, and how long the others were.
class state_transaction {
public:
  /// Borrows the state, which is moved on by whoever owns it, until the transaction ends.
  explicit state_transaction(sequence_state& state);
  /// Aborts, unless it has ended.
  ~state_transaction();
  state_transaction(const state_transaction&) = delete;
  state_transaction& operator=(const state_transaction&) = delete;

  /// The tokens stay read.
  void commit();
  /// The state is what it was.
  void abort();
  /// Bytes kept to undo.
  std::size_t bytes() const;

private:
  sequence_state* state_;
  std::int64_t position_;
  std::vector<layer_state> fixed_;  // parts that grow are empty here
};

}  // namespace isthmus
