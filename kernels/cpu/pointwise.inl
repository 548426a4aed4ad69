// What works element by element, or moves rows.

template <class Act>
void rope(stream& s, const rope_args<Act>& a) {
  const std::int64_t half = a.rotary / 2;
  over_row_blocks(s, a.batch * a.length, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const float *cosine = a.cosine + r % a.length * half, *sine = a.sine + r % a.length * half;
      for (std::int64_t h = 0; h < a.heads; ++h) {
        Act* x = a.x + r * a.x_stride + h * a.head_dim;
        over(half, [&](std::int64_t i, auto mask) {
          const vf low = mask.get(x + i), high = mask.get(x + half + i), co = mask.get(cosine + i);
          const vf si = a.inverse ? -mask.get(sine + i) : mask.get(sine + i);
          mask.put(x + i, low * co - high * si);
          mask.put(x + half + i, high * co + low * si);
        });
      }
    }
  });
}

inline void embedding(stream& s, const embedding_args<float>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r)
      __builtin_memcpy(a.x + r * a.cols, a.table + a.ids[r] * a.cols, static_cast<std::size_t>(a.cols) * sizeof(float));
  });
}

/// Each tile owns some columns, so that rows of equal id are added in ascending order.
inline void embedding_backward(stream& s, const embedding_backward_args<float>& a) {
  constexpr std::int64_t columns = 64;
  s.workers.run((a.cols + columns - 1) / columns, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * columns, here = a.cols - first < columns ? a.cols - first : columns;
    for (std::int64_t r = 0; r < a.rows; ++r) {
      float* to = a.d_table + a.ids[r] * a.cols + first;
      const float* from = a.dx + r * a.cols + first;
      over(here, [&](std::int64_t c, auto mask) { mask.put(to + c, mask.get(to + c) + mask.get(from + c)); });
    }
  });
}

/// Elements [begin, end) of one extent.
ISTHMUS_INLINE void adamw_piece(const adamw_args& a, std::int64_t begin, std::int64_t end, float decay) {
  const float inverse1 = 1 / a.correction1, inverse2 = 1 / a.correction2;
  over(end - begin, [&](std::int64_t c, auto mask) {
    const std::int64_t i = begin + c;
    const vf g = mask.get(a.gradients + i) * a.gradient_scale, w = mask.get(a.weights + i);
    const vf m = a.beta1 * mask.get(a.first + i) + (1 - a.beta1) * g;
    const vf v = a.beta2 * mask.get(a.second + i) + (1 - a.beta2) * (g * g);
    const vf move = m * inverse1 / (square_root(v * inverse2) + a.eps);
    mask.put(a.first + i, m);
    mask.put(a.second + i, v);
    mask.put(a.weights + i, w - a.rate * (move + decay * w));
    if (a.clear_gradients) mask.put(a.gradients + i, vf{});
  });
}

inline void adamw(stream& s, const adamw_args& a) {
  if (a.n_extents == 0) return;
  constexpr std::int64_t piece = 32768;
  const std::int64_t begin = a.extents[0].offset, end = a.extents[a.n_extents - 1].offset + a.extents[a.n_extents - 1].count;
  s.workers.run((end - begin + piece - 1) / piece, [&](std::int64_t tile, int) {
    const std::int64_t from = begin + tile * piece, to = end - from < piece ? end : from + piece;
    for (std::int64_t e = 0; e < a.n_extents; ++e) {
      const std::int64_t low = a.extents[e].offset, high = low + a.extents[e].count;
      if (low < to && high > from) adamw_piece(a, low > from ? low : from, high < to ? high : to, a.extents[e].decay);
    }
  });
}

inline void sum_of_squares(stream& s, const sum_of_squares_args& a) {
  constexpr std::int64_t block = 4096, blocks_a_tile = 16;
  const std::int64_t blocks = (a.count + block - 1) / block;
  auto* parts = reinterpret_cast<double*>(s.workers.shared_scratch(static_cast<std::size_t>(blocks) * sizeof(double)));
  s.workers.run((blocks + blocks_a_tile - 1) / blocks_a_tile, [&](std::int64_t tile, int) {
    for (std::int64_t b = tile * blocks_a_tile; b < blocks && b < (tile + 1) * blocks_a_tile; ++b) {
      double lanes[8] = {};
      const std::int64_t end = (b + 1) * block < a.count ? (b + 1) * block : a.count;
      std::int64_t i = b * block;
      for (; i + 8 <= end; i += 8)
        for (int k = 0; k < 8; ++k) lanes[k] += static_cast<double>(a.values[i + k]) * static_cast<double>(a.values[i + k]);
      for (; i < end; ++i) lanes[0] += static_cast<double>(a.values[i]) * static_cast<double>(a.values[i]);
      parts[b] = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
  });
  double all = 0;
  for (std::int64_t b = 0; b < blocks; ++b) all += parts[b];
  *a.sum = all;
}
