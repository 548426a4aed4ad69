#pragma once

#include <cstddef>
#include <cstdint>

/// The codecs' inner loops, twice: vector_ops for the CPU it runs on (SSSE3, AVX2, AVX-512, NEON by run-time dispatch), scalar_ops
/// as plain loops, the specification. Both give the same bits. A magnitude is the bits of |x|: they order like |x|, NaN on top.
namespace isthmus {

inline constexpr std::size_t chunk_size = 4096;  // floats of a top-k chunk
inline constexpr std::size_t chunk_kept = 64;    // of them sent
inline constexpr std::size_t int8_block = 256;   // floats that share a scale

/// What form_blocks adds up: probes, and the squares of the values.
struct block_probes {
  double change[16] = {}, residual[16] = {}, decayed[16] = {}, value[16] = {}, squares[16] = {};  // one sum a lane, as in probe()
};

namespace vector_ops {
/// x: [4096] -> index: [64], ascending: the 64 largest magnitudes, of equal ones the first. Returns the largest magnitude.
std::uint32_t top_of_chunk(const float* x, std::uint16_t* index);
/// The largest magnitude of x: [n]; 0 for n = 0.
std::uint32_t max_magnitude(const float* x, std::size_t n);
/// x: [n], n <= 256. With a = max |x|: scale = a / 127, q[i] = round to nearest even of x[i] * (127 / a), x[i] -= q[i] * scale;
/// where a < 2^-100, scale and q are 0. Returns a's bits; where they are above `limit` nothing is written.
std::uint32_t int8_encode(float* x, std::size_t n, std::uint32_t limit, std::int8_t* q, float* scale);
/// out[i] = q[i] * scale.
void int8_decode(const std::int8_t* q, std::size_t n, float scale, float* out);
/// The elements of x: [n], n <= 4096, that are not zero, ascending; index and values have room for n + 16. Returns their number.
std::size_t non_zero(const float* x, std::size_t n, std::uint16_t* index, float* values);
/// Over 64 * blocks elements: value = weight * (anchor - working) + decay * value, each step rounded; adds the terms, with the signs
/// of the probe of `key` from element 64 * first_block on, and the squares of the new values to the lanes' sums.
void form_blocks(const float* anchor, const float* working, float* value, float weight, float decay, std::uint64_t key,
                 std::size_t first_block, std::size_t blocks, block_probes& sums);
}  // namespace vector_ops

namespace scalar_ops {
std::uint32_t top_of_chunk(const float* x, std::uint16_t* index);
std::uint32_t max_magnitude(const float* x, std::size_t n);
std::uint32_t int8_encode(float* x, std::size_t n, std::uint32_t limit, std::int8_t* q, float* scale);
void int8_decode(const std::int8_t* q, std::size_t n, float scale, float* out);
std::size_t non_zero(const float* x, std::size_t n, std::uint16_t* index, float* values);
void form_blocks(const float* anchor, const float* working, float* value, float weight, float decay, std::uint64_t key,
                 std::size_t first_block, std::size_t blocks, block_probes& sums);
}  // namespace scalar_ops

}  // namespace isthmus
