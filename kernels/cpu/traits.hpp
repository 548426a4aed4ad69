#pragma once

#include <cstdint>

namespace isthmus::kernels::cpu {

/// What CPUs of the same instructions differ in. Results do not depend on it but for the rounding of bf16 products, so it follows from the
/// CPU's maker alone: two runs on one machine take the same way.
struct cpu_traits {
  /// vdpbf16ps does twice as many products a second as an fp32 fma (Zen 4); otherwise half as many (Emerald Rapids), so that numbers are
  /// widened for fmas.
  bool fast_bf16_dots;
  /// fp32 products x W^T with fewer rows go by our own strips over panels, with more by the library.
  std::int64_t library_rows;
  /// A strip takes at most so many steps before the next one has its turn at the same weights; meanwhile as many that come next are fetched
  /// into the second-level cache.
  std::int64_t fp32_piece_steps, bf16_piece_steps;
  /// Both halves of them at once: the CPU's own prefetcher then works in two pages.
  bool fetch_two_streams;
  /// Strips fetch from there into the first-level cache themselves.
  bool fetch_near;
  /// A lone strip fetches its weights so many bytes early; 0: the CPU foresees them better than a program does.
  std::int64_t lone_bytes_ahead;
  /// Streams that are read once are fetched past the caches (prefetchnta); elsewhere that more than halves the rate.
  bool stream_past_caches;
};

/// Of the CPU that this process runs on.
const cpu_traits& this_cpu();

}  // namespace isthmus::kernels::cpu
