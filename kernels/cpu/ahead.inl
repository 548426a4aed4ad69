// Where strips of rows go over the same weights one after the other, the first would wait for memory and the others leave it idle. So each
// fetches a share of the weights that come next, at an even pace: in a burst they would keep the loads of the strip waiting.

/// What a strip fetches into the second-level cache beside its own work.
struct weights_ahead {
  static constexpr std::int64_t pace = 1024;
  const char *at = nullptr, *end = nullptr;
  std::int64_t lines = 0, due = 0;  // of 64 bytes, in `pace` steps

  ISTHMUS_INLINE void fetch() {
    for (due += lines; due >= pace && at < end; due -= pace, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

/// The share of strip k of `strips`, each of so many steps, of the `bytes` of weights at `next`. Nothing of what a lone strip reads next: it
/// goes at memory's speed anyway.
inline weights_ahead share_ahead(const void* next, std::int64_t bytes, std::int64_t k, std::int64_t strips, std::int64_t steps) {
  if (strips < 2) return {};
  const std::int64_t all = (bytes + 63) / 64, first = all * k / strips, last = all * (k + 1) / strips;
  const char* from = static_cast<const char*>(next);
  return {from + 64 * first, from + 64 * last, ((last - first) * weights_ahead::pace + steps - 1) / steps};
}

/// Fetches what a strip of `Bytes` of weights a step reads soon into the first-level cache.
template <std::int64_t Bytes>
ISTHMUS_INLINE void fetch_near(const void* weights) {
  constexpr std::int64_t steps = 12;  // measured on Zen 4
  const char* at = static_cast<const char*>(weights) + steps * Bytes;
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < Bytes; i += 64) __builtin_prefetch(at + i, 0, 3);
}
