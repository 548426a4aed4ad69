// Depthwise causal convolution of many taps, one vector of channels at a time, rows of it side by side in fp32.

constexpr std::int64_t conv_rows = 128;                     // rows of one window, which stays in the first-level cache
constexpr int conv_sums = ISTHMUS_WIDTH == 16 ? 16 : 8;  // sums kept in registers

/// Where row t of sequence b comes from; null: zeros.
template <class Args>
ISTHMUS_INLINE auto conv_row(const Args& a, std::int64_t b, std::int64_t t) {
  if (t >= 0) return a.x + (b * a.length + t) * a.x_stride;
  return a.initial ? a.initial + (b * (a.width - 1) + a.width - 1 + t) * a.channels : nullptr;
}

/// What a tile sees of its channels.
struct conv_channels {
  const float *taps, *bias;  // [taps][channels], [channels]
  std::int64_t channels, taps_count;
};

/// out[i] += sum_k left[k * step] * right[i + k] for i < Sums, each a vector.
template <int Sums>
ISTHMUS_INLINE void correlate_few(std::int64_t count, const float* left, std::int64_t step, const float* right, float* out) {
  vf sums[Sums];
#pragma GCC unroll 16
  for (int i = 0; i < Sums; ++i) sums[i] = load(out + i * width);
  for (std::int64_t k = 0; k < count; ++k) {
    const vf by = load(left + k * step);
#pragma GCC unroll 16
    for (int i = 0; i < Sums; ++i) sums[i] += by * load(right + (i + k) * width);
  }
#pragma GCC unroll 16
  for (int i = 0; i < Sums; ++i) store(out + i * width, sums[i]);
}

/// The same for i < n.
inline void correlate(std::int64_t n, std::int64_t count, const float* left, std::int64_t step, const float* right, float* out) {
  std::int64_t i = 0;
  for (; i + conv_sums <= n; i += conv_sums) correlate_few<conv_sums>(count, left, step, right + i * width, out + i * width);
  for (; i < n; ++i) correlate_few<1>(count, left, step, right + i * width, out + i * width);
}

/// Taps of one vector of channels, [taps][width], zeros where there is no channel.
template <class Mask>
ISTHMUS_INLINE void copy_taps(const conv_channels& f, std::int64_t c, Mask mask, float* to) {
  for (std::int64_t k = 0; k < f.taps_count; ++k) store(to + k * width, mask.get(f.taps + k * f.channels + c));
}

/// sums [n][width] before the activation: rows [0, n) whose windows begin at `window`.
template <class Mask>
ISTHMUS_INLINE void conv_sums_of(const conv_channels& f, std::int64_t c, Mask mask, std::int64_t n, const float* taps, const float* window,
                                 float* sums) {
  const vf bias = mask.get(f.bias + c);
  for (std::int64_t t = 0; t < n; ++t) store(sums + t * width, bias);
  correlate(n, f.taps_count, taps, width, window, sums);
}

/// Rows [begin, end) of sequence b, all channels. memory: [taps + conv_rows + taps + conv_rows][width].
template <bool Silu, class Act>
void conv1d_wide_tile(const conv1d_args<Act>& a, const conv_channels& f, std::int64_t b, std::int64_t begin, std::int64_t end, float* memory) {
  const std::int64_t kept = a.width - 1;
  float *taps = memory, *window = taps + a.width * width, *sums = window + (conv_rows + kept) * width;
  over(a.channels, [&](std::int64_t c, auto mask) {
    copy_taps(f, c, mask, taps);
    for (std::int64_t t = begin - kept; t < end; ++t) {
      const Act* x = conv_row(a, b, t);
      store(window + (t - begin + kept) * width, x ? mask.get(x + c) : vf{});
    }
    conv_sums_of(f, c, mask, end - begin, taps, window, sums);
    for (std::int64_t t = begin; t < end; ++t) {
      const vf sum = load(sums + (t - begin) * width);
      mask.put(a.y + (b * a.length + t) * a.channels + c, Silu ? sum * sigmoid(sum) : sum);
    }
  });
}

/// The gradient of input t from the final state, where it is one of the last width - 1, and null elsewhere.
template <class Act>
ISTHMUS_INLINE const Act* conv_final_row(const conv1d_backward_args<Act>& a, std::int64_t b, std::int64_t t) {
  const std::int64_t kept = a.width - 1, place = t - (a.length - kept);
  return a.d_final && place >= 0 ? a.d_final + (b * kept + place) * a.channels : nullptr;
}

/// The gradient of the rows before the first, of one vector of channels from c on. d_sum(t): that of the sum of row t.
/// Last row first: each reads d_final, which may be the same memory, at an earlier place than it writes to.
template <class Mask, class Act, class Sum>
ISTHMUS_INLINE void conv_initial_rows(const conv1d_backward_args<Act>& a, const conv_channels& f, std::int64_t b, std::int64_t c, Mask mask,
                                      Sum d_sum) {
  const std::int64_t kept = a.width - 1;
  for (std::int64_t i = kept - 1; i >= 0; --i) {
    const Act* later = conv_final_row(a, b, i - kept);
    vf dx = later ? mask.get(later + c) : vf{};
    for (std::int64_t t = i < a.length ? i : a.length - 1; t >= 0; --t) dx += mask.get(f.taps + (i - t) * a.channels + c) * d_sum(t);
    mask.put(a.d_initial + (b * kept + i) * a.channels + c, dx);
  }
}

/// One vector of channels of one sequence. memory: [taps][width] twice, windows of x [conv_rows + taps][width], and what is left of
/// the sums' gradient [length + taps][width]. parts: [taps + 1][channels] of d_weight by tap, d_bias.
template <bool Silu, class Mask, class Act>
ISTHMUS_INLINE void conv1d_wide_backward(const conv1d_backward_args<Act>& a, const conv_channels& f, std::int64_t b, std::int64_t c,
                                         Mask mask, float* memory, float* parts) {
  const std::int64_t kept = a.width - 1;
  float *taps = memory, *d_taps = taps + a.width * width, *window = d_taps + a.width * width;
  float* d_sums = window + (conv_rows + kept) * width;
  copy_taps(f, c, mask, taps);
  __builtin_memset(d_taps, 0, static_cast<std::size_t>(a.width * width) * sizeof(float));
  __builtin_memset(d_sums + a.length * width, 0, static_cast<std::size_t>(kept * width) * sizeof(float));
  vf d_bias = vf{};
  for (std::int64_t begin = 0; begin < a.length; begin += conv_rows) {
    const std::int64_t n = a.length - begin < conv_rows ? a.length - begin : conv_rows;
    float* here = d_sums + begin * width;
    for (std::int64_t t = begin - kept; t < begin + n; ++t) {
      const Act* x = conv_row(a, b, t);
      store(window + (t - begin + kept) * width, x ? mask.get(x + c) : vf{});
    }
    if (Silu) conv_sums_of(f, c, mask, n, taps, window, here);
    for (std::int64_t t = 0; t < n; ++t) {
      vf d = mask.get(a.dy + (b * a.length + begin + t) * a.channels + c);
      if (Silu) {
        const vf sum = load(here + t * width);
        d *= silu_slope(sum, sigmoid(sum));
      }
      store(here + t * width, d);
      d_bias += d;
    }
    correlate(a.width, n, here, width, window, d_taps);
  }
  for (std::int64_t k = 0; k < a.width; ++k) mask.put(parts + k * a.channels + c, load(d_taps + k * width));
  mask.put(parts + a.width * a.channels + c, d_bias);
  for (std::int64_t t = 0; t < a.length; t += conv_sums) {
    const std::int64_t n = a.length - t < conv_sums ? a.length - t : conv_sums;
    for (std::int64_t i = 0; i < n; ++i) {
      const Act* later = conv_final_row(a, b, t + i);
      store(window + i * width, later ? mask.get(later + c) : vf{});
    }
    correlate(n, a.width, taps + kept * width, -width, d_sums + t * width, window);
    for (std::int64_t i = 0; i < n; ++i) mask.put(a.dx + (b * a.length + t + i) * a.dx_stride + c, load(window + i * width));
  }
  if (a.d_initial) conv_initial_rows(a, f, b, c, mask, [&](std::int64_t t) { return load(d_sums + t * width); });
}
