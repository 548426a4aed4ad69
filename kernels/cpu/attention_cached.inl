// Decoding: queries of one token that share their keys, against the cache. Blocks of keys, then of values, lie in the first-level cache while
// all of them pass.

/// What attend_cached works on.
template <class Act>
struct cached_group {
  const Act *q, *keys, *values;      // [queries, head_dim]; the cache of their head from the first row that is seen, rows `stride` apart
  std::int64_t queries, head_dim, stride, count;
  float *weights, *sums;             // [queries, count], [queries, head_dim]
};

constexpr std::int64_t cached_block = 64;
constexpr std::int64_t cached_queries = 32;  // of a group, at most

#if ISTHMUS_WIDTH == 16
ISTHMUS_INLINE __m512 sums_of_neighbours(vf x, vf y) {
  const auto a = reinterpret_cast<__m512>(x), b = reinterpret_cast<__m512>(y);
  return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
ISTHMUS_INLINE __m512 sums_of_lanes(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
#endif

/// The sums of `width` vectors, in their order.
ISTHMUS_INLINE void sums_of(const vf (&x)[width], float* to) {
#if ISTHMUS_WIDTH == 16
  __m512 two[8], four[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) two[i] = sums_of_neighbours(x[2 * i], x[2 * i + 1]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) four[i] = _mm512_add_ps(low_pairs(two[2 * i], two[2 * i + 1]), high_pairs(two[2 * i], two[2 * i + 1]));
  _mm512_storeu_ps(to, sums_of_lanes(sums_of_lanes(four[0], four[1]), sums_of_lanes(four[2], four[3])));
#else
  for (std::int64_t i = 0; i < width; ++i) to[i] = sum(x[i]);
#endif
}

/// Scores of keys [first, last). Vectors: of a head, or 0 for any number.
template <int Vectors, class Act>
ISTHMUS_INLINE vf key_dot(const vf* q, const cached_group<Act>& a, std::int64_t query, std::int64_t key, float scale) {
  const Act* k = a.keys + key * a.stride;
  vf dot = vf{};
  if constexpr (Vectors > 0) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) dot += q[v] * load(k + v * width);
  } else {
    over(a.head_dim, [&](std::int64_t c, auto mask) { dot += mask.get(a.q + query * a.head_dim + c) * scale * mask.get(k + c); });
  }
  return dot;
}
/// Rows [first, first + width) of a head, as far as there are so many: they lie too far apart for the CPU to foresee them.
template <class Act>
ISTHMUS_INLINE void fetch_rows(const cached_group<Act>& a, const Act* rows, std::int64_t first) {
  const std::int64_t last = first + width < a.count ? first + width : a.count;
  for (std::int64_t j = first; j < last; ++j)
    for (std::int64_t c = 0; c < a.head_dim; c += 64 / static_cast<std::int64_t>(sizeof(Act))) __builtin_prefetch(rows + j * a.stride + c);
}
template <int Vectors, class Act>
void cached_scores(const cached_group<Act>& a, std::int64_t first, std::int64_t last, float scale) {
  for (std::int64_t i = 0; i < a.queries; ++i) {
    float* weights = a.weights + i * a.count;
    vf q[Vectors > 0 ? Vectors : 1];
    for (int v = 0; v < Vectors; ++v) q[v] = load(a.q + i * a.head_dim + v * width) * scale;
    std::int64_t j = first;
    for (; j + width <= last; j += width) {
      if (i == 0) fetch_rows(a, a.keys, j + width);
      vf dots[width];
#pragma GCC unroll 16
      for (int k = 0; k < width; ++k) dots[k] = key_dot<Vectors>(q, a, i, j + k, scale);
      sums_of(dots, weights + j);
    }
    for (; j < last; ++j) weights[j] = sum(key_dot<Vectors>(q, a, i, j, scale));
  }
}

/// Adds values [first, last), weighted.
template <int Vectors, class Act>
void cached_values(const cached_group<Act>& a, std::int64_t first, std::int64_t last) {
  for (std::int64_t i = 0; i < a.queries; ++i) {
    const float* weights = a.weights + i * a.count;
    float* sums = a.sums + i * a.head_dim;
    if constexpr (Vectors > 0) {
      vf o[Vectors];
      for (int v = 0; v < Vectors; ++v) o[v] = load(sums + v * width);
      for (std::int64_t j = first; j < last; ++j) {
        if (i == 0 && j % width == 0) fetch_rows(a, a.values, j + width);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) o[v] += weights[j] * load(a.values + j * a.stride + v * width);
      }
      for (int v = 0; v < Vectors; ++v) store(sums + v * width, o[v]);
    } else {
      for (std::int64_t j = first; j < last; ++j)
        over(a.head_dim, [&](std::int64_t c, auto mask) {
          mask.put(sums + c, mask.get(sums + c) + weights[j] * mask.get(a.values + j * a.stride + c));
        });
    }
  }
}

/// o: [queries, head_dim].
template <int Vectors, class Act>
void attend_cached(const cached_group<Act>& a, float scale, Act* o) {
  fetch_rows(a, a.keys, 0);
  for (std::int64_t j = 0; j < a.count; j += cached_block)
    cached_scores<Vectors>(a, j, a.count - j < cached_block ? a.count : j + cached_block, scale);
  fetch_rows(a, a.values, 0);
  float totals[cached_queries];
  for (std::int64_t i = 0; i < a.queries; ++i) {
    float* weights = a.weights + i * a.count;
    vf tops = splat(-INFINITY), sums = vf{};
    over(a.count, [&](std::int64_t j, auto mask) {
      const vf here = mask.get(weights + j);
      if constexpr (std::is_same_v<decltype(mask), full>)
        tops = max(tops, here);
      else
        for (std::int64_t k = 0; k < mask.count; ++k) tops[0] = here[k] > tops[0] ? here[k] : tops[0];
    });
    const float top = largest(tops);
    over(a.count, [&](std::int64_t j, auto mask) {
      mask.put(weights + j, exp(mask.get(weights + j) - top));
      sums += mask.get(weights + j);  // zero beyond the last
    });
    totals[i] = sum(sums);
  }
  for (std::int64_t c = 0; c < a.queries * a.head_dim; ++c) a.sums[c] = 0;
  for (std::int64_t j = 0; j < a.count; j += cached_block)
    cached_values<Vectors>(a, j, a.count - j < cached_block ? a.count : j + cached_block);
  for (std::int64_t i = 0; i < a.queries; ++i)
    over(a.head_dim, [&](std::int64_t c, auto mask) {
      mask.put(o + i * a.head_dim + c, mask.get(a.sums + i * a.head_dim + c) / splat(totals[i]));
    });
}

template <class Act>
void attention_cached(stream& s, const attention_cached_args<Act>& a) {
  if (a.tokens == 0) return;
  // Queries that share their keys stay together, unless that leaves workers without any.
  const std::int64_t shared = a.heads / a.kv_heads, groups = a.tokens * a.kv_heads, wanted = (s.workers.size() + groups - 1) / groups;
  const std::int64_t least = (shared + cached_queries - 1) / cached_queries;
  const std::int64_t parts = wanted > shared ? shared : wanted > least ? wanted : least;
  const auto attend = a.head_dim == 8 * width   ? attend_cached<8, Act>
                      : a.head_dim == 4 * width ? attend_cached<4, Act>
                      : a.head_dim == 2 * width ? attend_cached<2, Act>
                                                : attend_cached<0, Act>;
  s.workers.run(groups * parts, [&](std::int64_t tile, int worker) {
    const std::int64_t part = tile % parts, kv_head = tile / parts % a.kv_heads, t = tile / parts / a.kv_heads;
    const std::int64_t head = kv_head * shared + shared * part / parts, queries = kv_head * shared + shared * (part + 1) / parts - head;
    const std::int64_t end = a.past + t + 1, count = a.window > 0 && a.window < end ? a.window : end, stride = a.kv_heads * a.head_dim;
    const std::int64_t from = (end - count) * stride + kv_head * a.head_dim;
    float* memory = own_floats(s, worker, queries * (count + a.head_dim));
    attend({a.q + t * a.q_stride + head * a.head_dim, a.keys + from, a.values + from, queries, a.head_dim, stride, count, memory,
            memory + queries * count},
           a.scale, a.o + (t * a.heads + head) * a.head_dim);
  });
}
