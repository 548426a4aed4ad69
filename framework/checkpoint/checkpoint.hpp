#pragma once

#include "framework/checkpoint/safetensors.hpp"
#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/storage.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isthmus {

/// What a checkpoint says of itself, beside its tensors. Everything that a resumed site must not guess.
struct checkpoint_facts {
  std::string run_id;
  hash128 recipe_hash;
  site_id site = 0;
  incarnation_number incarnation = 0;
  step_number step = 0;             // inner steps done
  std::uint64_t tokens = 0;         // trained by this site
  std::uint64_t seed = 0;           // random draws are keyed by (seed, site, step, purpose): with step, this is their whole state
  std::vector<held_record> groups;  // per parameter group: the last round applied, the head of its record chain, its anchor's hash
  std::string state = "{}";         // a JSON object of the writer's own: lease cursors, watermarks, residuals' rounds, ...
};

/// One file of a checkpoint, e.g. "weights", "moment1", "residual-3": name [a-z0-9_-]{1,64}, its tensors in borrowed memory.
struct checkpoint_part {
  std::string name;
  std::vector<tensor_view> tensors;
};

/// A checkpoint that was read and verified.
struct loaded_checkpoint {
  std::uint64_t sequence = 0;  // rises with each save at this site
  std::string folder;          // where it lies
  hash128 manifest;            // of the bytes of its manifest.json, which names every other file's hash
  checkpoint_facts facts;
  std::map<std::string, tensor_file> parts;
  std::vector<std::string> warnings;  // newer ones that could not be used, and why

  /// Errors: not_found, naming the checkpoint.
  expected<const tensor_file*> part(const std::string& name) const;
};

struct saved_checkpoint {
  std::uint64_t sequence = 0, bytes = 0;
  std::string folder;
  hash128 manifest;  // as in loaded_checkpoint
  struct removed_folder {
    std::string folder;
    hash128 manifest;  // zero when it could not be read
  };
  std::vector<removed_folder> removed;  // older ones that had to go
};

/// What the caller needs of a checkpoint. One of another run, site or recipe is an error and no reason to take an older one.
struct checkpoint_needs {
  std::optional<hash128> recipe_hash;
  std::optional<std::string> run_id;
  std::optional<site_id> site;
  std::vector<std::string> parts;       // e.g. weights with their moments
  std::vector<std::string> state_keys;  // of facts.state, e.g. "cursors"
};

/// The checkpoints of one site below one folder of a storage. A save goes to a new folder: files synced, manifest (size and hash of
/// each file) synced, folder synced, renamed, parent synced, all of it read back and compared; only then older ones beyond `keep` are
/// removed. After a crash at any point, and after any failed call, the last saved one loads. One writer at a time.
class checkpoint_store {
public:
  /// Borrows the disk. keep >= 1; 2 lets one rot.
  checkpoint_store(storage& disk, std::string folder, std::size_t keep = 2);

  /// Saves get numbers above this one's ("checkpoints/site-0/checkpoint-000012"), whatever still lies in the folder: a number means one
  /// set of bytes for ever. Another name changes nothing.
  void number_above(const std::string& folder);

  /// Called with the folder that a save will have and its manifest's hash, when all is written and nothing can be loaded yet.
  using announcement = std::function<void(const std::string& folder, const hash128& manifest)>;

  /// Streams from the parts' memory. On an error the older checkpoints are as they were; a disk_full may pass.
  expected<saved_checkpoint> save(const checkpoint_facts& facts, const std::vector<checkpoint_part>& parts,
                                  const announcement& announce = {});

  /// The newest by its manifest that verifies; an unusable newer one is named in warnings.
  /// Errors: not_found (no checkpoint at all, and nothing else), wrong_run, wrong_recipe, or why the newest is unusable when no older
  /// one is good (malformed where a file of it is missing).
  expected<loaded_checkpoint> load(const checkpoint_needs& needs = {}) const;

  /// What a look at the manifests alone shows, newest first: for status; verifies no tensor.
  struct summary {
    std::uint64_t sequence = 0, bytes = 0;
    std::string folder;
    checkpoint_facts facts;
  };
  std::vector<summary> list() const;

private:
  std::vector<saved_checkpoint::removed_folder> remove_older(std::uint64_t verified);

  storage& disk_;
  std::string folder_;
  std::size_t keep_;
  std::uint64_t highest_ = 0;
  bool folder_durable_ = false;
};

}  // namespace isthmus
