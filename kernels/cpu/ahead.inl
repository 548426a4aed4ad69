// Where strips of rows go over the same weights one after the other, the first would wait for memory and the others leave it idle. So each
// fetches a share of the weights that come next.

/// What a strip fetches beside its own work, some lines of 64 bytes a step.
struct weights_ahead {
  const char *at = nullptr, *end = nullptr;
  std::int64_t lines = 0;
  bool near = false;  // into the first-level cache, else the second

  ISTHMUS_INLINE void fetch() {
    for (std::int64_t i = 0; i < lines && at < end; ++i, at += 64) near ? __builtin_prefetch(at, 0, 3) : __builtin_prefetch(at, 0, 2);
  }
};

/// The share of strip k of `strips`, each of so many steps, of the `bytes` of weights at `next`. Nothing of what a lone strip reads next: it
/// goes at memory's speed anyway. Few strips fetch more at a time than the first-level cache takes beside their own loads (Zen 4).
inline weights_ahead share_ahead(const void* next, std::int64_t bytes, std::int64_t k, std::int64_t strips, std::int64_t steps) {
  if (strips < 2) return {};
  const std::int64_t all = (bytes + 63) / 64, lines = (all + strips * steps - 1) / (strips * steps), first = k * steps * lines;
  if (first >= all) return {};
  const char* from = static_cast<const char*>(next);
  return {from + 64 * first, from + 64 * all, lines, strips > 4};
}
