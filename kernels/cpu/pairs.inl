// Pairs of neighbours in bf16 as elements of products: vdpbf16ps multiplies both at once, with an fp32 sum.

/// Two numbers side by side in memory.
struct [[gnu::may_alias]] pair {
  bf16 first, second;
};
static_assert(sizeof(pair) == sizeof(float));

ISTHMUS_INLINE vf load(const pair* p) { return *reinterpret_cast<const vf*>(p); }
ISTHMUS_INLINE vf splat(const pair& p) {
  std::int32_t bits;
  __builtin_memcpy(&bits, &p, sizeof bits);
  return reinterpret_cast<vf>(_mm512_set1_epi32(bits));
}
ISTHMUS_INLINE vf multiply_add(vf sum, vf x, vf y, const pair*) {
  return reinterpret_cast<vf>(
      _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y)));
}
inline void product(std::int64_t m, std::int64_t n, std::int64_t k, const left_of<pair>& a, const right_of<pair>& b, const result& c,
                    into mode) {
  product_by(m, n, k, a, b, c, mode);
}

/// Numbers of bf16 in the upper halves of two vectors, as pairs.
ISTHMUS_INLINE vf paired(vf first, vf second) {
  return reinterpret_cast<vf>((reinterpret_cast<vu>(first) >> 16) | reinterpret_cast<vu>(second));
}

/// fp32 numbers, rounded.
ISTHMUS_INLINE vf rounded_pairs(vf first, vf second) {
  const __m512bh both = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(second), reinterpret_cast<__m512>(first));
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                         18, 2, 17, 1, 16, 0);
  return reinterpret_cast<vf>(_mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(both)));
}

/// Rows of an even number of numbers are rows of pairs as they lie; others are copied to `memory` [rows, pairs], a zero behind the last.
ISTHMUS_INLINE left_of<pair> left_rows(const bf16* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, pair* memory) {
  if (cols % 2 == 0 && stride % 2 == 0 && reinterpret_cast<std::uintptr_t>(src) % sizeof(pair) == 0)
    return {reinterpret_cast<const pair*>(src), stride / 2, 1};
  const std::int64_t row = depth_of<pair>(cols);
  for (std::int64_t r = 0; r < rows; ++r) {
    memory[(r + 1) * row - 1].second = bf16(0.0F);
    __builtin_memcpy(memory + r * row, src + r * stride, static_cast<std::size_t>(cols) * sizeof(bf16));
  }
  return {memory, row, 1};
}

/// Pairs of rows: `memory` [rows / 2, round_up(cols, 32)], a row of zeros behind the last. Columns behind the last are of no use to anyone.
ISTHMUS_INLINE right_of<pair> right_rows(const bf16* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, pair* memory) {
  const std::int64_t row = round_up(cols, panel);
  for (std::int64_t r = 0; r < rows; r += 2) {
    const bf16* at = src + r * stride;
    auto* to = reinterpret_cast<float*>(memory + r / 2 * row);
    over(cols,
         [&](std::int64_t c, auto mask) { mask.put(to + c, paired(mask.get(at + c), r + 1 < rows ? mask.get(at + stride + c) : vf{})); });
    for (std::int64_t c = cols; c < row; ++c) to[c] = 0;
  }
  return {memory, row, panel};
}

/// `memory`: [rows + 1, round_up(cols, 32)].
ISTHMUS_INLINE both_sides<pair> both_rows(const bf16* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, pair* memory) {
  return {left_rows(src, stride, rows, cols, memory), right_rows(src, stride, rows, cols, memory + rows * depth_of<pair>(cols))};
}

/// The transpose in panels, [rows / 32][pairs][32]; `memory`: twice as much.
ISTHMUS_INLINE right_of<pair> turned_rows(const bf16* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, pair* memory) {
  const std::int64_t depth = depth_of<pair>(cols);
  const left_of<pair> whole = left_rows(src, stride, rows, cols, memory + round_up(rows, panel) * depth);
  transposed_panels(reinterpret_cast<const float*>(whole.a), whole.row, rows, depth, reinterpret_cast<float*>(memory));
  return {memory, panel, depth * panel};
}

/// P and dS of a block as pairs.
template <>
struct block_gradients<pair> {
  static constexpr std::int64_t floats = 3 * block * block / 2;
  const float *p, *ds;
  bf16* rows;                  // dS, [64][64]
  pair *p_turned, *ds_turned;  // pairs of queries, [32][64]

  block_gradients(const float* weights, const float* grads, float* memory)
      : p(weights),
        ds(grads),
        rows(reinterpret_cast<bf16*>(memory)),
        p_turned(reinterpret_cast<pair*>(memory) + block * block / 2),
        ds_turned(p_turned + block * block / 2) {}
  /// Rounds n rows from the first; the first is even.
  void take(std::int64_t first, std::int64_t n, std::int64_t columns) const {
    for (std::int64_t r = first; r < first + n; r += 2)
      for (std::int64_t c = 0; c < columns; c += width) {
        const bool two = r + 1 < first + n;
        const std::int64_t at = r * block + c, turned = r / 2 * block + c;
        store(reinterpret_cast<float*>(p_turned) + turned, rounded_pairs(load(p + at), two ? load(p + at + block) : vf{}));
        const vf ds_pairs = rounded_pairs(load(ds + at), two ? load(ds + at + block) : vf{});
        store(reinterpret_cast<float*>(ds_turned) + turned, ds_pairs);
        store(rows + at, reinterpret_cast<vf>(reinterpret_cast<vu>(ds_pairs) << 16));
        store(rows + at + block, reinterpret_cast<vf>(reinterpret_cast<vu>(ds_pairs) & 0xffff0000U));
      }
  }
  left_of<pair> ds_rows(std::int64_t query) const { return {reinterpret_cast<const pair*>(rows + query * block), block / 2, 1}; }
  left_of<pair> p_of_keys(std::int64_t query, std::int64_t key) const { return {p_turned + query / 2 * block + key, 1, block}; }
  left_of<pair> ds_of_keys(std::int64_t query, std::int64_t key) const { return {ds_turned + query / 2 * block + key, 1, block}; }
};
