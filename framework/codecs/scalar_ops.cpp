#include "framework/codecs/vector_ops.hpp"

#include "framework/core/probe.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace isthmus::scalar_ops {

namespace {
std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffU; }
}  // namespace

std::uint32_t top_of_chunk(const float* x, std::uint16_t* index) {
  std::array<std::uint16_t, chunk_size> order;
  for (std::size_t i = 0; i < chunk_size; ++i) order[i] = static_cast<std::uint16_t>(i);
  std::partial_sort(order.begin(), order.begin() + chunk_kept, order.end(), [x](std::uint16_t a, std::uint16_t b) {
    return magnitude(x[a]) != magnitude(x[b]) ? magnitude(x[a]) > magnitude(x[b]) : a < b;
  });
  const std::uint32_t largest = magnitude(x[order[0]]);
  std::sort(order.begin(), order.begin() + chunk_kept);
  std::copy_n(order.begin(), chunk_kept, index);
  return largest;
}

std::uint32_t max_magnitude(const float* x, std::size_t n) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, magnitude(x[i]));
  return largest;
}

std::uint32_t int8_encode(float* x, std::size_t n, std::uint32_t limit, std::int8_t* q, float* scale) {
  const std::uint32_t largest = max_magnitude(x, n);
  if (largest > limit) return largest;
  const float a = std::bit_cast<float>(largest);
  if (a < 0x1p-100F) {
    *scale = 0;
    std::fill_n(q, n, std::int8_t{0});
    return largest;
  }
  *scale = a / 127.0F;
  const float inverse = 127.0F / a;
  for (std::size_t i = 0; i < n; ++i) {
    q[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * inverse));
    x[i] -= static_cast<float>(q[i]) * *scale;
  }
  return largest;
}

void int8_decode(const std::int8_t* q, std::size_t n, float scale, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(q[i]) * scale;
}

std::size_t non_zero(const float* x, std::size_t n, std::uint16_t* index, float* values) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (magnitude(x[i]) == 0) continue;
    index[found] = static_cast<std::uint16_t>(i);
    values[found++] = x[i];
  }
  return found;
}

void form_blocks(const float* anchor, const float* working, float* value, float weight, float decay, std::uint64_t key,
                 std::size_t first_block, std::size_t blocks, block_probes& sums) {
  for (std::size_t i = 0; i < 64 * blocks; ++i) {
    const double sign = (probe_signs(key, first_block + i / 64) >> (i % 64) & 1) != 0 ? -1.0 : 1.0;
    const float change = weight * (anchor[i] - working[i]);
    const float residual = value[i], kept = decay * residual;
    value[i] = change + kept;
    sums.change[i % 16] += sign * static_cast<double>(change);
    sums.residual[i % 16] += sign * static_cast<double>(residual);
    sums.decayed[i % 16] += sign * (static_cast<double>(residual) - static_cast<double>(kept));
    sums.value[i % 16] += sign * static_cast<double>(value[i]);
    sums.squares[i % 16] += static_cast<double>(value[i]) * static_cast<double>(value[i]);
  }
}

}  // namespace isthmus::scalar_ops
