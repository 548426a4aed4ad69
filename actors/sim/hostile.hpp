#pragma once

#include "actors/site.hpp"
#include "framework/core/rng.hpp"
#include "framework/recipe/fault_kinds.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace isthmus::actors {

/// A site that does wrong on purpose: what an optimizer step did to its weights is replaced, so that its accounts agree with what it
/// sends and only the others can tell. sign_flip, scale, noise, replay.
class hostile_hand {
public:
  hostile_hand(fault_kind kind, double amount, std::uint64_t seed) : kind_(kind), amount_(static_cast<float>(amount)), seed_(seed) {}
  void before(const optimizer_slice& s);
  void after(const optimizer_slice& s);

private:
  fault_kind kind_;
  float amount_;
  std::uint64_t seed_;
  std::map<std::int64_t, std::vector<float>> start_, first_;  // by a slice's begin: weights before the step; the first step ever done
};

/// A contribution whose frame holds no numbers behind its header, with a header that fits; other messages as they are.
std::pair<shared_bytes, shared_bytes> without_numbers(const std::string& run, const shared_bytes& header, const shared_bytes& payload);

}  // namespace isthmus::actors
