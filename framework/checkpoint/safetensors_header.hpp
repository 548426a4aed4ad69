#pragma once

#include "framework/checkpoint/safetensors.hpp"
#include "framework/core/expected.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

inline constexpr std::uint64_t safetensors_header_bytes_max = 100'000'000;  // as in the reference implementation

/// Where a tensor lies in a safetensors file: [begin, end) of the data, which follow the header.
struct stored_range {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};

/// What a file's header says, checked in full: the ranges tile the data and have the bytes of shape and dtype.
struct safetensors_header {
  std::vector<stored_range> tensors;  // in the order of their bytes
  tensor_metadata metadata;
};

/// The first 8 bytes of a file of file_bytes: how long the JSON behind them is, which lies inside the file.
/// Errors: truncated, malformed, too_large.
expected<std::uint64_t> read_safetensors_header_size(std::span<const std::byte> front, std::uint64_t file_bytes, const std::string& where);

/// The JSON, not empty, of a file with data_bytes behind it. Errors: malformed, truncated, unsupported, out_of_range.
expected<safetensors_header> parse_safetensors_header(std::string_view text, std::uint64_t data_bytes, const std::string& where);

}  // namespace isthmus
