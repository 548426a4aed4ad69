// Where strips of rows go over the same weights one after the other, the first would wait for memory and the others leave it idle. So each
// fetches a share of the weights that come next, at an even pace: in a burst they would keep the loads of the strip waiting.

/// What is fetched into the second-level cache beside other work.
struct weights_ahead {
  static constexpr std::int64_t pace = 1024;
  const char *at = nullptr, *end = nullptr;
  std::int64_t lines = 0, due = 0;  // of 64 bytes, in `pace` steps
  std::int64_t second = 0;          // unless 0, as much is fetched so many bytes further on
  bool near = false;                // what is read now is fetched into the first-level cache beside it

  ISTHMUS_INLINE void fetch() {
    for (due += lines; due >= pace && at < end; due -= pace, at += 64) {
      __builtin_prefetch(at, 0, 2);
      if (second != 0) __builtin_prefetch(at + second, 0, 2);
    }
  }
};

/// All of `bytes` at `next`, in so many steps.
inline weights_ahead share_of_steps(const void* next, std::int64_t bytes, std::int64_t steps) {
  const std::int64_t lines = (bytes + 63) / 64;
  const char* from = static_cast<const char*>(next);
  return {from, from + 64 * lines, (lines * weights_ahead::pace + steps - 1) / steps};
}

/// What a lone strip fetches of the `bytes` of weights at `w` that it reads in so many steps, and of what lies behind them up to `end`.
inline weights_ahead lone_ahead(const std::byte* w, std::int64_t bytes, const std::byte* end, std::int64_t steps) {
  const std::int64_t far = this_cpu().lone_bytes_ahead, left = end - w - far;
  return far > 0 && left > 0 ? share_of_steps(w + far, bytes < left ? bytes : left, steps) : weights_ahead{};
}

/// Lines of 64 bytes that a strip fetches of what comes next, evenly over its steps: of all of it, or of each half.
struct share_of_lines {
  std::uint32_t first, last, in_pace, half;  // half: 0, or where the second one begins
};

/// The share of strip k of `strips`, each of so many steps, of `bytes` of weights.
inline share_of_lines share_of_strip(std::int64_t bytes, std::int64_t k, std::int64_t strips, std::int64_t steps) {
  using small = std::uint32_t;  // divides faster
  const small all = static_cast<small>((bytes + 63) / 64), half = this_cpu().fetch_two_streams ? (all + 1) / 2 : 0;
  const small of = half > 0 ? half : all, n = static_cast<small>(strips), pace = weights_ahead::pace;
  const small first = of * static_cast<small>(k) / n, last = of * static_cast<small>(k + 1) / n;
  return {first, last, ((last - first) * pace + static_cast<small>(steps) - 1) / static_cast<small>(steps), half};
}

inline weights_ahead share_ahead(const void* next, const share_of_lines& share) {
  const char* from = static_cast<const char*>(next);
  return {from + 64 * static_cast<std::int64_t>(share.first), from + 64 * static_cast<std::int64_t>(share.last), share.in_pace, 0,
          64 * static_cast<std::int64_t>(share.half), this_cpu().fetch_near};
}

/// Fetches what a strip of `Bytes` of weights a step reads soon into the first-level cache.
template <std::int64_t Bytes>
ISTHMUS_INLINE void fetch_near(const void* weights) {
  constexpr std::int64_t steps = 12;  // measured on Zen 4
  const char* at = static_cast<const char*>(weights) + steps * Bytes;
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < Bytes; i += 64) __builtin_prefetch(at + i, 0, 3);
}
