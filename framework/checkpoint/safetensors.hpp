#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/parameter_layout.hpp"
#include "framework/core/storage.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The safetensors format (https://github.com/huggingface/safetensors): u64 header size, a JSON header, then the tensors' bytes,
/// little endian, without holes. What we accept of it, to the letter, stands in docs/checkpoint.md.
namespace isthmus {

enum class dtype { boolean, u8, i8, f8_e5m2, f8_e4m3, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64 };

/// "F32", "BF16", ...: as in the file.
std::string_view dtype_name(dtype type);
std::size_t dtype_bytes(dtype type);

/// A named array in borrowed memory: what a writer takes and a reader gives.
struct tensor_view {
  std::string name;  // not empty, not "__metadata__", UTF-8
  dtype type = dtype::f32;
  std::vector<std::int64_t> shape;   // row-major; empty: a scalar; an extent may be 0
  std::span<const std::byte> bytes;  // product of shape times dtype_bytes
};

tensor_view view_of(std::string name, std::span<const float> values);
tensor_view view_of(std::string name, std::span<const std::uint64_t> values);

/// Every slot of a flat array as a tensor under its own name and shape: borrows, copies nothing.
std::vector<tensor_view> views_of(const parameter_layout& layout, std::span<const float> flat);

/// What was written: checked again when it is read back.
struct file_digest {
  std::uint64_t bytes = 0;
  hash128 hash;  // XXH3-128 of all bytes
};

using tensor_metadata = std::map<std::string, std::string>;

/// Writes the tensors to path, replacing it, and syncs the file (not its folder). Streams straight from the tensors' memory.
expected<file_digest> write_safetensors(storage& disk, const std::string& path, std::span<const tensor_view> tensors,
                                        const tensor_metadata& metadata = {});

/// A file that was read and checked in full. Its views borrow from `bytes`, which it shares.
struct tensor_file {
  std::shared_ptr<const std::vector<std::byte>> bytes;
  std::vector<tensor_view> tensors;  // in the order of their bytes
  tensor_metadata metadata;
  std::string where;  // for messages

  /// Null when there is none of that name.
  const tensor_view* find(std::string_view name) const;
  /// Copies one fp32 tensor out. Errors: not_found, unsupported (another dtype), out_of_range (another count).
  expected<void> copy_to(std::string_view name, std::span<float> out) const;
  expected<void> copy_to(std::string_view name, std::span<std::uint64_t> out) const;
  /// Fills every slot of a flat array; gaps are left alone. Each slot must be there with its shape, and nothing else.
  expected<void> copy_to(const parameter_layout& layout, std::span<float> flat) const;
};

/// Reads a file of at most bytes_max. A stranger's bytes: every size is checked before it is used, and nothing is mapped.
/// Errors: not_found, io_failed, too_large, truncated, malformed, unsupported; they name file and position.
expected<tensor_file> read_safetensors(const storage& disk, const std::string& path, std::size_t bytes_max);
/// The same from memory; `where` names it in messages.
expected<tensor_file> parse_safetensors(std::vector<std::byte> bytes, const std::string& where);

}  // namespace isthmus
