#pragma once

#include "framework/data/token_shard.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <span>

namespace isthmus {

/// Where each position of a shard's endless sample stream lies in the shard: every pass visits each sample once, in an order keyed
/// by (seed, shard, pass). Needs no memory, and any position is found at once.
class sample_order {
public:
  /// samples > 0.
  sample_order(std::uint64_t samples, std::uint64_t seed, std::uint32_t shard);
  std::uint64_t samples() const { return samples_; }
  /// position -> sample index in [0, samples).
  std::uint64_t index(std::uint64_t position) const;

private:
  std::uint64_t samples_, seed_;
  std::uint32_t shard_;
};

/// How many samples a section gives: sample i is tokens [i * context, i * context + context], its last token the next one's first.
std::uint64_t sample_count(const token_section& section, std::int64_t context);

/// Turns leases into rows of a token_batch. Borrows the section, which must outlive it.
class batch_reader {
public:
  /// The section must hold at least one sample (contract_error).
  batch_reader(const token_section& section, std::int64_t context, std::uint64_t seed, std::uint32_t shard);
  std::uint64_t samples() const { return order_.samples(); }
  /// Writes the rows of the leases, in their order; ids: [sum of (end - begin), context + 1].
  void fill(std::span<const lease> leases, std::span<token_id> ids) const;
  /// One row: ids: [context + 1].
  void fill_row(std::uint64_t position, std::span<token_id> ids) const;
  /// As many samples as `ids` has rows, spread evenly over the whole section, for evaluation; ids: [rows <= samples(), context + 1].
  void fill_evenly(std::span<token_id> ids) const;

private:
  const token_section& section_;
  std::int64_t context_;
  std::uint32_t shard_;
  sample_order order_;
};

/// Nats per token that a held-out text costs under the unigram distribution of the training text, add-one smoothed: what a model
/// reaches that knows only how frequent each token is. Both must be non-empty.
double unigram_entropy(const token_section& train, const token_section& held_out, std::uint32_t vocabulary);

}  // namespace isthmus
