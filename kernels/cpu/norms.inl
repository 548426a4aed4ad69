// Norms over rows. Gradients of gains are summed per block of rows and then over the blocks in order, whatever the team.

constexpr std::int64_t row_block = 32;

/// run(tiles of up to `block` rows): body(first row, rows, tile, worker).
template <class Body>
void over_row_blocks(stream& s, std::int64_t rows, Body&& body, std::int64_t block = row_block) {
  const std::int64_t tiles = (rows + block - 1) / block;
  s.workers.run(tiles, [&](std::int64_t tile, int worker) {
    const std::int64_t first = tile * block;
    body(first, rows - first < block ? rows - first : block, tile, worker);
  });
}
constexpr std::int64_t step_block = 8;  // of what sums nothing over rows: sequences that decode together are few rows

/// Adds parts [count, n] to out [n] in order.
inline void add_parts(const float* parts, std::int64_t count, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < count; ++i)
    over(n, [&](std::int64_t c, auto mask) { mask.put(out + c, mask.get(out + c) + mask.get(parts + i * n + c)); });
}

inline float* shared_floats(stream& s, std::int64_t floats) {
  return reinterpret_cast<float*>(s.workers.shared_scratch(static_cast<std::size_t>(floats) * sizeof(float)));
}
inline float* own_floats(stream& s, int worker, std::int64_t floats) {
  return reinterpret_cast<float*>(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
}

template <class Act>
void rms_norm(stream& s, const rms_norm_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const float* x = a.residual + r * a.cols;
      vf squares = vf{};
      if (a.branch) {
        float* joined = a.x + r * a.cols;
        over(a.cols, [&](std::int64_t c, auto mask) {
          const vf v = mask.get(x + c) + mask.get(a.branch + r * a.cols + c);
          mask.put(joined + c, v);
          squares += v * v;
        });
        x = joined;
      } else {
        over(a.cols, [&](std::int64_t c, auto mask) {
          const vf v = mask.get(x + c);
          squares += v * v;
        });
      }
      const float rstd = 1 / __builtin_sqrtf(sum(squares) / static_cast<float>(a.cols) + a.eps);
      over(a.cols, [&](std::int64_t c, auto mask) {
        mask.put(a.y + r * a.cols + c, mask.get(x + c) * mask.get(a.gain + c) * rstd);
      });
      a.rstd[r] = rstd;
    }
  }, step_block);
}

template <class Act>
ISTHMUS_INLINE void rms_norm_backward_row(const rms_norm_backward_args<Act>& a, std::int64_t r, float* d_gain) {
  const Act* dy = a.dy + r * a.cols;
  const float* x = a.x + r * a.cols;
  const float* past = a.d_residual ? a.d_residual + r * a.cols : nullptr;
  const float rstd = a.rstd[r];
  vf along = vf{};
  over(a.cols, [&](std::int64_t c, auto mask) {
    const vf dyx = mask.get(dy + c) * mask.get(x + c);
    along += mask.get(a.gain + c) * dyx;
    mask.put(d_gain + c, mask.get(d_gain + c) + dyx * rstd);
  });
  const float pull = sum(along) * rstd * rstd * rstd / static_cast<float>(a.cols);
  over(a.cols, [&](std::int64_t c, auto mask) {
    vf dx = mask.get(a.gain + c) * rstd * mask.get(dy + c) - mask.get(x + c) * pull;
    if (past) dx += mask.get(past + c);
    mask.put(a.dx + r * a.cols + c, dx);
    if (a.d_branch) mask.put(a.d_branch + r * a.cols + c, dx);
  });
}

template <class Act>
void rms_norm_backward(stream& s, const rms_norm_backward_args<Act>& a) {
  const std::int64_t blocks = (a.rows + row_block - 1) / row_block;
  float* parts = shared_floats(s, blocks * a.cols);
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t tile, int) {
    float* d_gain = parts + tile * a.cols;
    __builtin_memset(d_gain, 0, static_cast<std::size_t>(a.cols) * sizeof(float));
    for (std::int64_t r = first; r < first + rows; ++r) rms_norm_backward_row(a, r, d_gain);
  });
  add_parts(parts, blocks, a.cols, a.d_gain);
}

template <class Act>
void gated_norm(stream& s, const gated_norm_args<Act>& a) {
  const std::int64_t group = a.cols / a.groups;
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int worker) {
    float* gated = own_floats(s, worker, group);
    for (std::int64_t i = first * a.groups; i < (first + rows) * a.groups; ++i) {
      const std::int64_t r = i / a.groups, g = i % a.groups * group;
      vf squares = vf{};
      over(group, [&](std::int64_t c, auto mask) {
        const vf z = mask.get(a.z + r * a.z_stride + g + c), v = mask.get(a.y + r * a.cols + g + c) * (z * sigmoid(z));
        mask.put(gated + c, v);
        squares += v * v;
      });
      const float rstd = 1 / __builtin_sqrtf(sum(squares) / static_cast<float>(group) + a.eps);
      over(group, [&](std::int64_t c, auto mask) {
        mask.put(a.out + r * a.cols + g + c, mask.get(gated + c) * mask.get(a.gain + g + c) * rstd);
      });
      a.rstd[i] = rstd;
    }
  });
}

/// Channels [g, g + group) of row r. memory: [2, group].
template <class Act>
ISTHMUS_INLINE void gated_norm_backward_row(const gated_norm_backward_args<Act>& a, std::int64_t r, std::int64_t g, std::int64_t group,
                                            float rstd, float* d_gain, float* memory) {
  const std::int64_t at = r * a.cols + g;
  const Act* z = a.z + r * a.z_stride + g;
  float *gates = memory, *grads = memory + group;
  vf along = vf{};
  over(group, [&](std::int64_t c, auto mask) {
    const vf zc = mask.get(z + c), gate = sigmoid(zc), v = mask.get(a.y + at + c) * (zc * gate), d_out = mask.get(a.d_out + at + c);
    const vf scaled = mask.get(a.gain + g + c) * d_out;
    along += scaled * v;
    mask.put(gates + c, gate);
    mask.put(grads + c, scaled);
    mask.put(d_gain + g + c, mask.get(d_gain + g + c) + d_out * v * rstd);
  });
  const float pull = sum(along) * rstd * rstd * rstd / static_cast<float>(group);
  over(group, [&](std::int64_t c, auto mask) {
    const vf zc = mask.get(z + c), gate = mask.get(gates + c), y = mask.get(a.y + at + c), silu = zc * gate;
    const vf dv = mask.get(grads + c) * rstd - y * silu * pull;
    mask.put(a.dy + at + c, dv * silu);
    mask.put(a.dz + r * a.dz_stride + g + c, dv * y * silu_slope(zc, gate));
  });
}

template <class Act>
void gated_norm_backward(stream& s, const gated_norm_backward_args<Act>& a) {
  const std::int64_t blocks = (a.rows + row_block - 1) / row_block, group = a.cols / a.groups;
  float* parts = shared_floats(s, blocks * a.cols);
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t tile, int worker) {
    float* memory = own_floats(s, worker, 2 * group);
    float* d_gain = parts + tile * a.cols;
    __builtin_memset(d_gain, 0, static_cast<std::size_t>(a.cols) * sizeof(float));
    for (std::int64_t i = first * a.groups; i < (first + rows) * a.groups; ++i)
      gated_norm_backward_row(a, i / a.groups, i % a.groups * group, group, a.rstd[i], d_gain, memory);
  });
  add_parts(parts, blocks, a.cols, a.d_gain);
}

template <class Act>
ISTHMUS_INLINE float rstd_of(const Act* x, std::int64_t cols, float eps) {
  vf squares = vf{};
  over(cols, [&](std::int64_t c, auto mask) {
    const vf v = mask.get(x + c);
    squares += v * v;
  });
  return 1 / __builtin_sqrtf(sum(squares) / static_cast<float>(cols) + eps);
}

template <class Act>
void column_norm(stream& s, const column_norm_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const Act* x = a.x + r * a.x_stride;
      const float rstd = rstd_of(x, a.cols, a.eps);
      over(a.cols, [&](std::int64_t c, auto mask) { mask.put(a.y + r * a.y_stride + c, mask.get(x + c) * mask.get(a.gain + c) * rstd); });
    }
  });
}

template <class Act>
void column_norm_backward(stream& s, const column_norm_backward_args<Act>& a) {
  const std::int64_t blocks = (a.rows + row_block - 1) / row_block;
  float* parts = shared_floats(s, blocks * a.cols);
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t tile, int) {
    float* d_gain = parts + tile * a.cols;
    __builtin_memset(d_gain, 0, static_cast<std::size_t>(a.cols) * sizeof(float));
    for (std::int64_t r = first; r < first + rows; ++r) {
      const Act *x = a.x + r * a.x_stride, *dy = a.dy + r * a.dy_stride;
      const float rstd = rstd_of(x, a.cols, a.eps);
      vf along = vf{};
      over(a.cols, [&](std::int64_t c, auto mask) { along += mask.get(a.gain + c) * mask.get(dy + c) * mask.get(x + c); });
      const float pull = sum(along) * rstd * rstd * rstd / static_cast<float>(a.cols);
      over(a.cols, [&](std::int64_t c, auto mask) {
        const vf d = mask.get(dy + c), v = mask.get(x + c);
        mask.put(d_gain + c, mask.get(d_gain + c) + d * v * rstd);
        mask.put(a.dx + r * a.dx_stride + c, mask.get(a.gain + c) * d * rstd - v * pull);
      });
    }
  });
  add_parts(parts, blocks, a.cols, a.d_gain);
}
