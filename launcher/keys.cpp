#include "launcher/keys.hpp"

#include "actors/incarnation.hpp"

#include <fmt/format.h>

#include <utility>

namespace isthmus::launcher {

namespace {

/// The public half.
expected<std::string> key_of(const run_folder& run, storage& disk, site_id site) {
  const auto there = identity::read(key_path(run, site));
  if (there) return to_hex(there->key());
  if (there.error().code != errc::not_found) return there.failure();
  if (const auto ok = disk.make_folders(actors::own_folder(site)); !ok) return ok.failure();
  const auto made = identity::generate();
  if (const auto ok = made.write(key_path(run, site)); !ok) return ok.failure();
  return to_hex(made.key());
}

}  // namespace

std::string key_path(const run_folder& run, site_id site) { return fmt::format("{}/{}/key", run.path, actors::own_folder(site)); }

expected<void> prepare_keys(run_folder& run) {
  auto disk = open_disk(run.path);
  if (!disk) return disk.failure();
  auto coordinator = key_of(run, **disk, coordinator_id);
  if (!coordinator) return coordinator.failure();
  run.people.coordinator_key = std::move(*coordinator);
  for (auto& site : run.people.sites) {
    if (site.key_elsewhere) continue;
    auto key = key_of(run, **disk, site.id);
    if (!key) return key.failure();
    site.key = std::move(*key);
  }
  return {};
}

expected<std::shared_ptr<const link_keys>> read_keys(const run_folder& run, site_id self) {
  auto own = identity::read(key_path(run, self));
  if (!own) return own.failure();
  auto keys = std::make_shared<link_keys>(link_keys{std::move(*own), {}});
  const auto add = [&](site_id site, const std::string& text) -> expected<void> {
    const auto key = parse_public_key(text);
    if (!key)
      return fail(errc::malformed, fmt::format("{}/{}: the key of {}: {}; launch and resume write it", run.path, roster_name,
                                               actors::own_folder(site), key.error().message));
    keys->roster[site] = *key;
    return {};
  };
  if (const auto ok = add(coordinator_id, run.people.coordinator_key); !ok) return ok.failure();
  for (const auto& site : run.people.sites)
    if (const auto ok = add(site.id, site.key); !ok) return ok.failure();
  return std::shared_ptr<const link_keys>(std::move(keys));
}

}  // namespace isthmus::launcher
