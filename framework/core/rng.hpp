#pragma once

#include <cstdint>

namespace isthmus {

/// What a random draw is for: part of its key, so that adding a draw somewhere never shifts another's.
enum class draw : std::uint64_t { initial_weights = 1, sample_order, sampling, network, fault, schedule, back_off, probe, token, rare, audit };

/// A keyed stream of random numbers: the same (seed, site, step, purpose) gives the same numbers on every machine,
/// whatever else was drawn before. Mixing: splitmix64 (Steele, Lea & Flood 2014).
class rng {
public:
  rng(std::uint64_t seed, std::uint64_t site, std::uint64_t step, draw purpose);

  std::uint64_t next();
  /// In [0, bound), without modulo bias; bound > 0.
  std::uint64_t below(std::uint64_t bound);
  /// In [0, 1), 53 random bits.
  double uniform();
  /// Standard normal (Box-Muller, one value a call).
  double normal();

private:
  std::uint64_t state_;
};

/// A bijection of 64-bit numbers with good avalanche (the finaliser of splitmix64).
std::uint64_t mix64(std::uint64_t x);

/// The place of index i under a keyed permutation of [0, count): a cycle-walking Feistel network, so that a sample order of
/// any length needs no memory. i < count.
std::uint64_t permuted(std::uint64_t i, std::uint64_t count, std::uint64_t key);

}  // namespace isthmus
