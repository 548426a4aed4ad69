#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/byte_source.hpp"
#include "framework/formats/stored_tensor.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// GGUF, versions 2 and 3, little endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata, tensor infos, and the
/// tensors' bytes at multiples of an alignment. docs/formats.md says to the letter what is accepted.
namespace isthmus {

/// A value of the metadata. All whole numbers without a sign are std::uint64_t, those with one std::int64_t, f32 and f64 double; an
/// array holds one of these (bools as 0 and 1), or arrays.
struct gguf_value {
  using list = std::vector<gguf_value>;
  std::variant<bool, std::uint64_t, std::int64_t, double, std::string, std::vector<std::uint64_t>, std::vector<std::int64_t>,
               std::vector<double>, std::vector<std::string>, list>
      data;
  bool operator==(const gguf_value&) const = default;
};

/// What a file's front says, checked in full; the tensors' numbers stay in the source. A value.
struct gguf_file {
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::map<std::string, gguf_value, std::less<>> metadata;
  tensor_index tensors;  // shapes row-major: the reverse of the file's
  std::string where;

  /// Null when there is none of that key.
  const gguf_value* find(std::string_view key) const;
  /// The value of a key that must be there with that type; a whole number of either sign serves, a float for number().
  /// Errors: not_found, malformed (another type), out_of_range (not in 0 .. 2^63-1).
  expected<std::int64_t> whole(std::string_view key) const;
  expected<double> number(std::string_view key) const;
  expected<bool> flag(std::string_view key) const;
  expected<std::string> text(std::string_view key) const;
};

/// Reads the metadata and tensor infos. A stranger's bytes: every count and length is compared with what is left of the file before
/// anything is allocated, so that memory stays within some ten times the metadata's bytes.
/// Errors: truncated, malformed, unsupported (version, byte order, split files, types of tensors), out_of_range, too_large, io_failed;
/// they name file and byte, key or tensor.
expected<gguf_file> open_gguf(std::shared_ptr<const byte_source> source);

}  // namespace isthmus
