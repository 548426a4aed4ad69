// The backward pass of attention: one tile is one kv head of one sequence, all its queries and keys.

/// What products take of a block's weights P and their gradients dS, both [64 queries][64 keys]: rows of dS, and the transposes of both.
template <class E>
struct block_gradients;
template <>
struct block_gradients<float> {
  static constexpr std::int64_t floats = 0;  // beside P and dS themselves
  const float *p, *ds;

  block_gradients(const float* weights, const float* grads, float*) : p(weights), ds(grads) {}
  void take(std::int64_t, std::int64_t, std::int64_t) const {}
  fp32_left ds_rows(std::int64_t query) const { return {ds + query * block, block, 1}; }
  fp32_left p_of_keys(std::int64_t query, std::int64_t key) const { return {p + query * block + key, 1, block}; }
  fp32_left ds_of_keys(std::int64_t query, std::int64_t key) const { return {ds + query * block + key, 1, block}; }
};

/// keys_t, values_t: transposed panels of a block; keys: a block; queries, d_o: all; dq, dk, dv: sums, [length][padded]; mean: [length] =
/// d_o . o.
template <class E>
struct attention_backward_memory {
  float *scores, *grads, *dq, *dk, *dv, *mean;
  E *keys_t, *values_t, *keys, *queries, *d_o;
  block_gradients<E> gradients;
  std::int64_t padded;
};

/// scores <- P = exp(scale s - lse) by powers of two, grads <- dS = scale P (dP - mean), zero where a query does not see the key: outside
/// of [first, visible).
ISTHMUS_INLINE void score_gradients(float* scores, float* grads, std::int64_t first, std::int64_t visible, std::int64_t padded, float scale,
                                    float lse, float mean) {
  const float by_two = scale * log2_of_e, lse_by_two = lse * log2_of_e;
  for (std::int64_t c = 0; c < padded; c += width) {
    const vf x = load(scores + c) * by_two - lse_by_two, p = x < -126.0F ? vf{} : power_of_two(x);
    store(scores + c, p);
    store(grads + c, p * (load(grads + c) - mean) * scale);
  }
  for (std::int64_t c = 0; c < first; ++c) scores[c] = grads[c] = 0;
  for (std::int64_t c = visible; c < padded; ++c) scores[c] = grads[c] = 0;
}

/// Everything that block (queries from q, keys from k) gives. unseen(r): how many of the keys lie before those that the r-th query sees.
template <class Act, class E, class Unseen>
ISTHMUS_INLINE void attention_block_backward(const attention_backward_args<Act>& a, const attention_backward_memory<E>& m,
                                             const both_sides<E>& queries, const both_sides<E>& d_o, const right_of<E>& keys_t,
                                             const right_of<E>& values_t, const right_of<E>& keys, const float* lse, std::int64_t q,
                                             std::int64_t n, std::int64_t k, std::int64_t n_keys, Unseen&& unseen) {
  const std::int64_t depth = depth_of<E>(a.head_dim);
  const bool diagonal = a.sight.causal && q == k;
  const auto left_from = [](const left_of<E>& x, std::int64_t row) { return left_of<E>{x.a + row * x.row, x.row, 1}; };
  const auto right_from = [](const right_of<E>& x, std::int64_t row) { return right_of<E>{x.b + depth_of<E>(row) * x.row, x.row, panel}; };
  over_bands(diagonal, n, n_keys, [&](std::int64_t from, std::int64_t rows, std::int64_t visible) {
    float *scores = m.scores + from * block, *grads = m.grads + from * block;
    const std::int64_t columns = round_up(visible, panel), rounded = diagonal ? round_up(n_keys, width) : round_up(visible, width);
    const std::int64_t padded = rounded < columns ? rounded : columns;
    product(rows, columns, depth, left_from(queries.as_left, q + from), keys_t, {scores, block, panel}, into::overwrite);
    product(rows, columns, depth, left_from(d_o.as_left, q + from), values_t, {grads, block, panel}, into::overwrite);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t seen = diagonal && from + r + 1 < visible ? from + r + 1 : visible;
      const std::int64_t before = unseen(from + r);
      score_gradients(scores + r * block, grads + r * block, before < seen ? before : seen, seen, padded, a.scale, lse[q + from + r],
                      m.mean[q + from + r]);
    }
    m.gradients.take(from, rows, padded);
    product(rows, m.padded, depth_of<E>(visible), m.gradients.ds_rows(from), keys, {m.dq + (q + from) * m.padded, m.padded, panel},
            into::add);
  });
  // Transposed: a band of keys is seen by the queries from its first key on.
  for (std::int64_t from = 0; from < n_keys; from += diagonal ? band : block) {
    const std::int64_t wide = diagonal ? band : block, here = n_keys - from < wide ? n_keys - from : wide, first = diagonal ? from : 0;
    const std::int64_t at = (k + from) * m.padded, seen_by = depth_of<E>(n - first);
    if (seen_by <= 0) break;
    product(here, m.padded, seen_by, m.gradients.p_of_keys(first, from), right_from(d_o.as_right, q + first), {m.dv + at, m.padded, panel},
            into::add);
    product(here, m.padded, seen_by, m.gradients.ds_of_keys(first, from), right_from(queries.as_right, q + first),
            {m.dk + at, m.padded, panel}, into::add);
  }
}

/// Head h of sequence b: writes its dq, adds to m.dk and m.dv.
template <class E, class Act>
void attention_head_backward(const attention_backward_args<Act>& a, std::int64_t b, std::int64_t h, const attention_backward_memory<E>& m) {
  const std::int64_t row = b * a.length, dim = a.head_dim, kv = h * a.kv_heads / a.heads * dim, o_stride = a.heads * dim;
  const Act* d_o_at = a.d_o + row * o_stride + h * dim;
  const Act* o = a.o + row * o_stride + h * dim;
  const both_sides<E> queries = both_rows(a.q + row * a.qkv_stride + h * dim, a.qkv_stride, a.length, dim, m.queries);
  const both_sides<E> d_o = both_rows(d_o_at, o_stride, a.length, dim, m.d_o);
  for (std::int64_t i = 0; i < a.length; ++i) {
    vf dot = vf{};
    over(dim, [&](std::int64_t c, auto mask) { dot += mask.get(o + i * o_stride + c) * mask.get(d_o_at + i * o_stride + c); });
    m.mean[i] = sum(dot);
  }
  __builtin_memset(m.dq, 0, static_cast<std::size_t>(a.length * m.padded) * sizeof(float));
  const auto first = [&](std::int64_t query) { return first_seen(a.sight, b, a.length, query); };
  for (std::int64_t k = 0; k < a.length; k += block) {
    const std::int64_t n_keys = a.length - k < block ? a.length - k : block, at = (row + k) * a.qkv_stride + kv;
    const right_of<E> keys_t = turned_rows(a.k + at, a.qkv_stride, n_keys, dim, m.keys_t);
    const right_of<E> values_t = turned_rows(a.v + at, a.qkv_stride, n_keys, dim, m.values_t);
    const right_of<E> keys = right_rows(a.k + at, a.qkv_stride, n_keys, dim, m.keys);
    const std::int64_t asking = a.sight.first_query / block * block;
    for (std::int64_t q = a.sight.causal && k > asking ? k : asking; q < a.length && first(q) < k + n_keys; q += block) {
      const std::int64_t n = a.length - q < block ? a.length - q : block;
      const bool edge = first(q + n - 1) > k;
      attention_block_backward(a, m, queries, d_o, keys_t, values_t, keys, a.lse + (b * a.heads + h) * a.length, q, n, k, n_keys,
                               [&](std::int64_t r) {
                                 const std::int64_t unseen = edge ? first(q + r) - k : 0;
                                 return unseen > 0 ? unseen : 0;
                               });
    }
  }
  store_rows(m.dq, m.padded, a.length, dim, a.dq + row * a.d_qkv_stride + h * dim, a.d_qkv_stride);
}

template <class E, class Act>
void attention_backward_by(stream& s, const attention_backward_args<Act>& a) {
  const std::int64_t padded = round_up(a.head_dim, panel), whole = a.length * padded, part = block * padded,
                     beside = block_gradients<E>::floats;
  s.workers.run(a.batch * a.kv_heads, [&](std::int64_t tile, int worker) {
    const auto floats = 2 * block * block + beside + 5 * part + 5 * whole + 2 * padded + round_up(a.length, 16);
    carver memory(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
    float *scores = memory.take(block * block), *grads = memory.take(block * block), *more = memory.take(beside);
    float *dq = memory.take(whole), *dk = memory.take(whole), *dv = memory.take(whole), *mean = memory.take(a.length);
    E *keys_t = memory.take<E>(2 * part), *values_t = memory.take<E>(2 * part), *keys = memory.take<E>(part);
    E *queries = memory.take<E>(whole + padded), *d_o = memory.take<E>(whole + padded);
    const attention_backward_memory<E> m{scores, grads, dq, dk, dv, mean, keys_t, values_t, keys, queries, d_o, {scores, grads, more},
                                         padded};
    __builtin_memset(dk, 0, static_cast<std::size_t>(2 * whole) * sizeof(float));
    const std::int64_t b = tile / a.kv_heads, kv = tile % a.kv_heads, per_kv = a.heads / a.kv_heads;
    for (std::int64_t h = kv * per_kv; h < (kv + 1) * per_kv; ++h) attention_head_backward(a, b, h, m);
    const std::int64_t to = b * a.length * a.d_qkv_stride + kv * a.head_dim;
    store_rows(dk, padded, a.length, a.head_dim, a.dk + to, a.d_qkv_stride);
    store_rows(dv, padded, a.length, a.head_dim, a.dv + to, a.d_qkv_stride);
  });
}
