// Long depthwise convolutions as products of transforms, a vector of channels a tile.

inline std::unique_ptr<long_conv_plan> make_long_conv_plan(std::int64_t length) {
  return std::make_unique<fourier_plan>(length, width == 16 ? 8 : 4);
}

constexpr auto nothing_to_fetch = [](std::int64_t) {};

/// Up to two arrays of points.
struct point_arrays {
  float* at[2];
  int count;
  float* const* begin() const { return at; }
  float* const* end() const { return at + count; }
};

/// data <- its transform.
struct forward_job {
  float* data;
  point_arrays down() const { return {{data}, 1}; }
  point_arrays up() const { return {{}, 0}; }
  template <int R>
  ISTHMUS_INLINE void last(const float* factors, std::int64_t first, std::int64_t blocks) const {
    for (std::int64_t i = first; i < first + blocks * R; i += R, factors += 2 * (R - 1)) {
      complex_vector a[R];
      transform<R>(a, data, i, factors);
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) store_point(data, i + j, a[j]);
    }
  }
  /// a <- the transform of block i.
  template <int R>
  static ISTHMUS_INLINE void transform(complex_vector (&a)[R], const float* data, std::int64_t i, const float* factors) {
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) a[j] = load_point(data, i + j);
    turn<false>(a, factors);
    butterfly<false>(a);
  }
};

/// data <- what `from` is the transform of, or the conjugate of the transform.
struct inverse_job {
  const float* from;
  float* data;
  bool conjugated;
  point_arrays down() const { return {{}, 0}; }
  point_arrays up() const { return {{data}, 1}; }
  template <int R>
  ISTHMUS_INLINE void last(const float* factors, std::int64_t first, std::int64_t blocks) const {
    for (std::int64_t i = first; i < first + blocks * R; i += R, factors += 2 * (R - 1)) {
      complex_vector a[R];
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) {
        a[j] = load_point(from, i + j);
        if (conjugated) a[j].im = -a[j].im;
      }
      back(a, data, i, factors);
    }
  }
  /// data <- what a, block i of a transform, comes from.
  template <int R>
  static ISTHMUS_INLINE void back(complex_vector (&a)[R], float* data, std::int64_t i, const float* factors) {
    butterfly<true>(a);
    turn<true>(a, factors);
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) store_point(data, i + j, a[j]);
  }
};

/// data <- data convolved with the filter of this spectrum.
struct convolve_job {
  float* data;
  const float* spectrum;
  point_arrays down() const { return {{data}, 1}; }
  point_arrays up() const { return {{data}, 1}; }
  template <int R>
  ISTHMUS_INLINE void last(const float* factors, std::int64_t first, std::int64_t blocks) const {
    for (std::int64_t i = first; i < first + blocks * R; i += R, factors += 2 * (R - 1)) {
      complex_vector a[R];
      forward_job::transform<R>(a, data, i, factors);
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) a[j] = a[j] * load_point(spectrum, i + j);
      inverse_job::back<R>(a, data, i, factors);
    }
  }
};

/// w <- w convolved with the filter if so asked, dc <- dc correlated with it, and the transform of dc correlated with w is added to d_filter.
struct gradient_job {
  float *w, *dc;
  const float* spectrum;
  float* d_filter;
  bool convolved;
  point_arrays down() const { return {{w, dc}, 2}; }
  point_arrays up() const { return {{dc, w}, convolved ? 2 : 1}; }
  template <int R>
  ISTHMUS_INLINE void last(const float* factors, std::int64_t first, std::int64_t blocks) const {
    for (std::int64_t i = first; i < first + blocks * R; i += R, factors += 2 * (R - 1)) {
      complex_vector a[R], b[R];
      forward_job::transform<R>(a, w, i, factors);
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) store_point(w, i + j, a[j]);
      forward_job::transform<R>(b, dc, i, factors);
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) {
        store_point(d_filter, i + j, load_point(d_filter, i + j) + b[j] * conjugate(load_point(w, i + j)));
        b[j] = b[j] * conjugate(load_point(spectrum, i + j));
      }
      inverse_job::back<R>(b, dc, i, factors);
      if (!convolved) continue;
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) a[j] = load_point(w, i + j) * load_point(spectrum, i + j);
      inverse_job::back<R>(a, w, i, factors);
    }
  }
};

/// A vector of channels, `lanes` of it in use, from `channel` on.
template <class Args>
struct conv_lanes {
  const Args& a;
  std::int64_t channel, lanes, taps;
  conv_lanes(const Args& args, std::int64_t c, std::int64_t n) : a(args), channel(c), lanes(n), taps(a.taps < a.length ? a.taps : a.length) {}
  std::int64_t filter(std::int64_t lane) const { return (channel + lane) / (a.channels / a.filters); }

  /// The lanes' taps side by side: to [taps][width].
  void gather(const float* h, float scale, float* to) const {
    __builtin_memset(to, 0, static_cast<std::size_t>(taps * width) * sizeof(float));
    if (a.filters == a.channels)
      transpose(h + channel * a.taps, a.taps, lanes, taps, to, width);
    else
      for (std::int64_t i = 0; i < lanes; ++i)
        for (std::int64_t t = 0; t < taps; ++t) to[t * width + i] = h[filter(i) * a.taps + t];
    for (std::int64_t t = 0; t < taps; ++t) store(to + t * width, load(to + t * width) * scale);
  }
  /// dh += from [taps][width], the first lane's first.
  void scatter(const float* from, float* dh) const {
    for (std::int64_t t = 0; t < taps; t += 16) {
      const std::int64_t n = taps - t < 16 ? taps - t : 16;
      float turned[width * 16];
      transpose(from + t * width, width, n, width, turned, 16);
      for (std::int64_t i = 0; i < lanes; ++i) {
        float* to = dh + filter(i) * a.taps + t;
        over(n, [&](std::int64_t k, auto mask) { mask.put(to + k, mask.get(to + k) + mask.get(turned + i * 16 + k)); });
      }
    }
  }
  /// spectrum <- the transform of all lags over N, for products with it come back N times too large. memory: 2 N vectors.
  void transform(const fourier_plan& p, float* memory, float* spectrum) const {
    const float scale = 1 / static_cast<float>(p.points);
    if (a.h_back) {  // lag -(s + 1) is the conjugate of lag s + 1
      gather(a.h_back, scale, memory);
      first_level(p, taps + 1 < a.length ? taps + 1 : a.length, spectrum, [&](std::int64_t t) { return t > 0 ? load(memory + (t - 1) * width) : vf{}; }, nothing_to_fetch);
      below_first(p, forward_job{spectrum});
    }
    float* ahead = a.h_back ? memory + p.points * width : memory;
    gather(a.h, scale, ahead);
    if (a.d)
      for (std::int64_t i = 0; i < lanes; ++i) ahead[i] += a.d[channel + i] * scale;
    if (!a.h_back) {
      first_level(p, taps, spectrum, [&](std::int64_t t) { return load(ahead + t * width); }, nothing_to_fetch);
      return below_first(p, forward_job{spectrum});
    }
    float* turned = memory + 2 * p.points * width;
    first_level(p, taps, turned, [&](std::int64_t t) { return load(ahead + t * width); }, nothing_to_fetch);
    below_first(p, forward_job{turned});
    for (std::int64_t i = 0; i < p.points; ++i) store_point(spectrum, i, conjugate(load_point(spectrum, i)) + load_point(turned, i));
  }
  /// dh, dh_back, dd += what the transform `sums` of dc correlated with w says. memory: 2 N vectors.
  void add_gradients(const fourier_plan& p, const float* sums, float* memory) const {
    const float scale = 1 / static_cast<float>(p.points);
    for (const bool is_back : {false, true}) {
      float* to = is_back ? a.dh_back : a.dh;
      if (is_back && !a.h_back) break;
      below_first(p, inverse_job{sums, memory, is_back});
      last_level(p, a.length, memory, [&](std::int64_t t, vf x) { store(memory + 2 * p.points * width + t * width, x * scale); }, nothing_to_fetch);
      const float* found = memory + 2 * p.points * width;
      if (!is_back && a.d)
        for (std::int64_t i = 0; i < lanes; ++i) a.dd[channel + i] += found[i];
      if (!is_back) scatter(found, to);
      else if (a.length > 1) conv_lanes(*this).up_to(a.length - 1).scatter(found + width, to);
    }
  }
  conv_lanes& up_to(std::int64_t most) {
    taps = taps < most ? taps : most;
    return *this;
  }
};

/// Tiles of whole filters, so that each filter's gradient has one owner: run(tile's first channel, vectors of channels inside) as
/// body(first channel, lanes, worker).
template <class Args, class Body>
void over_filter_tiles(stream& s, const Args& a, Body&& body) {
  const std::int64_t sharers = a.channels / a.filters, together = sharers >= width ? 1 : width / sharers;
  s.workers.run((a.filters + together - 1) / together, [&](std::int64_t tile, int worker) {
    const std::int64_t begin = tile * together * sharers, wanted = begin + together * sharers, end = wanted < a.channels ? wanted : a.channels;
    for (std::int64_t c = begin; c < end; c += width) body(c, end - c < width ? end - c : width, worker);
  });
}

template <class Act>
void long_conv(stream& s, const long_conv_args<Act>& a) {
  const auto& p = *static_cast<const fourier_plan*>(a.plan);
  const std::int64_t points = p.points * 2 * width;
  over_filter_tiles(s, a, [&](std::int64_t c, std::int64_t lanes, int worker) {
    float *spectrum = own_floats(s, worker, 3 * points), *data = spectrum + points;
    conv_lanes(a, c, lanes).transform(p, data, spectrum);
    over(lanes, [&](std::int64_t, auto mask) {
      for (std::int64_t b = 0; b < a.batch; ++b) {
        const std::int64_t at = b * a.length * a.x_stride + c;
        first_level(p, a.length, data, [&](std::int64_t t) {
          const vf v = mask.get(a.v + at + t * a.x_stride);
          return a.x1 ? v * mask.get(a.x1 + at + t * a.x_stride) : v;
        }, [&](std::int64_t t) {
          __builtin_prefetch(a.v + at + t * a.x_stride);
          if (a.x1) __builtin_prefetch(a.x1 + at + t * a.x_stride);
        });
        below_first(p, convolve_job{data, spectrum});
        last_level(p, a.length, data, [&](std::int64_t t, vf x) {
          mask.put(a.y + (b * a.length + t) * a.y_stride + c, a.x2 ? x * mask.get(a.x2 + at + t * a.x_stride) : x);
        }, [&](std::int64_t t) {
          __builtin_prefetch(a.y + (b * a.length + t) * a.y_stride + c, 1);
          if (a.x2) __builtin_prefetch(a.x2 + at + t * a.x_stride);
        });
      }
    });
  });
}

/// One sequence's channels: dv, dx1, dx2, and what it adds to the transform of the filters' gradient.
template <class Mask, class Act>
void long_conv_backward_lanes(const long_conv_backward_args<Act>& a, const fourier_plan& p, std::int64_t b, std::int64_t c, Mask mask,
                              const gradient_job& job) {
  const std::int64_t at = b * a.length * a.x_stride + c, d_at = b * a.length * a.dx_stride + c;
  const auto fetch = [&](std::int64_t t) {
    __builtin_prefetch(a.v + at + t * a.x_stride);
    if (a.x1) __builtin_prefetch(a.x1 + at + t * a.x_stride);
  };
  const auto fetch_dy = [&](std::int64_t t) {
    __builtin_prefetch(a.dy + (b * a.length + t) * a.dy_stride + c);
    if (a.x2) __builtin_prefetch(a.x2 + at + t * a.x_stride);
  };
  const auto dy = [&](std::int64_t t) { return mask.get(a.dy + (b * a.length + t) * a.dy_stride + c); };
  first_level(p, a.length, job.w, [&](std::int64_t t) {
    const vf v = mask.get(a.v + at + t * a.x_stride);
    return a.x1 ? v * mask.get(a.x1 + at + t * a.x_stride) : v;
  }, fetch);
  first_level(p, a.length, job.dc, [&](std::int64_t t) { return a.x2 ? dy(t) * mask.get(a.x2 + at + t * a.x_stride) : dy(t); }, fetch_dy);
  below_first(p, job);
  last_level(p, a.length, job.dc, [&](std::int64_t t, vf dw) {
    mask.put(a.dv + d_at + t * a.dx_stride, a.x1 ? dw * mask.get(a.x1 + at + t * a.x_stride) : dw);
    if (a.x1) mask.put(a.dx1 + d_at + t * a.dx_stride, dw * mask.get(a.v + at + t * a.x_stride));
  }, fetch);
  if (a.x2) last_level(p, a.length, job.w, [&](std::int64_t t, vf x) { mask.put(a.dx2 + d_at + t * a.dx_stride, x * dy(t)); }, fetch_dy);
}

template <class Act>
void long_conv_backward(stream& s, const long_conv_backward_args<Act>& a) {
  const auto& p = *static_cast<const fourier_plan*>(a.plan);
  const std::int64_t points = p.points * 2 * width;
  over_filter_tiles(s, a, [&](std::int64_t c, std::int64_t lanes, int worker) {
    float *spectrum = own_floats(s, worker, 4 * points), *sums = spectrum + points, *w = sums + points, *dc = w + points;
    const conv_lanes all(a, c, lanes);
    all.transform(p, w, spectrum);
    __builtin_memset(sums, 0, static_cast<std::size_t>(points) * sizeof(float));
    over(lanes, [&](std::int64_t, auto mask) {
      for (std::int64_t b = 0; b < a.batch; ++b)
        long_conv_backward_lanes(a, p, b, c, mask, gradient_job{w, dc, spectrum, sums, a.x2 != nullptr});
    });
    all.add_gradients(p, sums, w);
  });
}
