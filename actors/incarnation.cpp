#include "actors/incarnation.hpp"

#include "framework/core/planted.hpp"

#include <charconv>
#include <span>

namespace isthmus::actors {

namespace {

std::string file_of(const std::string& folder) { return folder + "/incarnation"; }

constexpr incarnation_number behind_a_loss = 1U << 20;

/// errc::not_found where there is none.
expected<incarnation_number> last_incarnation(const storage& disk, const std::string& folder) {
  const auto bytes = disk.read(file_of(folder), 64);
  if (!bytes) return bytes.failure();
  const std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  incarnation_number last = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), last).ec != std::errc{})
    return fail(errc::malformed,
                file_of(folder) + ": '" + text + "' is not a number; write one above all that the ledgers of this run name");
  return last;
}

expected<void> write(storage& disk, const std::string& folder, incarnation_number number) {
  const std::string text = std::to_string(number) + "\n", path = file_of(folder);
  if (auto ok = disk.write_synced(path + ".new", std::as_bytes(std::span(text))); !ok) return ok;
  if (auto ok = disk.rename(path + ".new", path); !ok) return ok;
  return disk.sync_folder(folder);
}

}  // namespace

std::string own_folder(site_id site) { return site == coordinator_id ? "sites/coordinator" : "sites/site-" + std::to_string(site); }

expected<void> expect_first_start(storage& disk, const std::string& folder) {
  if (disk.exists(file_of(folder))) return {};
  if (auto ok = disk.make_folders(folder); !ok) return ok;
  return write(disk, folder, 0);
}

expected<incarnation_number> next_incarnation(storage& disk, const std::string& folder, std::uint32_t chance) {
  const auto last = last_incarnation(disk, folder);
  if (!last && last.error().code != errc::not_found) return last.failure();
  incarnation_number next = last ? *last + 1 : behind_a_loss + chance % behind_a_loss;
  if (!last && is_planted(planted::reuse_incarnation)) next = 1;
  if (auto ok = write(disk, folder, next); !ok) return ok.failure();
  return next;
}

expected<void> skip_incarnations(storage& disk, const std::string& folder) {
  const auto last = last_incarnation(disk, folder);
  if (!last) return last.failure();
  return write(disk, folder, *last * 8 - 1);
}

}  // namespace isthmus::actors
