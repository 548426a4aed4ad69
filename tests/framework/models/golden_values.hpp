#pragma once

#include "framework/core/rng.hpp"

#include <cstdint>
#include <string_view>

namespace isthmus::testing {

/// What value_of of tests/golden/make_hf_golden.py makes a number from: in [-0.5, 0.5), exact in fp32, by a tensor's name and an index.
inline double golden_uniform(std::string_view name, std::uint64_t seed, std::uint64_t i) {
  std::uint64_t key = 0xcbf29ce484222325U ^ seed;  // FNV-1a
  for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return static_cast<double>(mix64(key + i) >> 40) / 0x1p24 - 0.5;
}

}  // namespace isthmus::testing
