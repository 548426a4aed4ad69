#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace isthmus::testing {

/// Bytes of a GGUF file, piece by piece: nothing is checked, so that broken files can be made.
class gguf_builder {
public:
  enum type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

  template <class T>
  gguf_builder& add(T value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    return raw({reinterpret_cast<const char*>(&value), sizeof value});
  }
  gguf_builder& raw(std::string_view bytes);
  gguf_builder& add_text(std::string_view value) { return add(std::uint64_t{value.size()}).raw(value); }
  /// Magic, version and counts.
  gguf_builder& head(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    return raw("GGUF").add(version).add(tensors).add(keys);
  }
  gguf_builder& key(std::string_view name, type kind) { return add_text(name).add(kind); }
  gguf_builder& text_key(std::string_view name, std::string_view value) { return key(name, text).add_text(value); }
  gguf_builder& array_key(std::string_view name, type kind, std::uint64_t count) { return key(name, array).add(kind).add(count); }
  gguf_builder& tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t kind, std::uint64_t offset);
  gguf_builder& pad(std::size_t alignment = 32);
  gguf_builder& zeros(std::size_t count);
  std::vector<std::byte> bytes() const;

private:
  std::string bytes_;
};

/// A whole file: one tensor "t" of two blocks of Q8_0, an alignment, and a byte-level BPE of 256 bytes, "th", "the" and a special.
std::vector<std::byte> small_gguf();

/// A whole file: a value and an array of each type, nested arrays, and a tensor of one block in each encoding that we read.
std::vector<std::byte> every_type_gguf();

}  // namespace isthmus::testing
