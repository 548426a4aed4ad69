#include "framework/core/rare.hpp"

#include "framework/core/error.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/rng.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace isthmus {

namespace {

rare_chances* current = nullptr;

std::vector<const rare_site*>& sites() {
  static std::vector<const rare_site*> known;
  return known;
}

/// The same on every machine and in every build, wherever the site lies in memory.
std::uint64_t key_of(const rare_site& site) {
  const std::string_view name = site.name();
  return hash_bytes(std::as_bytes(std::span(name.data(), name.size()))).low;
}

}  // namespace

rare_site::rare_site(const char* name, double fires) : name_(name), fires_(fires) {
  auto& known = sites();
  const auto at = std::lower_bound(known.begin(), known.end(), this,
                                   [](const rare_site* a, const rare_site* b) { return std::strcmp(a->name_, b->name_) < 0; });
  known.insert(at, this);
}

bool rare_site::operator()() { return current != nullptr && current->draw(*this); }

const std::vector<const rare_site*>& rare_site::all() { return sites(); }

rare_chances::rare_chances(std::uint64_t seed) : seed_(seed) {
  ensure(current == nullptr, "rare_chances: there is one already");
  current = this;
}

rare_chances::~rare_chances() { current = nullptr; }

bool rare_chances::draw(const rare_site& site) {
  if (resting_) return false;
  const std::uint64_t key = key_of(site);
  if (rng(seed_, key, 0, draw::rare).uniform() >= armed) return false;
  if (rng(seed_, key, ++passes_[&site], draw::rare).uniform() >= site.fires()) return false;
  ++fired_[site.name()];
  return true;
}

}  // namespace isthmus
