#include "framework/data/sample_order.hpp"

#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"

#include <cmath>
#include <vector>

namespace isthmus {

sample_order::sample_order(std::uint64_t samples, std::uint64_t seed, std::uint32_t shard) : samples_(samples), seed_(seed), shard_(shard) {
  ensure(samples > 0, "sample_order: no samples");
}

std::uint64_t sample_order::index(std::uint64_t position) const {
  const std::uint64_t pass = position / samples_;
  return permuted(position % samples_, samples_, rng(seed_, shard_, pass, draw::sample_order).next());
}

std::uint64_t sample_count(const token_section& section, std::int64_t context) {
  ensure(context > 0, "sample_count: context must be positive");
  return section.size() == 0 ? 0 : (section.size() - 1) / static_cast<std::uint64_t>(context);
}

batch_reader::batch_reader(const token_section& section, std::int64_t context, std::uint64_t seed, std::uint32_t shard)
    : section_(section), context_(context), shard_(shard), order_(sample_count(section, context), seed, shard) {}

void batch_reader::fill(std::span<const lease> leases, std::span<token_id> ids) const {
  const std::size_t row = static_cast<std::size_t>(context_) + 1;
  std::size_t done = 0;
  for (const lease& l : leases) {
    ensure(l.shard == shard_, "batch_reader: a lease of another shard");
    for (std::uint64_t position = l.begin; position < l.end; ++position, done += row) {
      ensure(row <= ids.size() - done, "batch_reader: room for fewer rows than leased");
      fill_row(position, ids.subspan(done, row));
    }
  }
  ensure(done == ids.size(), "batch_reader: room for more rows than leased");
}

void batch_reader::fill_row(std::uint64_t position, std::span<token_id> ids) const {
  ensure(ids.size() == static_cast<std::size_t>(context_) + 1, "batch_reader: a row holds context + 1 ids");
  section_.copy(order_.index(position) * static_cast<std::uint64_t>(context_), ids);
}

void batch_reader::fill_evenly(std::span<token_id> ids) const {
  const std::size_t row = static_cast<std::size_t>(context_) + 1, rows = ids.size() / row;
  ensure(ids.size() % row == 0 && rows <= samples(), "batch_reader: a row holds context + 1 ids, and there are as many rows as samples");
  for (std::size_t r = 0; r < rows; ++r)
    section_.copy(r * samples() / rows * static_cast<std::uint64_t>(context_), ids.subspan(r * row, row));
}

double unigram_entropy(const token_section& train, const token_section& held_out, std::uint32_t vocabulary) {
  ensure(train.size() > 0 && held_out.size() > 0, "unigram_entropy: an empty text");
  std::vector<std::uint64_t> known(vocabulary, 1), met(vocabulary, 0);
  std::visit(
      [&](const auto& t) {
        for (const auto id : t) ++known.at(id);
      },
      train.tokens);
  std::visit(
      [&](const auto& t) {
        for (const auto id : t) ++met.at(id);
      },
      held_out.tokens);
  const double total = static_cast<double>(train.size() + vocabulary);
  double nats = 0;
  for (std::size_t id = 0; id < vocabulary; ++id) nats -= static_cast<double>(met[id]) * std::log(static_cast<double>(known[id]) / total);
  return nats / static_cast<double>(held_out.size());
}

}  // namespace isthmus
