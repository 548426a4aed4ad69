#pragma once

#include "framework/layers/layer_state.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace isthmus {

/// Whether a transaction is open on the object that this is in. Not part of its value: a copy has none open, and all are equal.
struct open_transaction {
  bool is = false;
  open_transaction() = default;
  open_transaction(const open_transaction&) noexcept {}
  open_transaction& operator=(const open_transaction&) noexcept { return *this; }
  bool operator==(const open_transaction&) const { return true; }
};

/// All that decoding needs to go on: a value, so a copy is a snapshot and an assignment restores it.
struct sequence_state {
  std::int64_t position = 0;        // tokens read
  std::vector<layer_state> layers;  // one a mixer or channel mixer, in the model's order
  open_transaction on_trial = {};   // what an abort would want back stays
  bool operator==(const sequence_state&) const = default;
};

/// Ids that a sequence reads next, at least one, and of how many of them, the last ones, the logits that follow are wanted.
struct sequence_input {
  sequence_state* state;
  std::span<const std::int32_t> ids;
  std::int64_t last = 1;
};

/// Bytes that a state holds; of one kind, where it is named.
std::size_t bytes_of(const sequence_state& state);
std::size_t bytes_of(const sequence_state& state, state_kind kind);

/// Drops rows that no later token looks at, unless a transaction is open. Whoever moves a state on ends with this.
void drop_unseen(sequence_state& state);

/// Tokens read on trial: what is not committed is undone. Keeps a copy of the parts that do not grow, and how long the others were; until it
/// ends the state drops nothing.
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
  /// Only the first `tokens` of those read since it began stay read: only where all parts grow (attention's). Gives whether they do; where
  /// they do not, nothing has happened.
  bool commit_first(std::int64_t tokens);
  /// The state is what it was.
  void abort();
  /// Bytes kept to undo.
  std::size_t bytes() const;

private:
  sequence_state* state_;
  std::int64_t position_;
  bool within_another_;
  std::vector<layer_state> fixed_;  // parts that grow are empty here
};

}  // namespace isthmus
