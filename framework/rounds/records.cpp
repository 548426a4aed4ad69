#include "framework/rounds/parameter_group.hpp"

#include <bit>

namespace isthmus {

namespace {

/// Fields as little-endian words, so that the hash is the same on every machine.
class word_list {
public:
  void add(std::uint64_t word) { words_.push_back(word); }
  void add(double value) { words_.push_back(std::bit_cast<std::uint64_t>(value)); }
  void add(const hash128& h) {
    add(h.high);
    add(h.low);
  }
  hash128 hash() const { return hash_bytes(std::as_bytes(std::span(words_))); }

private:
  std::vector<std::uint64_t> words_;
};

static_assert(std::endian::native == std::endian::little, "record hashes are taken over little-endian words");

}  // namespace

hash128 hash_record(const round_record& record) {
  word_list words;
  words.add(std::uint64_t{record.group});
  words.add(record.round);
  words.add(record.epoch);
  words.add(std::uint64_t{record.home});
  words.add(std::uint64_t{record.contributors.size()});
  for (const contributor& c : record.contributors) {
    words.add(std::uint64_t{c.site});
    words.add(c.incarnation);
    words.add(c.step);
    words.add(c.tokens);
    words.add(c.mass);
    words.add(std::uint64_t{c.leases.size()});
    for (const lease& l : c.leases) {
      words.add(std::uint64_t{l.shard});
      words.add(l.begin);
      words.add(l.end);
    }
  }
  words.add(record.tokens_total);
  words.add(record.weight);
  words.add(record.mass);
  words.add(record.delta_hash);
  words.add(record.anchor_hash);
  words.add(record.previous);
  for (const contributor& c : record.contributors) {  // nothing is added where all were taken as they came
    if (c.judged == verdict::taken) continue;
    words.add(std::uint64_t{c.site});
    words.add(std::uint64_t{static_cast<std::uint8_t>(c.judged)});
    words.add(c.uncounted);
    words.add(c.clipped);
    words.add(c.barred_until);
  }
  for (const audit_result& a : record.audits) {
    words.add(std::uint64_t{a.site});
    words.add(a.round);
    words.add(a.cosine);
    words.add(std::uint64_t{a.failed});
    words.add(a.barred_until);
  }
  return words.hash();
}

}  // namespace isthmus
