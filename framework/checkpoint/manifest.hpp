#pragma once

#include "framework/checkpoint/checkpoint.hpp"

#include <string>
#include <vector>

namespace isthmus {

/// manifest.json of one checkpoint folder; layout in docs/checkpoint.md.
struct checkpoint_manifest {
  struct file {
    std::string part;  // its file is part + ".safetensors"
    file_digest digest;
  };
  std::uint64_t sequence = 0;
  checkpoint_facts facts;
  std::vector<file> files;

  std::uint64_t bytes() const;
};

inline constexpr int checkpoint_version = 1;
inline constexpr std::size_t manifest_bytes_max = std::size_t{64} << 20;

/// True for [a-z0-9_-]{1,64}: nothing else becomes a file name.
bool is_part_name(std::string_view name);

/// Throws contract_error when a part's name or facts.state is none.
std::string write_manifest(const checkpoint_manifest& manifest);
/// Errors: malformed, unsupported (another format or a later version), checksum_mismatch.
expected<checkpoint_manifest> parse_manifest(std::string_view text, const std::string& where);

}  // namespace isthmus
