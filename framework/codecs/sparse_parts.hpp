#pragma once

#include "framework/codecs/vector_ops.hpp"
#include "framework/core/parameter_layout.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace isthmus {

/// How the sparse codecs cut a tensor: full chunks of 4096 elements, then a dense tail of fewer.
struct sparse_extent {
  std::size_t offset, chunks, tail;
  explicit sparse_extent(const group_shape::extent& tensor)
      : offset(static_cast<std::size_t>(tensor.offset)),
        chunks(static_cast<std::size_t>(tensor.count) / chunk_size),
        tail(static_cast<std::size_t>(tensor.count) % chunk_size) {}
  std::size_t tail_offset() const { return offset + chunks * chunk_size; }
};

/// Round to nearest even; x is finite and far from overflow.
inline std::uint16_t to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}
inline float from_bf16(std::uint16_t half) { return std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16); }

}  // namespace isthmus
