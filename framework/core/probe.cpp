#include "framework/core/probe.hpp"

#include "framework/core/error.hpp"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)  // arrays of vectors in probe.inl
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "framework/core/probe.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "framework/core/probe.inl"

HWY_BEFORE_NAMESPACE();
namespace isthmus::HWY_NAMESPACE {

/// Adds 64 * blocks elements to the sixteen lanes.
void probe_blocks(const float* values, std::size_t blocks, std::uint64_t key, std::uint64_t first_block, double* sums) {
#if ISTHMUS_PLAIN_LOOPS
  for (std::size_t i = 0; i < 64 * blocks; ++i) sums[i % 16] += probe_element(key, 64 * first_block + i, values[i]);
#else
  lanes sum(sums);
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::uint64_t signs = probe_signs(key, first_block + block);
    for (std::size_t i = 0; i < 64; i += 16) {
      for (std::size_t part = 0; part < 16 / width; ++part) {
        const std::size_t at = i + part * width;
        sum.add(part, hn::Xor(hn::LoadU(tag, values + 64 * block + at), sign_mask(signs >> at)));
      }
    }
  }
  sum.store(sums);
#endif
}

/// The same, and the squares to sixteen further lanes.
void measure_blocks(const float* values, std::size_t blocks, std::uint64_t key, std::uint64_t first_block, double* sums, double* squares) {
#if ISTHMUS_PLAIN_LOOPS
  probe_blocks(values, blocks, key, first_block, sums);
  for (std::size_t i = 0; i < 64 * blocks; ++i) squares[i % 16] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
#else
  lanes sum(sums), square(squares);
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::uint64_t signs = probe_signs(key, first_block + block);
    for (std::size_t i = 0; i < 64; i += 16) {
      for (std::size_t part = 0; part < 16 / width; ++part) {
        const std::size_t at = i + part * width;
        const floats v = hn::LoadU(tag, values + 64 * block + at);
        sum.add(part, hn::Xor(v, sign_mask(signs >> at)));
        square.add_square(part, v);
      }
    }
  }
  sum.store(sums);
  square.store(squares);
#endif
}

}  // namespace isthmus::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

namespace isthmus {
HWY_EXPORT(probe_blocks);
HWY_EXPORT(measure_blocks);

namespace {

/// f(first element, blocks of 64, blocks before) for the whole blocks, and for the rest with zeros behind it.
template <class F>
void over_blocks(std::span<const float> values, F&& f) {
  const std::size_t blocks = values.size() / 64, rest = values.size() % 64;
  f(values.data(), blocks, std::size_t{0});
  if (rest == 0) return;
  float last[64] = {};
  std::copy_n(values.data() + 64 * blocks, rest, last);
  f(last, std::size_t{1}, blocks);
}

}  // namespace

double add_lanes(std::span<double, 16> sums) {
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

double probe(std::span<const float> values, std::uint64_t key, std::uint64_t first) {
  running_probe sum(key);
  sum.add(values, first);
  return sum.total();
}

void running_probe::add(std::span<const float> values, std::uint64_t first) {
  ensure(first % 64 == 0, "probe: the first element is not a multiple of 64");
  over_blocks(values, [&](const float* block, std::size_t count, std::size_t before) {
    HWY_DYNAMIC_DISPATCH(probe_blocks)(block, count, key_, first / 64 + before, lanes_);
  });
}

double running_probe::total() const {
  double sums[16];
  std::copy_n(lanes_, 16, sums);
  return add_lanes(sums);
}

measured measure(std::span<const float> values, std::uint64_t key) {
  double sums[16] = {}, squares[16] = {};
  over_blocks(values, [&](const float* block, std::size_t count, std::size_t before) {
    HWY_DYNAMIC_DISPATCH(measure_blocks)(block, count, key, before, sums, squares);
  });
  return {add_lanes(sums), add_lanes(squares)};
}

}  // namespace isthmus
#endif
