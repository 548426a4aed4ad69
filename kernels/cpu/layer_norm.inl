// LayerNorm, and biases. Sums over rows go per block of rows and then over the blocks in order, whatever the team.

template <class Act>
void layer_norm(stream& s, const layer_norm_args<Act>& a) {
  const float n = static_cast<float>(a.cols);
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const float* x = a.residual ? a.residual + r * a.cols : nullptr;
      vf total = vf{}, squares = vf{};
      if (a.branch) {
        float* joined = a.x + r * a.cols;
        over(a.cols, [&](std::int64_t c, auto mask) {
          vf v = mask.get(a.branch + r * a.cols + c);
          if (x) v += mask.get(x + c);
          mask.put(joined + c, v);
          total += v;
        });
        x = joined;
      } else {
        over(a.cols, [&](std::int64_t c, auto mask) { total += mask.get(x + c); });
      }
      const float mean = sum(total) / n;
      over(a.cols, [&](std::int64_t c, auto mask) {
        const vf v = mask.get(x + c) - mean;
        if constexpr (std::is_same_v<decltype(mask), full>)
          squares += v * v;
        else
          for (std::int64_t i = 0; i < mask.count; ++i) squares[i] += v[i] * v[i];
      });
      const float rstd = 1 / __builtin_sqrtf(sum(squares) / n + a.eps);
      over(a.cols, [&](std::int64_t c, auto mask) {
        mask.put(a.y + r * a.cols + c, (mask.get(x + c) - mean) * rstd * mask.get(a.gain + c) + mask.get(a.bias + c));
      });
      a.mean[r] = mean;
      a.rstd[r] = rstd;
    }
  });
}

/// sums: [2, cols], of the gain's gradient and of the bias's.
template <class Act>
ISTHMUS_INLINE void layer_norm_backward_row(const layer_norm_backward_args<Act>& a, std::int64_t r, float* sums) {
  const Act* dy = a.dy + r * a.cols;
  const float* x = a.x + r * a.cols;
  const float* past = a.d_residual ? a.d_residual + r * a.cols : nullptr;
  const float mean = a.mean[r], rstd = a.rstd[r], n = static_cast<float>(a.cols);
  vf total = vf{}, along = vf{};
  over(a.cols, [&](std::int64_t c, auto mask) {
    const vf d = mask.get(dy + c), g = mask.get(a.gain + c) * d, normal = (mask.get(x + c) - mean) * rstd;
    total += g;
    along += g * normal;
    mask.put(sums + c, mask.get(sums + c) + d * normal);
    mask.put(sums + a.cols + c, mask.get(sums + a.cols + c) + d);
  });
  const float level = sum(total) / n, pull = sum(along) / n;
  over(a.cols, [&](std::int64_t c, auto mask) {
    const vf normal = (mask.get(x + c) - mean) * rstd;
    vf dx = rstd * (mask.get(a.gain + c) * mask.get(dy + c) - level - normal * pull);
    if (past) dx += mask.get(past + c);
    mask.put(a.dx + r * a.cols + c, dx);
    if (a.d_branch) mask.put(a.d_branch + r * a.cols + c, dx);
  });
}

template <class Act>
void layer_norm_backward(stream& s, const layer_norm_backward_args<Act>& a) {
  const std::int64_t blocks = (a.rows + row_block - 1) / row_block, wide = 2 * a.cols;
  float* parts = shared_floats(s, (blocks + 1) * wide);
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t tile, int) {
    float* sums = parts + tile * wide;
    __builtin_memset(sums, 0, static_cast<std::size_t>(wide) * sizeof(float));
    for (std::int64_t r = first; r < first + rows; ++r) layer_norm_backward_row(a, r, sums);
  });
  float* all = parts + blocks * wide;
  __builtin_memcpy(all, a.d_gain, static_cast<std::size_t>(a.cols) * sizeof(float));
  __builtin_memcpy(all + a.cols, a.d_bias, static_cast<std::size_t>(a.cols) * sizeof(float));
  add_parts(parts, blocks, wide, all);
  __builtin_memcpy(a.d_gain, all, static_cast<std::size_t>(a.cols) * sizeof(float));
  __builtin_memcpy(a.d_bias, all + a.cols, static_cast<std::size_t>(a.cols) * sizeof(float));
}

template <class Act>
void bias(stream& s, const bias_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      Act* y = a.y + r * a.y_stride;
      over(a.cols, [&](std::int64_t c, auto mask) { mask.put(y + c, mask.get(y + c) + mask.get(a.bias + c)); });
    }
  });
}

template <class Act>
void bias_backward(stream& s, const bias_backward_args<Act>& a) {
  const std::int64_t blocks = (a.rows + row_block - 1) / row_block;
  float* parts = shared_floats(s, blocks * a.cols);
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t tile, int) {
    float* sums = parts + tile * a.cols;
    __builtin_memset(sums, 0, static_cast<std::size_t>(a.cols) * sizeof(float));
    for (std::int64_t r = first; r < first + rows; ++r)
      over(a.cols, [&](std::int64_t c, auto mask) { mask.put(sums + c, mask.get(sums + c) + mask.get(a.dy + r * a.dy_stride + c)); });
  });
  add_parts(parts, blocks, a.cols, a.d_bias);
}
