// Decoding: queries against the caches of their sequences. A tile is one query with some of its heads, all of them where there are queries
// enough: it walks the rows of the cache from one end to the other, as memory likes to be read.

/// Heads of one query.
template <class Act, class Cache>
struct cached_query {
  const Act* q;                // [heads, head_dim]
  const Cache *keys, *values;  // the cache from the first row that is seen, rows `stride` apart
  std::int64_t head, heads;    // the first of them among all, and how many
  std::int64_t shared;         // heads in turn that read the same keys
  std::int64_t head_dim, stride, count;
  float* weights;        // [heads, room]
  float *sums, *totals;  // [heads, head_dim], [heads]
  std::int64_t room() const { return round_up(count, width); }
  /// Where the columns of the h-th of its heads begin in row j of the keys or the values; in the last row, if j lies behind it.
  const Cache* row(const Cache* rows, std::int64_t j, std::int64_t h) const {
    return rows + (j < count ? j : count - 1) * stride + (head + h) / shared * head_dim;
  }
};

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

/// Fetches a head's columns of a row that is read a block later, into the second-level cache: memory brings it while this block is worked on.
template <int Vectors, class Cache>
ISTHMUS_INLINE void fetch_row(const Cache* row, std::int64_t head_dim) {
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(Cache));
  if constexpr (Vectors > 0) {
#pragma GCC unroll 8
    for (std::int64_t c = 0; c < Vectors * width; c += line) __builtin_prefetch(row + c, 0, 2);
  } else {
    for (std::int64_t c = 0; c < head_dim; c += line) __builtin_prefetch(row + c, 0, 2);
  }
}

/// q . key, lanes not yet summed. Vectors: of a head, or 0 for any number.
template <int Vectors, class Act, class Cache>
ISTHMUS_INLINE vf key_dot(const vf* q, const cached_query<Act, Cache>& a, std::int64_t h, const Cache* key, float scale) {
  vf dot = vf{};
  if constexpr (Vectors > 0) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) dot += q[v] * load(key + v * width);
  } else {
    over(a.head_dim, [&](std::int64_t c, auto mask) { dot += mask.get(a.q + h * a.head_dim + c) * scale * mask.get(key + c); });
  }
  return dot;
}

/// weights = scale q . k, `width` keys at a time; behind the last key that of the last.
template <int Vectors, class Act, class Cache>
void cached_scores(const cached_query<Act, Cache>& a, float scale) {
  for (std::int64_t j = 0; j < a.count; j += width)
    for (std::int64_t h = 0; h < a.heads; ++h) {
      vf q[Vectors > 0 ? Vectors : 1], dots[width];
      for (int v = 0; v < Vectors; ++v) q[v] = load(a.q + h * a.head_dim + v * width) * scale;
      const bool last = j + width >= a.count;
      const Cache* later = last ? a.values : a.keys;
#pragma GCC unroll 16
      for (int k = 0; k < width; ++k) {
        fetch_row<Vectors>(a.row(later, (last ? 0 : j + width) + k, h), a.head_dim);
        dots[k] = key_dot<Vectors>(q, a, h, a.row(a.keys, j + k, h), scale);
      }
      sums_of(dots, a.weights + h * a.room() + j);
    }
}

/// weights = exp(weights - the largest), and their sum.
ISTHMUS_INLINE float exponentials_of(float* weights, std::int64_t count) {
  vf tops = splat(-INFINITY), sums = vf{};
  over(count, [&](std::int64_t j, auto mask) {
    const vf here = mask.get(weights + j);
    if constexpr (std::is_same_v<decltype(mask), full>)
      tops = max(tops, here);
    else
      for (std::int64_t k = 0; k < mask.count; ++k) tops[0] = here[k] > tops[0] ? here[k] : tops[0];
  });
  const float top = largest(tops);
  over(count, [&](std::int64_t j, auto mask) {
    mask.put(weights + j, exp(mask.get(weights + j) - top));
    sums += mask.get(weights + j);  // zero beyond the last
  });
  return sum(sums);
}

/// sums = weights times values, `width` rows at a time.
template <int Vectors, class Act, class Cache>
void cached_values(const cached_query<Act, Cache>& a, weights_ahead next) {
  for (std::int64_t c = 0; c < a.heads * a.head_dim; ++c) a.sums[c] = 0;
  for (std::int64_t j = 0; j < a.count; j += width)
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const float* weights = a.weights + h * a.room();
      float* sums = a.sums + h * a.head_dim;
      const std::int64_t end = j + width < a.count ? j + width : a.count;
      if constexpr (Vectors > 0) {
        vf o[Vectors];
        for (int v = 0; v < Vectors; ++v) o[v] = load(sums + v * width);
        for (std::int64_t k = j; k < end; ++k) {
          const Cache* value = a.row(a.values, k, h);
          next.fetch();
          fetch_row<Vectors>(a.row(a.values, k + width, h), a.head_dim);
#pragma GCC unroll 8
          for (int v = 0; v < Vectors; ++v) o[v] += weights[k] * load(value + v * width);
        }
        for (int v = 0; v < Vectors; ++v) store(sums + v * width, o[v]);
      } else {
        for (std::int64_t k = j; k < end; ++k)
          over(a.head_dim, [&](std::int64_t c, auto mask) {
            mask.put(sums + c, mask.get(sums + c) + weights[k] * mask.get(a.row(a.values, k, h) + c));
          });
      }
    }
}

/// o: [heads, head_dim]. next: the keys that are read first behind this query.
template <int Vectors, class Act, class Cache>
void attend_cached(const cached_query<Act, Cache>& a, float scale, Act* o, const weights_ahead& next) {
  cached_scores<Vectors>(a, scale);
  for (std::int64_t h = 0; h < a.heads; ++h) a.totals[h] = exponentials_of(a.weights + h * a.room(), a.count);
  cached_values<Vectors>(a, next);
  for (std::int64_t h = 0; h < a.heads; ++h)
    over(a.head_dim,
         [&](std::int64_t c, auto mask) { mask.put(o + h * a.head_dim + c, mask.get(a.sums + h * a.head_dim + c) / splat(a.totals[h])); });
}

template <class Act, class Cache>
void attention_cached(stream& s, const attention_cached_args<Act, Cache>& a) {
  std::int64_t queries = 0;
  for (std::int64_t i = 0; i < a.count; ++i) queries += a.sequences[i].tokens;
  if (queries == 0) return;
  // The heads of a query stay together, unless that leaves fewer tiles than two a worker.
  const std::int64_t wanted = s.workers.size() == 1 ? 1 : (2 * s.workers.size() + queries - 1) / queries;
  const std::int64_t parts = wanted < a.heads ? wanted : a.heads;
  const auto attend = a.head_dim == 8 * width   ? attend_cached<8, Act, Cache>
                      : a.head_dim == 4 * width ? attend_cached<4, Act, Cache>
                      : a.head_dim == 2 * width ? attend_cached<2, Act, Cache>
                                                : attend_cached<0, Act, Cache>;
  const std::int64_t stride = a.kv_heads * a.head_dim;
  // Of a tile: its sequence, its query there, the first row of the cache that it sees.
  struct place {
    const cached_sequence<Cache>* of;
    std::int64_t t, from;
  };
  const auto place_of = [&](std::int64_t tile) {
    place at{a.sequences, tile / parts, 0};
    for (; at.t >= at.of->tokens; ++at.of) at.t -= at.of->tokens;
    const std::int64_t end = at.of->past + at.t + 1;
    at.from = a.window > 0 && a.window < end ? end - a.window : 0;
    return at;
  };
  s.workers.run(queries * parts, [&](std::int64_t tile, int worker) {
    const auto [of, t, from] = place_of(tile);
    const std::int64_t part = tile % parts, head = a.heads * part / parts, heads = a.heads * (part + 1) / parts - head;
    const std::int64_t count = of->past + t + 1 - from, row = of->first + t, scores = heads * round_up(count, width);
    weights_ahead next;
    if (part + 1 == parts && tile + 1 < queries * parts) {
      const place then = place_of(tile + 1);
      const std::int64_t seen = then.of->past + then.t + 1 - then.from, rows = seen < width ? seen : width;
      const auto row_bytes = stride * static_cast<std::int64_t>(sizeof(Cache));
      next = share_of_steps(then.of->keys + then.from * stride, rows * row_bytes, heads * count);
    }
    float* memory = own_floats(s, worker, scores + heads * (a.head_dim + 1));
    attend({a.q + row * a.q_stride + head * a.head_dim, of->keys + from * stride, of->values + from * stride, head, heads,
            a.heads / a.kv_heads, a.head_dim, stride, count, memory, memory + scores, memory + scores + heads * a.head_dim},
           a.scale, a.o + (row * a.heads + head) * a.head_dim, next);
  });
}
