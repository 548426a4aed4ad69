// Attention in blocks of 64 queries and 64 keys (Dao 2023, arXiv:2307.08691). On the diagonal a block is worked in bands of 16
// queries, so that little above it is computed. An element E of its products is a float, or a pair of neighbours in bf16 (pairs.inl).

constexpr std::int64_t block = 64, band = 16;

/// The first key that query i of row b sees; it never falls from one query to the next.
ISTHMUS_INLINE std::int64_t first_seen(const attention_sight& sight, std::int64_t b, std::int64_t length, std::int64_t i) {
  const std::int64_t document = sight.first_key ? sight.first_key[b * length + i] : 0;
  return sight.window > 0 && i + 1 - sight.window > document ? i + 1 - sight.window : document;
}

/// Calls body(first query, queries, keys) so that together the pairs (query, key) cover what is visible in a block of `queries` x
/// `keys`: everything, or on the diagonal what lies on or below it.
template <class Body>
ISTHMUS_INLINE void over_bands(bool diagonal, std::int64_t queries, std::int64_t keys, Body&& body) {
  if (!diagonal) return body(0, queries, keys);
  for (std::int64_t q = 0; q < queries; q += band) {
    const std::int64_t here = queries - q < band ? queries - q : band;
    body(q, here, q + here < keys ? q + here : keys);
  }
}

/// Numbers as products by E take them.
template <class E>
using number_of = std::conditional_t<std::is_same_v<E, float>, float, bf16>;

/// Memory of one forward tile. scores, weights: [64][64], in fp32 the same; sums: [queries][padded head_dim]; top, by powers of two, and
/// total: [queries].
template <class E>
struct attention_memory {
  float *scores, *sums, *top, *total;
  E *keys, *values, *queries;
  number_of<E>* weights;
  std::int64_t padded;
};

/// Of one row of scores, of which [first, visible) count, the weights 2^(scale s - top) with the new maximum; what was summed before
/// shrinks by the factor that is given.
template <class Number>
ISTHMUS_INLINE float online_softmax(float* scores, Number* weights, std::int64_t first, std::int64_t visible, std::int64_t padded,
                                    float scale, float& top, float& total) {
  if (first >= visible) {
    __builtin_memset(weights, 0, static_cast<std::size_t>(padded) * sizeof(Number));
    return 1;
  }
  for (std::int64_t c = 0; c < first; ++c) scores[c] = -INFINITY;
  for (std::int64_t c = visible; c < padded; ++c) scores[c] = -INFINITY;
  vf highest = splat(-INFINITY);
  for (std::int64_t c = 0; c < padded; c += width) highest = max(highest, load(scores + c));
  const float reached = largest(highest) * scale, next = reached > top ? reached : top;
  vf sums = vf{};
  for (std::int64_t c = 0; c < padded; c += width) {
    const vf x = load(scores + c) * scale - next, e = x < -126.0F ? vf{} : power_of_two(x);
    store(weights + c, e);
    sums += e;
  }
  const float factor = top == -INFINITY ? 0.0F : std::exp2(top - next);
  total = total * factor + sum(sums);
  top = next;
  return factor;
}

/// Adds what n_keys keys give to queries [q, q + n) of the tile; q counts from the tile's first query. unseen(r): how many of the keys lie
/// before those that the r-th of the queries sees; first: nothing has been added to them before.
template <class Act, class E, class Unseen>
ISTHMUS_INLINE void attend_block(const attention_args<Act>& a, const attention_memory<E>& m, const left_of<E>& queries,
                                 const right_of<E>& keys, const right_of<E>& values, std::int64_t q, std::int64_t n, std::int64_t n_keys,
                                 bool diagonal, bool first, Unseen&& unseen) {
  const std::int64_t depth = depth_of<E>(a.head_dim), weights_row = depth_of<E>(block);
  over_bands(diagonal, n, n_keys, [&](std::int64_t from, std::int64_t rows, std::int64_t visible) {
    float* scores = m.scores + from * block;
    number_of<E>* weights = m.weights + from * block;
    float* sums = m.sums + (q + from) * m.padded;
    const std::int64_t padded = round_up(visible, width);
    product(rows, round_up(visible, panel), depth, left_of<E>{queries.a + (q + from) * queries.row, queries.row, 1}, keys,
            {scores, block, panel}, into::overwrite);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t at = q + from + r, seen = diagonal && from + r + 1 < visible ? from + r + 1 : visible;
      const float factor = online_softmax(scores + r * block, weights + r * block, unseen(from + r), seen, padded, a.scale * log2_of_e,
                                          m.top[at], m.total[at]);
      if (!first && factor != 1.0F)
        for (std::int64_t c = 0; c < m.padded; c += width) store(sums + r * m.padded + c, load(sums + r * m.padded + c) * factor);
    }
    product(rows, m.padded, depth_of<E>(visible), left_of<E>{reinterpret_cast<const E*>(weights), weights_row, 1}, values,
            {sums, m.padded, panel}, first ? into::overwrite : into::add);
  });
}

/// Queries [begin, end) of head h of sequence b; begin is a multiple of 64.
template <class E, class Act>
void attention_tile(const attention_args<Act>& a, std::int64_t b, std::int64_t h, std::int64_t begin, std::int64_t end,
                    const attention_memory<E>& m) {
  const std::int64_t row = b * a.length, kv = h * a.kv_heads / a.heads * a.head_dim;
  const left_of<E> queries =
      left_rows(a.q + (row + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, end - begin, a.head_dim, m.queries);
  for (std::int64_t i = 0; i < end - begin; ++i) {
    m.top[i] = -INFINITY;
    m.total[i] = 0;
  }
  const auto first = [&](std::int64_t query) { return first_seen(a.sight, b, a.length, query); };
  const std::int64_t keys_end = a.sight.causal ? end : a.length;
  for (std::int64_t k = first(begin) / block * block; k < keys_end; k += block) {
    const std::int64_t n_keys = keys_end - k < block ? keys_end - k : block;
    const right_of<E> keys = turned_rows(a.k + (row + k) * a.qkv_stride + kv, a.qkv_stride, n_keys, a.head_dim, m.keys);
    const right_of<E> values = right_rows(a.v + (row + k) * a.qkv_stride + kv, a.qkv_stride, n_keys, a.head_dim, m.values);
    for (std::int64_t q = a.sight.causal && k > begin ? k : begin; q < end && first(q) < k + n_keys; q += block) {
      const std::int64_t n = end - q < block ? end - q : block;
      const bool diagonal = a.sight.causal && q == k, edge = first(q + n - 1) > k;
      attend_block(a, m, queries, keys, values, q - begin, n, n_keys, diagonal, k <= first(q), [&](std::int64_t r) {
        const std::int64_t unseen = edge ? first(q + r) - k : 0;
        return unseen > 0 ? unseen : 0;
      });
    }
  }
  for (std::int64_t i = 0; i < end - begin; ++i) {
    const float by = 1 / m.total[i];
    Act* o = a.o + ((row + begin + i) * a.heads + h) * a.head_dim;
    over(a.head_dim, [&](std::int64_t c, auto mask) { mask.put(o + c, mask.get(m.sums + i * m.padded + c) * by); });
    a.lse[(b * a.heads + h) * a.length + begin + i] = m.top[i] / log2_of_e + std::log(m.total[i]);
  }
}

template <class E, class Act>
void attention_by(stream& s, const attention_args<Act>& a) {
  constexpr std::int64_t queries = 4 * block;
  const std::int64_t parts = (a.length + queries - 1) / queries, padded = round_up(a.head_dim, panel);
  const std::int64_t weights = std::is_same_v<E, float> ? 0 : block * block / 2;
  s.workers.run(a.batch * a.heads * parts, [&](std::int64_t tile, int worker) {
    const auto floats = block * block + weights + 3 * block * padded + 2 * queries * padded + 2 * queries;
    carver memory(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
    float *scores = memory.take(block * block), *sums = memory.take(queries * padded), *top = memory.take(queries);
    float *total = memory.take(queries), *rounded = weights > 0 ? memory.take(weights) : scores;
    E *keys = memory.take<E>(2 * block * padded), *values = memory.take<E>(block * padded), *rows = memory.take<E>(queries * padded);
    const attention_memory<E> m{scores, sums, top, total, keys, values, rows, reinterpret_cast<number_of<E>*>(rounded), padded};
    const std::int64_t begin = tile % parts * queries, end = a.length - begin < queries ? a.length : begin + queries;
    if (end <= a.sight.first_query) return;
    attention_tile(a, tile / parts / a.heads, tile / parts % a.heads, begin, end, m);
  });
}
