#include "tests/framework/transport/keys.hpp"

#include "framework/core/rng.hpp"

namespace isthmus::testing {

secret seeded_secret(std::uint64_t seed) {
  secret out;
  for (std::size_t i = 0; i < secret::size; ++i) out.bytes()[i] = static_cast<std::byte>(mix64(seed * secret::size + i));
  return out;
}

std::shared_ptr<const link_keys> keys_of(site_id site, std::initializer_list<site_id> roster) {
  auto keys = std::make_shared<link_keys>(link_keys{identity::of(seeded_secret(site)), {}});
  for (const site_id one : roster) keys->roster[one] = identity::of(seeded_secret(one)).key();
  return keys;
}

}  // namespace isthmus::testing
