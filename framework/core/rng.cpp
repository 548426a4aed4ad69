#include "framework/core/rng.hpp"

#include "framework/core/error.hpp"

#include <bit>
#include <cmath>
#include <numbers>

namespace isthmus {

std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

namespace {
constexpr std::uint64_t golden = 0x9e3779b97f4a7c15U;
std::uint64_t absorb(std::uint64_t state, std::uint64_t word) { return mix64(state + golden + mix64(word + golden)); }
}  // namespace

rng::rng(std::uint64_t seed, std::uint64_t site, std::uint64_t step, draw purpose)
    : state_(absorb(absorb(absorb(absorb(0, seed), site), step), static_cast<std::uint64_t>(purpose))) {}

std::uint64_t rng::next() { return mix64(state_ += golden); }

std::uint64_t rng::below(std::uint64_t bound) {
  ensure(bound > 0, "rng::below: bound is 0");
  const std::uint64_t excess = (0 - bound) % bound;  // 2^64 mod bound
  for (;;) {
    const std::uint64_t x = next();
    if (x >= excess) return x % bound;
  }
}

double rng::uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

double rng::normal() {
  const double u = 1.0 - uniform();  // (0, 1]
  const double v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

std::uint64_t permuted(std::uint64_t i, std::uint64_t count, std::uint64_t key) {
  ensure(i < count, "permuted: index past the end");
  if (count < 2) return 0;
  const int half = (std::bit_width(count - 1) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  do {  // walks the cycle until it is back inside; at most 4 steps on average
    std::uint64_t left = i >> half, right = i & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t next = left ^ (mix64(right + mix64(key + round * golden)) & mask);
      left = right;
      right = next;
    }
    i = (left << half) | right;
  } while (i >= count);
  return i;
}

}  // namespace isthmus
