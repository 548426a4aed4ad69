// The backward pass of attention: one tile is one kv head of one sequence, all its queries and keys.

/// scores, grads: [64][64]; keys_t, values_t: transposed panels of a block; keys: a block; queries, d_o: [length][padded];
/// dq, dk, dv: sums, [length][padded]; mean: [length] = d_o . o.
struct attention_backward_memory {
  float *scores, *grads, *keys_t, *values_t, *keys, *queries, *d_o, *dq, *dk, *dv, *mean;
  std::int64_t padded;
};

/// scores <- P = exp(scale s - lse), grads <- dS = scale P (dP - mean), zero where a query does not see the key: outside of
/// [first, visible).
ISTHMUS_INLINE void score_gradients(float* scores, float* grads, std::int64_t first, std::int64_t visible, std::int64_t padded, float scale,
                                    float lse, float mean) {
  for (std::int64_t c = 0; c < padded; c += width) {
    const vf x = load(scores + c) * scale - lse, p = x < -87.0F ? vf{} : exp(x);
    store(scores + c, p);
    store(grads + c, p * (load(grads + c) - mean) * scale);
  }
  for (std::int64_t c = 0; c < first; ++c) scores[c] = grads[c] = 0;
  for (std::int64_t c = visible; c < padded; ++c) scores[c] = grads[c] = 0;
}

/// Everything that block (queries from q, keys from k) gives. unseen(r): how many of the keys lie before those that the r-th query sees.
template <class Act, class Unseen>
ISTHMUS_INLINE void attention_block_backward(const attention_backward_args<Act>& a, const attention_backward_memory& m,
                                             const rows_view& queries, const rows_view& d_o, const rows_view& keys,
                                             const float* lse, std::int64_t q, std::int64_t n, std::int64_t k, std::int64_t n_keys,
                                             Unseen&& unseen) {
  const std::int64_t dim = a.head_dim, depth = dim * panel;
  const bool diagonal = a.sight.causal && q == k;
  over_bands(diagonal, n, n_keys, [&](std::int64_t from, std::int64_t rows, std::int64_t visible) {
    float *scores = m.scores + from * block, *grads = m.grads + from * block;
    const std::int64_t columns = round_up(visible, panel), padded = diagonal ? round_up(n_keys, width) : round_up(visible, width);
    product(rows, columns, dim, queries.from(q + from).as_left(), {m.keys_t, panel, depth}, {scores, block, panel}, into::overwrite);
    product(rows, columns, dim, d_o.from(q + from).as_left(), {m.values_t, panel, depth}, {grads, block, panel}, into::overwrite);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t seen = diagonal && from + r + 1 < visible ? from + r + 1 : visible;
      const std::int64_t before = unseen(from + r);
      score_gradients(scores + r * block, grads + r * block, before < seen ? before : seen, seen, padded < columns ? padded : columns,
                      a.scale, lse[q + from + r], m.mean[q + from + r]);
    }
    product(rows, m.padded, visible, {grads, block, 1}, keys.as_right(), {m.dq + (q + from) * m.padded, m.padded, panel}, into::add);
  });
  // Transposed: a band of keys is seen by the queries from its first key on.
  for (std::int64_t from = 0; from < n_keys; from += diagonal ? band : block) {
    const std::int64_t wide = diagonal ? band : block, here = n_keys - from < wide ? n_keys - from : wide, first = diagonal ? from : 0;
    const std::int64_t at = (k + from) * m.padded, seen_by = n - first;
    if (seen_by <= 0) break;
    product(here, m.padded, seen_by, {m.scores + first * block + from, 1, block}, d_o.from(q + first).as_right(),
            {m.dv + at, m.padded, panel}, into::add);
    product(here, m.padded, seen_by, {m.grads + first * block + from, 1, block}, queries.from(q + first).as_right(),
            {m.dk + at, m.padded, panel}, into::add);
  }
}

/// Head h of sequence b: writes its dq, adds to m.dk and m.dv.
template <class Act>
void attention_head_backward(const attention_backward_args<Act>& a, std::int64_t b, std::int64_t h, const attention_backward_memory& m) {
  const std::int64_t row = b * a.length, dim = a.head_dim, kv = h * a.kv_heads / a.heads * dim, o_stride = a.heads * dim;
  const Act* d_o_at = a.d_o + row * o_stride + h * dim;
  const Act* o = a.o + row * o_stride + h * dim;
  const rows_view queries = view_rows(a.q + row * a.qkv_stride + h * dim, a.qkv_stride, a.length, dim, m.queries);
  const rows_view d_o = view_rows(d_o_at, o_stride, a.length, dim, m.d_o);
  for (std::int64_t i = 0; i < a.length; ++i) {
    vf dot = vf{};
    over(dim, [&](std::int64_t c, auto mask) { dot += mask.get(o + i * o_stride + c) * mask.get(d_o_at + i * o_stride + c); });
    m.mean[i] = sum(dot);
  }
  __builtin_memset(m.dq, 0, static_cast<std::size_t>(a.length * m.padded) * sizeof(float));
  const auto first = [&](std::int64_t query) { return first_seen(a.sight, b, a.length, query); };
  for (std::int64_t k = 0; k < a.length; k += block) {
    const std::int64_t n_keys = a.length - k < block ? a.length - k : block, at = (row + k) * a.qkv_stride + kv;
    transposed_panels(a.k + at, a.qkv_stride, n_keys, dim, m.keys_t);
    transposed_panels(a.v + at, a.qkv_stride, n_keys, dim, m.values_t);
    const rows_view keys = view_rows(a.k + at, a.qkv_stride, n_keys, dim, m.keys);
    for (std::int64_t q = a.sight.causal ? k : 0; q < a.length && first(q) < k + n_keys; q += block) {
      const std::int64_t n = a.length - q < block ? a.length - q : block;
      const bool edge = first(q + n - 1) > k;
      attention_block_backward(a, m, queries, d_o, keys, a.lse + (b * a.heads + h) * a.length, q, n, k, n_keys, [&](std::int64_t r) {
        const std::int64_t unseen = edge ? first(q + r) - k : 0;
        return unseen > 0 ? unseen : 0;
      });
    }
  }
  store_rows(m.dq, m.padded, a.length, dim, a.dq + row * a.d_qkv_stride + h * dim, a.d_qkv_stride);
}

template <class Act>
void attention_backward(stream& s, const attention_backward_args<Act>& a) {
  const std::int64_t padded = round_up(a.head_dim, panel), whole = a.length * padded, part = block * padded;
  s.workers.run(a.batch * a.kv_heads, [&](std::int64_t tile, int worker) {
    const auto bytes = static_cast<std::size_t>(2 * block * block + 3 * part + 5 * whole + round_up(a.length, 16)) * sizeof(float);
    carver memory(s.workers.scratch(worker, bytes));
    float *scores = memory.take(block * block), *grads = memory.take(block * block);
    float *keys_t = memory.take(part), *values_t = memory.take(part), *keys = memory.take(part);
    float *queries = memory.take(whole), *d_o = memory.take(whole), *dq = memory.take(whole);
    float *dk = memory.take(whole), *dv = memory.take(whole), *mean = memory.take(a.length);
    const attention_backward_memory m{scores, grads, keys_t, values_t, keys, queries, d_o, dq, dk, dv, mean, padded};
    __builtin_memset(dk, 0, static_cast<std::size_t>(2 * whole) * sizeof(float));
    const std::int64_t b = tile / a.kv_heads, kv = tile % a.kv_heads, per_kv = a.heads / a.kv_heads;
    for (std::int64_t h = kv * per_kv; h < (kv + 1) * per_kv; ++h) attention_head_backward(a, b, h, m);
    const std::int64_t to = b * a.length * a.d_qkv_stride + kv * a.head_dim;
    store_rows(dk, padded, a.length, a.head_dim, a.dk + to, a.d_qkv_stride);
    store_rows(dv, padded, a.length, a.head_dim, a.dv + to, a.d_qkv_stride);
  });
}
