// Depthwise causal convolution with silu, channels side by side in vectors.

/// weight [channels, width] as [width][channels], so that taps are vectors.
inline void transpose_taps(const float* weight, std::int64_t channels, std::int64_t taps, float* to) {
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t k = 0; k < taps; ++k) to[k * channels + c] = weight[c * taps + k];
}

/// Where row t of sequence b comes from; null: zeros.
template <class Act>
ISTHMUS_INLINE const Act* conv_row(const conv1d_args<Act>& a, std::int64_t b, std::int64_t t) {
  if (t >= 0) return a.x + (b * a.length + t) * a.x_stride;
  return a.initial ? a.initial + (b * (a.width - 1) + a.width - 1 + t) * a.channels : nullptr;
}

template <class Act>
void conv1d(stream& s, const conv1d_args<Act>& a) {
  constexpr std::int64_t rows_at_once = 32;
  const std::int64_t kept = a.width - 1, blocks = (a.length + rows_at_once - 1) / rows_at_once;
  float* taps = shared_floats(s, (a.width + a.batch * kept) * a.channels);
  auto* last = reinterpret_cast<Act*>(taps + a.width * a.channels);  // [batch, width - 1, channels]
  transpose_taps(a.weight, a.channels, a.width, taps);
  s.workers.run(a.batch * blocks, [&](std::int64_t tile, int) {
    const std::int64_t b = tile / blocks, begin = tile % blocks * rows_at_once;
    const std::int64_t end = a.length - begin < rows_at_once ? a.length : begin + rows_at_once;
    for (std::int64_t t = begin; t < end; ++t) {
      over(a.channels, [&](std::int64_t c, auto mask) {
        vf sum = mask.get(a.bias + c);
        for (std::int64_t k = 0; k < a.width; ++k)
          if (const Act* x = conv_row(a, b, t - kept + k)) sum += mask.get(taps + k * a.channels + c) * mask.get(x + c);
        mask.put(a.y + (b * a.length + t) * a.channels + c, sum * sigmoid(sum));
      });
    }
  });
  if (!a.final) return;
  for (std::int64_t i = 0; i < a.batch * kept; ++i) {
    const Act* x = conv_row(a, i / kept, a.length - kept + i % kept);
    for (std::int64_t c = 0; c < a.channels; ++c) last[i * a.channels + c] = x ? x[c] : Act(0.0F);
  }
  if (a.batch * kept > 0) __builtin_memcpy(a.final, last, static_cast<std::size_t>(a.batch * kept * a.channels) * sizeof(Act));
}

template <class Act>
void conv1d_step(stream& s, const conv1d_step_args<Act>& a) {
  conv1d<Act>(s, one_row_of(a));
}

/// Channels of one sequence in one tile: d_sum [length][64] in scratch, then what follows from it.
template <class Act>
void conv1d_backward_tile(const conv1d_backward_args<Act>& a, std::int64_t b, std::int64_t c, std::int64_t channels, const float* taps,
                          float* d_sum, float* parts) {
  constexpr std::int64_t row = 64;
  const std::int64_t kept = a.width - 1;
  const Act* x = a.x + b * a.length * a.x_stride + c;
  for (std::int64_t t = 0; t < a.length; ++t) {
    const std::int64_t first = t < kept ? kept - t : 0;
    over(channels, [&](std::int64_t i, auto mask) {
      vf sum = mask.get(a.bias + c + i);
      for (std::int64_t k = first; k < a.width; ++k) sum += mask.get(taps + k * a.channels + c + i) * mask.get(x + (t - kept + k) * a.x_stride + i);
      const vf d = mask.get(a.dy + (b * a.length + t) * a.channels + c + i) * silu_slope(sum, sigmoid(sum));
      mask.put(d_sum + t * row + i, d);
    });
  }
  over(channels, [&](std::int64_t i, auto mask) {
    vf d_bias = vf{};
    for (std::int64_t t = 0; t < a.length; ++t) d_bias += mask.get(d_sum + t * row + i);
    mask.put(parts + a.width * a.channels + c + i, d_bias);
    for (std::int64_t k = 0; k < a.width; ++k) {
      vf d_tap = vf{};
      for (std::int64_t t = kept - k; t < a.length; ++t) d_tap += mask.get(d_sum + t * row + i) * mask.get(x + (t - kept + k) * a.x_stride + i);
      mask.put(parts + k * a.channels + c + i, d_tap);
    }
    for (std::int64_t t = 0; t < a.length; ++t) {
      vf dx = vf{};
      for (std::int64_t k = a.length - t > kept ? 0 : kept - (a.length - 1 - t); k < a.width; ++k)
        dx += mask.get(taps + k * a.channels + c + i) * mask.get(d_sum + (t + kept - k) * row + i);
      mask.put(a.dx + (b * a.length + t) * a.dx_stride + c + i, dx);
    }
  });
}

template <class Act>
void conv1d_backward(stream& s, const conv1d_backward_args<Act>& a) {
  constexpr std::int64_t row = 64;
  const std::int64_t groups = (a.channels + row - 1) / row, part = (a.width + 1) * a.channels;
  float* taps = shared_floats(s, a.width * a.channels + a.batch * part);
  float* parts = taps + a.width * a.channels;  // [batch][width + 1][channels]: d_weight by tap, then d_bias
  transpose_taps(a.weight, a.channels, a.width, taps);
  s.workers.run(a.batch * groups, [&](std::int64_t tile, int worker) {
    const std::int64_t b = tile / groups, c = tile % groups * row;
    conv1d_backward_tile(a, b, c, a.channels - c < row ? a.channels - c : row, taps, own_floats(s, worker, a.length * row), parts + b * part);
  });
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t c = 0; c < a.channels; ++c) {
      for (std::int64_t k = 0; k < a.width; ++k) a.d_weight[c * a.width + k] += parts[b * part + k * a.channels + c];
      a.d_bias[c] += parts[b * part + a.width * a.channels + c];
    }
  }
}
