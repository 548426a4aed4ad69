#include "framework/checkpoint/checkpoint.hpp"

#include "framework/core/planted.hpp"

#include "framework/checkpoint/manifest.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <tuple>

namespace isthmus {

namespace {

constexpr std::string_view folder_prefix = "checkpoint-";
constexpr const char* scratch_name = "writing";

std::string file_name(const std::string& part) { return part + ".safetensors"; }

/// Of "checkpoint-000012": 12; of anything else 0.
std::uint64_t number_in(const std::string& name) {
  if (name.compare(0, folder_prefix.size(), folder_prefix) != 0) return 0;
  std::uint64_t number = 0;
  std::from_chars(name.data() + folder_prefix.size(), name.data() + name.size(), number);
  return number;
}

std::string folder_name(std::uint64_t sequence) {
  std::string digits = std::to_string(sequence);
  return std::string(folder_prefix) + std::string(digits.size() < 6 ? 6 - digits.size() : 0, '0') + digits;
}

/// hash: of its bytes; left alone when they cannot be read.
expected<checkpoint_manifest> read_manifest(const storage& disk, const std::string& folder, hash128& hash) {
  const std::string path = folder + "/manifest.json";
  auto bytes = disk.read(path, manifest_bytes_max);
  if (!bytes) return bytes.failure();
  hash = hash_bytes(*bytes);
  return parse_manifest({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, path);
}

/// A folder with the manifest in it, readable or not.
struct candidate {
  std::string name, folder;
  hash128 hash;
  expected<checkpoint_manifest> manifest;
};

/// Every folder but the one that is being written; readable ones first, newest first by what their manifests say.
std::vector<candidate> candidates(const storage& disk, const std::string& below) {
  std::vector<candidate> found;
  for (const auto& name : disk.list(below)) {
    if (name == scratch_name) continue;
    hash128 hash;
    auto manifest = read_manifest(disk, below + "/" + name, hash);
    found.push_back({name, below + "/" + name, hash, std::move(manifest)});
  }
  const auto rank = [](const candidate& c) {
    return c.manifest ? std::tuple(true, c.manifest->sequence, c.manifest->facts.incarnation)
                      : std::tuple(false, std::uint64_t{0}, std::uint64_t{0});
  };
  std::stable_sort(found.begin(), found.end(), [&](const candidate& a, const candidate& b) { return rank(a) > rank(b); });
  return found;
}

/// The bytes of one file, of the size and hash that the manifest names.
expected<std::vector<std::byte>> read_verified(const storage& disk, const std::string& path, const file_digest& digest) {
  auto bytes = disk.read(path, digest.bytes);
  if (!bytes) return bytes.failure();
  if (bytes->size() != digest.bytes)
    return fail(errc::truncated,
                path + ": " + std::to_string(bytes->size()) + " bytes, the manifest names " + std::to_string(digest.bytes));
  if (const hash128 hash = hash_bytes(*bytes); hash != digest.hash && !is_planted(planted::trust_rotten_file))
    return fail(errc::checksum_mismatch,
                path + ": hash " + hash.hex() + ", the manifest names " + digest.hash.hex() + ": the file is damaged or from another save");
  return bytes;
}

expected<void> check_identity(const checkpoint_facts& facts, const checkpoint_needs& needs, const std::string& folder) {
  if (needs.run_id && *needs.run_id != facts.run_id)
    return fail(errc::wrong_run, folder + ": belongs to run " + facts.run_id + ", this is run " + *needs.run_id);
  if (needs.site && *needs.site != facts.site)
    return fail(errc::wrong_run,
                folder + ": belongs to site " + std::to_string(facts.site) + ", this is site " + std::to_string(*needs.site));
  if (needs.recipe_hash && *needs.recipe_hash != facts.recipe_hash)
    return fail(errc::wrong_recipe, folder + ": was written under recipe " + facts.recipe_hash.hex() + ", this one is " +
                                        needs.recipe_hash->hex() + ": resume with the recipe in the run folder, or start a new run");
  return {};
}

expected<void> check_completeness(const checkpoint_manifest& manifest, const checkpoint_needs& needs, const std::string& folder) {
  for (const auto& part : needs.parts)
    if (std::none_of(manifest.files.begin(), manifest.files.end(), [&](const auto& file) { return file.part == part; }))
      return fail(errc::not_found, folder + ": its manifest lists no part \"" + part + "\", which is needed to go on");
  if (needs.state_keys.empty()) return {};
  const auto state = nlohmann::json::parse(manifest.facts.state);  // parse_manifest has checked it
  for (const auto& key : needs.state_keys)
    if (!state.contains(key)) return fail(errc::not_found, folder + ": its state has no \"" + key + "\", which is needed to go on");
  return {};
}

expected<loaded_checkpoint> load_parts(const storage& disk, const candidate& from) {
  loaded_checkpoint loaded{from.manifest->sequence, from.folder, from.hash, from.manifest->facts, {}, {}};
  for (const auto& file : from.manifest->files) {
    const std::string path = from.folder + "/" + file_name(file.part);
    auto bytes = read_verified(disk, path, file.digest);
    if (!bytes) return bytes.failure();
    auto tensors = parse_safetensors(std::move(*bytes), path);
    if (!tensors) return tensors.failure();
    loaded.parts.emplace(file.part, std::move(*tensors));
  }
  return loaded;
}

/// Gives the hash of the manifest's bytes.
expected<hash128> write_folder(storage& disk, const std::string& folder, checkpoint_manifest& manifest,
                               const std::vector<checkpoint_part>& parts) {
  if (auto ok = disk.make_folders(folder); !ok) return ok.failure();
  for (const auto& part : parts) {
    auto digest = write_safetensors(disk, folder + "/" + file_name(part.name), part.tensors);
    if (!digest) return digest.failure();
    manifest.files.push_back({part.name, *digest});
  }
  const std::string text = write_manifest(manifest);
  if (auto ok = disk.write_synced(folder + "/manifest.json", std::as_bytes(std::span(text))); !ok) return ok.failure();
  if (auto ok = disk.sync_folder(folder); !ok) return ok.failure();
  return hash_bytes(std::as_bytes(std::span(text)));
}

/// Reads a folder back, one file at a time, and compares it with what was to be written.
expected<void> verify_folder(const storage& disk, const std::string& folder, const checkpoint_manifest& written) {
  hash128 hash;
  auto found = read_manifest(disk, folder, hash);
  if (!found) return found.failure();
  if (write_manifest(*found) != write_manifest(written))
    return fail(errc::checksum_mismatch, folder + ": the manifest read back differs from the one written: is another process saving here?");
  for (const auto& file : written.files)
    if (auto bytes = read_verified(disk, folder + "/" + file_name(file.part), file.digest); !bytes) return bytes.failure();
  return {};
}

/// Makes the folder and every entry on the way to it durable.
expected<void> make_durable_folder(storage& disk, const std::string& folder) {
  if (auto ok = disk.make_folders(folder); !ok) return ok;
  for (std::size_t end = folder.rfind('/');; end = folder.rfind('/', end - 1)) {
    const bool top = end == std::string::npos;
    if (auto ok = disk.sync_folder(top ? "." : folder.substr(0, end)); !ok || top) return ok;
  }
}

}  // namespace

expected<const tensor_file*> loaded_checkpoint::part(const std::string& name) const {
  const auto found = parts.find(name);
  if (found == parts.end()) return fail(errc::not_found, folder + ": no part \"" + name + "\" in this checkpoint");
  return &found->second;
}

checkpoint_store::checkpoint_store(storage& disk, std::string folder, std::size_t keep)
    : disk_(disk), folder_(std::move(folder)), keep_(keep) {
  ensure(keep_ >= 1, "checkpoint_store: keep is 0");
  ensure(!folder_.empty() && folder_.front() != '/' && folder_.back() != '/', "checkpoint_store: the folder must be a relative path");
}

void checkpoint_store::number_above(const std::string& folder) {
  highest_ = std::max(highest_, number_in(folder.substr(folder.rfind('/') + 1)));
}

expected<saved_checkpoint> checkpoint_store::save(const checkpoint_facts& facts, const std::vector<checkpoint_part>& parts,
                                                  const announcement& announce) {
  if (!folder_durable_) {
    if (auto ok = make_durable_folder(disk_, folder_); !ok) return ok.failure();
    folder_durable_ = true;
  }
  checkpoint_manifest manifest{highest_ + 1, facts, {}};
  for (const auto& older : candidates(disk_, folder_))
    manifest.sequence = std::max({manifest.sequence, number_in(older.name) + 1, older.manifest ? older.manifest->sequence + 1 : 1});
  const std::string scratch = folder_ + "/" + scratch_name, folder = folder_ + "/" + folder_name(manifest.sequence);

  if (auto ok = disk_.remove(scratch); !ok) return ok.failure();  // left by a crash
  const auto hash = write_folder(disk_, scratch, manifest, parts);
  if (!hash) {
    static_cast<void>(disk_.remove(scratch));  // gives a full disk its room back; the next save tries again
    return hash.failure();
  }
  if (announce) announce(folder, *hash);
  if (auto ok = disk_.rename(scratch, folder); !ok) return ok.failure();
  if (auto ok = disk_.sync_folder(folder_); !ok) return ok.failure();
  if (auto ok = verify_folder(disk_, folder, manifest); !ok) {
    static_cast<void>(disk_.remove(folder));  // known to be bad: it must not count among those kept
    return ok.failure();
  }
  return saved_checkpoint{manifest.sequence, manifest.bytes(), folder, *hash, remove_older(manifest.sequence)};
}

std::vector<saved_checkpoint::removed_folder> checkpoint_store::remove_older(std::uint64_t verified) {
  std::vector<saved_checkpoint::removed_folder> removed;
  std::uint64_t oldest_kept = verified;
  std::size_t kept = 0;
  for (const auto& c : candidates(disk_, folder_)) {  // newest first, unreadable ones last
    const bool keeps = c.manifest && (c.manifest->sequence == verified || kept < keep_);
    if (keeps) {
      ++kept;
      oldest_kept = std::min(oldest_kept, c.manifest->sequence);
    } else if (c.manifest || (number_in(c.name) != 0 && number_in(c.name) < oldest_kept)) {
      if (disk_.remove(c.folder)) removed.push_back({c.folder, c.hash});  // one that stays is tried again after the next save
    }
  }
  return removed;
}

expected<loaded_checkpoint> checkpoint_store::load(const checkpoint_needs& needs) const {
  const auto found = candidates(disk_, folder_);
  std::vector<std::string> reasons;
  errc first = errc::not_found;
  const auto unusable = [&](const isthmus::error& why) {
    if (reasons.empty()) first = why.code;
    reasons.push_back("cannot use a checkpoint: " + why.message);
  };
  for (const auto& c : found)
    if (!c.manifest) unusable(c.manifest.error());
  for (const auto& c : found) {
    if (!c.manifest) continue;
    if (auto ok = check_identity(c.manifest->facts, needs, c.folder); !ok) return ok.failure();
    if (auto ok = check_completeness(*c.manifest, needs, c.folder); !ok) {
      unusable(ok.error());
      continue;
    }
    auto loaded = load_parts(disk_, c);
    if (!loaded) {
      unusable(loaded.error());
      continue;
    }
    loaded->warnings = std::move(reasons);
    return loaded;
  }
  if (reasons.empty()) return fail(errc::not_found, "no checkpoint below " + folder_);
  std::string all;
  for (const auto& reason : reasons) all += (all.empty() ? "" : "; ") + reason;
  return fail(first == errc::not_found ? errc::malformed : first, all);  // there is one: nobody may begin from nothing
}

std::vector<checkpoint_store::summary> checkpoint_store::list() const {
  std::vector<summary> out;
  for (const auto& c : candidates(disk_, folder_))
    if (c.manifest) out.push_back({c.manifest->sequence, c.manifest->bytes(), c.folder, c.manifest->facts});
  return out;
}

}  // namespace isthmus
