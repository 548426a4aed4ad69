// Depthwise causal convolution of few taps, channels side by side in vectors.

/// Floats of memory for spread_taps.
template <class Args>
std::int64_t spread_floats(const Args& a) {
  return (a.width + 1) * a.channels;
}
/// weight [filters, width] as [width][channels], so that taps are vectors, the skip added to the last; behind them the bias.
template <class Args>
conv_channels spread_taps(const Args& a, float* to) {
  const std::int64_t sharers = a.channels / a.filters;
  for (std::int64_t c = 0; c < a.channels; ++c) {
    for (std::int64_t k = 0; k < a.width; ++k) to[k * a.channels + c] = a.weight[c / sharers * a.width + k];
    if (a.skip) to[(a.width - 1) * a.channels + c] += a.skip[c];
    to[a.width * a.channels + c] = a.bias ? a.bias[c] : 0.0F;
  }
  return {to, to + a.width * a.channels, a.channels, a.width};
}

constexpr std::int64_t conv_narrow_width = 8;  // up to here taps are read from memory for each row

/// Rows [begin, end) of sequence b.
template <bool Silu, class Act>
void conv1d_tile(const conv1d_args<Act>& a, const conv_channels& f, std::int64_t b, std::int64_t begin, std::int64_t end) {
  for (std::int64_t t = begin; t < end; ++t) {
    over(a.channels, [&](std::int64_t c, auto mask) {
      vf sum = mask.get(f.bias + c);
      for (std::int64_t k = 0; k < a.width; ++k)
        if (const Act* x = conv_row(a, b, t - a.width + 1 + k)) sum += mask.get(f.taps + k * a.channels + c) * mask.get(x + c);
      mask.put(a.y + (b * a.length + t) * a.channels + c, Silu ? sum * sigmoid(sum) : sum);
    });
  }
}

template <bool Silu, class Act>
void conv1d_rows(stream& s, const conv1d_args<Act>& a, const conv_channels& f) {
  // One row of a step is not worth a window of its own.
  const bool wide = a.width > conv_narrow_width && a.length > 1;
  const std::int64_t rows = wide ? conv_rows : 32, blocks = (a.length + rows - 1) / rows;
  s.workers.run(a.batch * blocks, [&](std::int64_t tile, int worker) {
    const std::int64_t b = tile / blocks, begin = tile % blocks * rows, end = a.length - begin < rows ? a.length : begin + rows;
    if (wide)
      conv1d_wide_tile<Silu>(a, f, b, begin, end, own_floats(s, worker, 2 * (a.width + conv_rows) * width));
    else
      conv1d_tile<Silu>(a, f, b, begin, end);
  });
}

/// One row of channels that share filters: taps are read where they lie, for a table of them is larger than what there is to do.
template <bool Silu, class Act>
void conv1d_shared_row(stream& s, const conv1d_args<Act>& a) {
  constexpr std::int64_t together = 8;
  const std::int64_t sharers = a.channels / a.filters, tiles = (a.filters + together - 1) / together;
  s.workers.run(a.batch * tiles, [&](std::int64_t tile, int) {
    const std::int64_t b = tile / tiles, first = tile % tiles * together, end = first + together < a.filters ? first + together : a.filters;
    for (std::int64_t f = first; f < end; ++f) {
      over(sharers, [&](std::int64_t i, auto mask) {
        const std::int64_t c = f * sharers + i;
        vf sum = a.bias ? mask.get(a.bias + c) : vf{};
        if (a.skip) sum += mask.get(a.skip + c) * mask.get(conv_row(a, b, 0) + c);
        for (std::int64_t k = 0; k < a.width; ++k)
          if (const Act* x = conv_row(a, b, k - a.width + 1)) sum += a.weight[f * a.width + k] * mask.get(x + c);
        mask.put(a.y + b * a.channels + c, Silu ? sum * sigmoid(sum) : sum);
      });
    }
  });
}

template <class Act>
void conv1d(stream& s, const conv1d_args<Act>& a) {
  const std::int64_t kept = a.width - 1;
  const bool silu = a.activation == conv_activation::silu;
  float* memory = shared_floats(s, spread_floats(a) + a.batch * kept * a.channels);
  auto* last = reinterpret_cast<Act*>(memory + spread_floats(a));  // [batch, width - 1, channels]
  if (a.length == 1 && a.channels / a.filters >= width) {
    silu ? conv1d_shared_row<true>(s, a) : conv1d_shared_row<false>(s, a);
  } else {
    const conv_channels f = spread_taps(a, memory);
    silu ? conv1d_rows<true>(s, a, f) : conv1d_rows<false>(s, a, f);
  }
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

constexpr std::int64_t conv_backward_channels = 64;  // of one tile

/// Channels of one sequence in one tile: d_sum [length][64] in scratch, then what follows from it.
template <bool Silu, class Act>
void conv1d_backward_tile(const conv1d_backward_args<Act>& a, const conv_channels& f, std::int64_t b, std::int64_t c, std::int64_t channels,
                          float* d_sum, float* parts) {
  constexpr std::int64_t row = conv_backward_channels;
  const std::int64_t kept = a.width - 1;
  const Act* x = a.x + b * a.length * a.x_stride + c;
  for (std::int64_t t = 0; t < a.length; ++t) {
    const std::int64_t first = t < kept ? kept - t : 0;
    over(channels, [&](std::int64_t i, auto mask) {
      vf d = mask.get(a.dy + (b * a.length + t) * a.channels + c + i);
      if (Silu) {
        vf sum = mask.get(f.bias + c + i);
        for (std::int64_t k = first; k < a.width; ++k) sum += mask.get(f.taps + k * a.channels + c + i) * mask.get(x + (t - kept + k) * a.x_stride + i);
        for (std::int64_t k = 0; a.initial && k < first; ++k)
          sum += mask.get(f.taps + k * a.channels + c + i) * mask.get(conv_row(a, b, t - kept + k) + c + i);
        d *= silu_slope(sum, sigmoid(sum));
      }
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
      for (std::int64_t t = 0; a.initial && t < kept - k && t < a.length; ++t)
        d_tap += mask.get(d_sum + t * row + i) * mask.get(conv_row(a, b, t - kept + k) + c + i);
      mask.put(parts + k * a.channels + c + i, d_tap);
    }
    for (std::int64_t t = 0; t < a.length; ++t) {
      const Act* later = conv_final_row(a, b, t);
      vf dx = later ? mask.get(later + c + i) : vf{};
      for (std::int64_t k = a.length - t > kept ? 0 : kept - (a.length - 1 - t); k < a.width; ++k)
        dx += mask.get(f.taps + k * a.channels + c + i) * mask.get(d_sum + (t + kept - k) * row + i);
      mask.put(a.dx + (b * a.length + t) * a.dx_stride + c + i, dx);
    }
    if (a.d_initial) conv_initial_rows(a, f, b, c + i, mask, [&](std::int64_t t) { return mask.get(d_sum + t * row + i); });
  });
}

template <bool Silu, class Act>
void conv1d_backward_rows(stream& s, const conv1d_backward_args<Act>& a, const conv_channels& f, float* parts) {
  constexpr std::int64_t row = conv_backward_channels;
  const std::int64_t groups = (a.channels + row - 1) / row, part = (a.width + 1) * a.channels;
  const bool wide = a.width > conv_narrow_width;
  s.workers.run(a.batch * groups, [&](std::int64_t tile, int worker) {
    const std::int64_t b = tile / groups, first = tile % groups * row, channels = a.channels - first < row ? a.channels - first : row;
    float* mine = parts + b * part;
    if (!wide) return conv1d_backward_tile<Silu>(a, f, b, first, channels, own_floats(s, worker, a.length * row), mine);
    float* memory = own_floats(s, worker, (4 * a.width + conv_rows + a.length) * width);
    over(channels, [&](std::int64_t c, auto mask) { conv1d_wide_backward<Silu>(a, f, b, first + c, mask, memory, mine); });
  });
}

template <class Act>
void conv1d_backward(stream& s, const conv1d_backward_args<Act>& a) {
  const std::int64_t part = (a.width + 1) * a.channels, sharers = a.channels / a.filters;
  float* memory = shared_floats(s, spread_floats(a) + a.batch * part);
  float* parts = memory + spread_floats(a);  // [batch][width + 1][channels]: d_weight by tap, then d_bias
  const conv_channels f = spread_taps(a, memory);
  a.activation == conv_activation::silu ? conv1d_backward_rows<true>(s, a, f, parts) : conv1d_backward_rows<false>(s, a, f, parts);
  for (std::int64_t b = 0; b < a.batch; ++b) {
    const float* mine = parts + b * part;
    for (std::int64_t c = 0; c < a.channels; ++c) {
      for (std::int64_t k = 0; k < a.width; ++k) a.d_weight[c / sharers * a.width + k] += mine[k * a.channels + c];
      if (a.bias) a.d_bias[c] += mine[a.width * a.channels + c];
      if (a.skip) a.d_skip[c] += mine[(a.width - 1) * a.channels + c];
    }
  }
}
