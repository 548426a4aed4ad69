// Compiled once for each instruction set by Highway (https://github.com/google/highway); the CPU picks at run time.
#include "framework/codecs/vector_ops.hpp"

#include "framework/core/probe.hpp"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)  // arrays of vectors below
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "framework/codecs/vector_ops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "framework/core/probe.inl"

HWY_BEFORE_NAMESPACE();
namespace isthmus::HWY_NAMESPACE {
#if ISTHMUS_PLAIN_LOOPS

using scalar_ops::form_blocks;
using scalar_ops::int8_decode;
using scalar_ops::int8_encode;
using scalar_ops::max_magnitude;
using scalar_ops::non_zero;
using scalar_ops::top_of_chunk;

#else

namespace hn = hwy::HWY_NAMESPACE;
using ints_tag = hn::CappedTag<std::int32_t, 16>;
constexpr ints_tag itag;
using ints = hn::Vec<ints_tag>;

HWY_INLINE ints magnitudes(const float* x) { return hn::And(hn::BitCast(itag, hn::LoadU(tag, x)), hn::Set(itag, 0x7fffffff)); }

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits & 0x7fffffffU;
}

float float_of(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

std::uint32_t max_magnitude(const float* x, std::size_t n) {
  ints a = hn::Zero(itag), b = a;
  std::size_t i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    a = hn::Max(a, magnitudes(x + i));
    b = hn::Max(b, magnitudes(x + i + width));
  }
  auto largest = static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(itag, hn::Max(a, b))));
  for (; i < n; ++i) largest = HWY_MAX(largest, bits_of(x[i]));
  return largest;
}

/// A threshold that at least 64 magnitudes of the chunk reach: the least of the maxima of 64 sets of 64. Few others reach it.
struct bounds {
  std::int32_t threshold, largest;
};
bounds bound_chunk(const float* x) {
  constexpr std::size_t parts = 16 / width, part = chunk_size / parts;
  ints least = hn::Set(itag, 0x7fffffff), largest = hn::Zero(itag);
  for (std::size_t p = 0; p < parts; ++p) {
    ints a = hn::Zero(itag), b = a, c = a, d = a;
    for (std::size_t i = p * part; i < (p + 1) * part; i += 4 * width) {
      a = hn::Max(a, magnitudes(x + i));
      b = hn::Max(b, magnitudes(x + i + width));
      c = hn::Max(c, magnitudes(x + i + 2 * width));
      d = hn::Max(d, magnitudes(x + i + 3 * width));
    }
    least = hn::Min(least, hn::Min(hn::Min(a, b), hn::Min(c, d)));
    largest = hn::Max(largest, hn::Max(hn::Max(a, b), hn::Max(c, d)));
  }
  return {hn::GetLane(hn::MinOfLanes(itag, least)), hn::GetLane(hn::MaxOfLanes(itag, largest))};
}

/// Elements of a chunk that may be among the largest, in ascending order.
struct candidates {
  HWY_ALIGN std::int32_t key[chunk_size + 16];
  HWY_ALIGN std::int32_t index[chunk_size + 16];
  std::size_t count = 0;
};

void collect(const float* x, std::int32_t threshold, candidates& found) {
  const ints below = hn::Set(itag, threshold - 1), step = hn::Set(itag, static_cast<std::int32_t>(width));
  ints index = hn::Iota(itag, 0);
  std::size_t count = 0;
  for (std::size_t i = 0; i < chunk_size; i += width) {
    const ints key = magnitudes(x + i);
    const auto reach = hn::Gt(key, below);
    hn::StoreU(hn::Compress(key, reach), itag, found.key + count);
    hn::StoreU(hn::Compress(index, reach), itag, found.index + count);
    count += hn::CountTrue(itag, reach);
    index = hn::Add(index, step);
  }
  hn::StoreU(hn::Zero(itag), itag, found.key + count);  // pads the last vector
  found.count = count;
}

std::size_t count_reaching(const candidates& found, std::int32_t threshold) {
  const ints below = hn::Set(itag, threshold - 1);
  std::size_t count = 0;
  for (std::size_t i = 0; i < found.count; i += width) { count += hn::CountTrue(itag, hn::Gt(hn::Load(itag, found.key + i), below)); }
  return count;
}

/// Writes the first 64 candidates that are above `threshold`, and of those that equal it the first `ties`.
void emit(const candidates& found, std::int32_t threshold, std::size_t ties, std::uint16_t* index) {
  std::size_t written = 0;
  for (std::size_t i = 0; i < found.count && written < chunk_kept; ++i) {
    if (found.key[i] < threshold) continue;
    if (found.key[i] == threshold && ties-- == 0) {
      ++ties;
      continue;
    }
    index[written++] = static_cast<std::uint16_t>(found.index[i]);
  }
}

/// Writes the exactly 64 candidates that reach the threshold.
void emit_reaching(const candidates& found, std::int32_t threshold, std::uint16_t* index) {
  HWY_ALIGN std::int32_t kept[chunk_kept + 16];
  const ints below = hn::Set(itag, threshold - 1);
  std::size_t count = 0;
  for (std::size_t i = 0; i < found.count; i += width) {
    const auto reach = hn::Gt(hn::Load(itag, found.key + i), below);
    hn::StoreU(hn::Compress(hn::Load(itag, found.index + i), reach), itag, kept + count);
    count += hn::CountTrue(itag, reach);
  }
  for (std::size_t i = 0; i < chunk_kept; ++i) index[i] = static_cast<std::uint16_t>(kept[i]);
}

/// Fewer than 64 are not zero: those, and the first zeros.
void emit_with_zeros(const float* x, std::size_t not_zero, std::uint16_t* index) {
  std::size_t zeros = chunk_kept - not_zero, written = 0;
  for (std::size_t i = 0; i < chunk_size && written < chunk_kept; ++i) {
    if (bits_of(x[i]) == 0) {
      if (zeros == 0) continue;
      --zeros;
    }
    index[written++] = static_cast<std::uint16_t>(i);
  }
}

std::uint32_t top_of_chunk(const float* x, std::uint16_t* index) {
  const bounds bound = bound_chunk(x);
  const auto largest = static_cast<std::uint32_t>(bound.largest);
  candidates found;
  std::int32_t low = HWY_MAX(bound.threshold, 1);
  collect(x, low, found);
  if (found.count < chunk_kept) {  // only where the threshold was 0
    emit_with_zeros(x, found.count, index);
    return largest;
  }
  // Bisect the magnitudes: at least 64 reach low, fewer reach high.
  std::int64_t high = std::int64_t{bound.largest} + 1;
  std::size_t reach_low = found.count, reach_high = 0;
  while (reach_low != chunk_kept && high - low > 1) {
    const auto middle = static_cast<std::int32_t>(low + (high - low) / 2);
    const std::size_t reach = count_reaching(found, middle);
    (reach >= chunk_kept ? reach_low : reach_high) = reach;
    if (reach >= chunk_kept)
      low = middle;
    else
      high = middle;
  }
  if (reach_low == chunk_kept)
    emit_reaching(found, low, index);
  else
    emit(found, low, chunk_kept - reach_high, index);
  return largest;
}

std::uint32_t int8_encode(float* x, std::size_t n, std::uint32_t limit, std::int8_t* q, float* scale) {
  const std::uint32_t largest = max_magnitude(x, n);
  if (largest > limit) return largest;
  const float a = float_of(largest);
  if (a < 0x1p-100F) {
    *scale = 0;
    __builtin_memset(q, 0, n);
    return largest;
  }
  *scale = a / 127.0F;
  const floats inverse = hn::Set(tag, 127.0F / a), scales = hn::Set(tag, *scale);
  const hn::Rebind<std::int8_t, floats_tag> btag;
  std::size_t i = 0;
  for (; i + width <= n; i += width) {
    const floats v = hn::LoadU(tag, x + i);
    const ints rounded = hn::NearestInt(hn::Mul(v, inverse));
    hn::StoreU(hn::DemoteTo(btag, rounded), btag, q + i);
    hn::StoreU(hn::Sub(v, hn::Mul(hn::ConvertTo(tag, rounded), scales)), tag, x + i);
  }
  for (; i < n; ++i) {
    q[i] = static_cast<std::int8_t>(__builtin_nearbyintf(x[i] * (127.0F / a)));
    x[i] -= static_cast<float>(q[i]) * *scale;
  }
  return largest;
}

void int8_decode(const std::int8_t* q, std::size_t n, float scale, float* out) {
  const hn::Rebind<std::int8_t, floats_tag> btag;
  const floats scales = hn::Set(tag, scale);
  std::size_t i = 0;
  for (; i + width <= n; i += width) {
    const ints wide = hn::PromoteTo(itag, hn::LoadU(btag, q + i));
    hn::StoreU(hn::Mul(hn::ConvertTo(tag, wide), scales), tag, out + i);
  }
  for (; i < n; ++i) out[i] = static_cast<float>(q[i]) * scale;
}

std::size_t non_zero(const float* x, std::size_t n, std::uint16_t* index, float* values) {
  const hn::Rebind<std::uint16_t, ints_tag> stag;
  const ints zero = hn::Zero(itag);
  std::size_t found = 0, i = 0;
  for (; i + width <= n; i += width) {
    const auto some = hn::Gt(magnitudes(x + i), zero);
    if (hn::AllFalse(itag, some)) continue;
    const ints at = hn::Compress(hn::Iota(itag, static_cast<std::int32_t>(i)), some);
    hn::StoreU(hn::DemoteTo(stag, at), stag, index + found);
    hn::StoreU(hn::Compress(hn::LoadU(tag, x + i), hn::RebindMask(tag, some)), tag, values + found);
    found += hn::CountTrue(itag, some);
  }
  for (; i < n; ++i) {
    if (bits_of(x[i]) == 0) continue;
    index[found] = static_cast<std::uint16_t>(i);
    values[found++] = x[i];
  }
  return found;
}

void form_blocks(const float* anchor, const float* working, float* value, float weight, float decay, std::uint64_t key,
                 std::size_t first_block, std::size_t blocks, block_probes& sums) {
  const floats w = hn::Set(tag, weight), b = hn::Set(tag, decay);
  lanes change(sums.change), residual(sums.residual), decayed(sums.decayed), total(sums.value), squares(sums.squares);
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::uint64_t signs = probe_signs(key, first_block + block);
    for (std::size_t i = 0; i < 64; i += 16) {
      for (std::size_t part = 0; part < 16 / width; ++part) {
        const std::size_t at = 64 * block + i + part * width;
        const floats sign = sign_mask(signs >> (i + part * width));
        const floats moved = hn::Mul(w, hn::Sub(hn::LoadU(tag, anchor + at), hn::LoadU(tag, working + at)));
        const floats before = hn::LoadU(tag, value + at), kept = hn::Mul(b, before);
        const floats after = hn::Add(moved, kept);
        hn::StoreU(after, tag, value + at);
        change.add(part, hn::Xor(moved, sign));
        residual.add(part, hn::Xor(before, sign));
        decayed.add_difference(part, hn::Xor(before, sign), hn::Xor(kept, sign));
        total.add(part, hn::Xor(after, sign));
        squares.add_square(part, after);
      }
    }
  }
  change.store(sums.change);
  residual.store(sums.residual);
  decayed.store(sums.decayed);
  total.store(sums.value);
  squares.store(sums.squares);
}

#endif
}  // namespace isthmus::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace isthmus {
HWY_EXPORT(top_of_chunk);
HWY_EXPORT(max_magnitude);
HWY_EXPORT(int8_encode);
HWY_EXPORT(int8_decode);
HWY_EXPORT(non_zero);
HWY_EXPORT(form_blocks);

namespace vector_ops {
std::uint32_t top_of_chunk(const float* x, std::uint16_t* index) { return HWY_DYNAMIC_DISPATCH(top_of_chunk)(x, index); }
std::uint32_t max_magnitude(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(max_magnitude)(x, n); }
std::uint32_t int8_encode(float* x, std::size_t n, std::uint32_t limit, std::int8_t* q, float* scale) {
  return HWY_DYNAMIC_DISPATCH(int8_encode)(x, n, limit, q, scale);
}
void int8_decode(const std::int8_t* q, std::size_t n, float scale, float* out) { HWY_DYNAMIC_DISPATCH(int8_decode)(q, n, scale, out); }
std::size_t non_zero(const float* x, std::size_t n, std::uint16_t* index, float* values) {
  return HWY_DYNAMIC_DISPATCH(non_zero)(x, n, index, values);
}
void form_blocks(const float* anchor, const float* working, float* value, float weight, float decay, std::uint64_t key,
                 std::size_t first_block, std::size_t blocks, block_probes& sums) {
  HWY_DYNAMIC_DISPATCH(form_blocks)(anchor, working, value, weight, decay, key, first_block, blocks, sums);
}
}  // namespace vector_ops
}  // namespace isthmus
#endif
