#pragma once

#include "framework/checkpoint/safetensors.hpp"
#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/formats/stored_tensor.hpp"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Checkpoints in a folder as Hugging Face Transformers leaves them: model.safetensors, or model.safetensors.index.json and the shards
/// that it names. docs/formats.md says to the letter what is accepted.
namespace isthmus {

struct hugging_face_weights {
  tensor_index tensors;
  std::string where;  // the folder, for messages
};

/// Reads the headers of all shards; the numbers stay on disk until they are asked for. Each file lies in the folder itself: no path,
/// no link. Errors: not_found, refused, truncated, malformed, unsupported, out_of_range, too_large, io_failed; they name file,
/// tensor or key.
expected<hugging_face_weights> open_hugging_face(const std::string& folder);

/// The header of one file, checked in full; the tensors share the source.
expected<std::vector<stored_tensor>> open_safetensors(std::shared_ptr<const byte_source> source);

/// tensor -> shard, as "weight_map" has it; every shard is the plain name of a .safetensors file.
expected<std::map<std::string, std::string>> parse_shard_index(std::string_view text, const std::string& where);

struct shard_options {
  std::uint64_t shard_bytes_max = 5'000'000'000;  // of tensors in one file; a larger tensor has a file of its own
  tensor_metadata metadata{{"format", "pt"}};     // which Transformers asks for
};

/// Writes the tensors, in their order, into one model.safetensors, or into shards and their index when they are more than
/// shard_bytes_max. Syncs the files and the folder. A folder that holds weights already is refused: old shards would be read with the
/// new. Errors: refused, and those of the disk.
expected<void> write_hugging_face(storage& disk, const std::string& folder, std::span<const tensor_view> tensors,
                                  const shard_options& options = {});

}  // namespace isthmus
