// Filters that are sums of exponentials: their taps, and the recurrence that convolves with them.

constexpr std::int64_t modal_block = 256;  // taps between two powers that are taken in double

struct wide_complex {
  double re, im;
};
ISTHMUS_INLINE wide_complex operator*(wide_complex a, wide_complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

/// Mode i of a list of modes.
inline wide_complex wide_mode(modal_form form, const float* at, std::int64_t i) {
  if (form == modal_form::complex) return {static_cast<double>(at[2 * i]), static_cast<double>(at[2 * i + 1])};
  return {static_cast<double>(at[i]), 0};
}
inline wide_complex wide_pole(modal_form form, const float* poles, std::int64_t i) {
  if (form == modal_form::complex) return wide_mode(form, poles, i);
  return {std::exp(static_cast<double>(poles[i])), 0};
}

/// p^255 and p^256.
struct last_powers {
  wide_complex before, step;
};
/// Powers of one pole, p^0 ... p^255 in fp32: eight of them at a time, each eight further than the last.
ISTHMUS_INLINE last_powers powers_of(wide_complex pole, float* re, float* im) {
  constexpr std::int64_t chains = 8;
  double now_re[chains], now_im[chains];
  wide_complex power{1, 0};
  for (std::int64_t i = 0; i < chains; ++i, power = power * pole) now_re[i] = power.re, now_im[i] = power.im;
  wide_complex before{};
  for (std::int64_t j = 0; j < modal_block; j += chains) {
    before = {now_re[chains - 1], now_im[chains - 1]};
    for (std::int64_t i = 0; i < chains; ++i) {
      re[j + i] = static_cast<float>(now_re[i]);
      im[j + i] = static_cast<float>(now_im[i]);
      const double next = now_re[i] * power.re - now_im[i] * power.im;
      now_im[i] = now_re[i] * power.im + now_im[i] * power.re;
      now_re[i] = next;
    }
  }
  return {before, before * pole};
}

/// One filter. memory: [modes][2][256] floats, then [modes] of two pairs of doubles.
inline void modal_filter_of(const modal_filter_args<float>& a, std::int64_t f, float* memory) {
  auto* terms = reinterpret_cast<wide_complex*>(memory + a.modes * 2 * modal_block);  // R p^k at the block's first tap
  wide_complex* steps = terms + a.modes;
  for (std::int64_t n = 0; n < a.modes; ++n) {
    float* powers = memory + n * 2 * modal_block;
    steps[n] = powers_of(wide_pole(a.form, a.poles, f * a.modes + n), powers, powers + modal_block).step;
    terms[n] = wide_mode(a.form, a.residues, f * a.modes + n);
  }
  for (std::int64_t k = 0; k < a.taps; k += modal_block) {
    float* h = a.h + f * a.taps + k;
    over(a.taps - k < modal_block ? a.taps - k : modal_block, [&](std::int64_t j, auto mask) {
      vf sum = vf{};
      for (std::int64_t n = 0; n < a.modes; ++n) {
        const float* powers = memory + n * 2 * modal_block;
        sum += static_cast<float>(terms[n].re) * load(powers + j) - static_cast<float>(terms[n].im) * load(powers + modal_block + j);
      }
      mask.put(h + j, sum);
    });
    for (std::int64_t n = 0; n < a.modes; ++n) terms[n] = terms[n] * steps[n];
  }
}

inline void modal_filter(stream& s, const modal_filter_args<float>& a) {
  s.workers.run(a.filters, [&](std::int64_t f, int worker) { modal_filter_of(a, f, own_floats(s, worker, a.modes * (2 * modal_block + 8))); });
}

/// The sums over k of dh_k p^k and of dh_k k p^(k-1). memory: [4][256]: powers, and j p^(j-1).
struct modal_sums {
  wide_complex power, slope;
};
ISTHMUS_INLINE modal_sums modal_sums_of(const float* dh, std::int64_t taps, wide_complex pole, float* memory) {
  float *re = memory, *im = re + modal_block, *slope_re = im + modal_block, *slope_im = slope_re + modal_block;
  const auto [before, step] = powers_of(pole, re, im);
  slope_re[0] = slope_im[0] = 0;
  for (std::int64_t j = 1; j < modal_block; ++j) {
    slope_re[j] = static_cast<float>(j) * re[j - 1];
    slope_im[j] = static_cast<float>(j) * im[j - 1];
  }
  modal_sums all{};
  wide_complex first{1, 0}, first_slope{0, 0};  // p^k, p^(k-1) at the block's first tap, the latter zero for k = 0
  for (std::int64_t k = 0; k < taps; k += modal_block) {
    vf sum_re = vf{}, sum_im = vf{}, slopes_re = vf{}, slopes_im = vf{};
    over(taps - k < modal_block ? taps - k : modal_block, [&](std::int64_t j, auto mask) {
      const vf g = mask.get(dh + k + j);
      sum_re += g * load(re + j);
      sum_im += g * load(im + j);
      slopes_re += g * load(slope_re + j);
      slopes_im += g * load(slope_im + j);
    });
    const wide_complex here{static_cast<double>(sum(sum_re)), static_cast<double>(sum(sum_im))};
    const wide_complex inside = first * wide_complex{static_cast<double>(sum(slopes_re)), static_cast<double>(sum(slopes_im))};
    const wide_complex power = first * here, outside = first_slope * here;
    all.power = {all.power.re + power.re, all.power.im + power.im};
    all.slope = {all.slope.re + inside.re + static_cast<double>(k) * outside.re, all.slope.im + inside.im + static_cast<double>(k) * outside.im};
    first_slope = k == 0 ? before : first_slope * step;
    first = first * step;
  }
  return all;
}

inline void modal_filter_backward(stream& s, const modal_filter_backward_args<float>& a) {
  s.workers.run(a.filters, [&](std::int64_t f, int worker) {
    float* memory = own_floats(s, worker, 4 * modal_block);
    for (std::int64_t i = f * a.modes; i < (f + 1) * a.modes; ++i) {
      const wide_complex pole = wide_pole(a.form, a.poles, i);
      const modal_sums sums = modal_sums_of(a.dh + f * a.taps, a.taps, pole, memory);
      const wide_complex q = sums.slope * wide_mode(a.form, a.residues, i);
      if (a.form == modal_form::complex) {
        a.d_residues[2 * i] += static_cast<float>(sums.power.re);
        a.d_residues[2 * i + 1] -= static_cast<float>(sums.power.im);
        a.d_poles[2 * i] += static_cast<float>(q.re);
        a.d_poles[2 * i + 1] -= static_cast<float>(q.im);
      } else {
        a.d_residues[i] += static_cast<float>(sums.power.re);
        a.d_poles[i] += static_cast<float>(q.re * pole.re);
      }
    }
  });
}

/// e^x - 1, to the last bits also where it is small: a pole near one is known by its distance from one.
ISTHMUS_INLINE vf exp_less_one(vf x) {
  vf y = splat(1.0F / 40320);
  for (const float c : {1.0F / 5040, 1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F}) y = y * x + c;
  return ((x < 0.4F) & (x > -0.4F)) ? y * x : exp(x) - 1.0F;
}

/// Of one vector of channels, each [modes][width]: poles less one for decays, residues, states; im is unused for decays.
struct modal_lanes {
  float *pole_re, *pole_im, *residue_re, *residue_im, *state_re, *state_im;
};
constexpr std::int64_t modal_rows = modal_scan_chunk;

/// re, im [modes][width] <- from [lanes][modes][parts].
ISTHMUS_INLINE void gather_modes(modal_form form, const float* from, std::int64_t lanes, std::int64_t modes, float* re, float* im) {
  const std::int64_t parts = form == modal_form::complex ? 2 : 1;
  for (std::int64_t n = 0; n < modes; ++n) {
    store(re + n * width, vf{});
    store(im + n * width, vf{});
    if (!from) continue;
    for (std::int64_t i = 0; i < lanes; ++i) {
      re[n * width + i] = from[(i * modes + n) * parts];
      if (parts == 2) im[n * width + i] = from[(i * modes + n) * 2 + 1];
    }
  }
}

/// The way back.
ISTHMUS_INLINE void scatter_modes(modal_form form, const float* re, const float* im, std::int64_t lanes, std::int64_t modes, float* to) {
  const std::int64_t parts = form == modal_form::complex ? 2 : 1;
  for (std::int64_t i = 0; i < lanes; ++i) {
    for (std::int64_t n = 0; n < modes; ++n) {
      to[(i * modes + n) * parts] = re[n * width + i];
      if (parts == 2) to[(i * modes + n) * 2 + 1] = im[n * width + i];
    }
  }
}

/// Modes [n, n + Modes) over `rows` rows of w, which add to sums.
template <bool Complex, int Modes>
ISTHMUS_INLINE void modal_rows_of(const modal_lanes& m, std::int64_t n, std::int64_t rows, const float* w, float* sums) {
  vf re[Modes], im[Modes], pole_re[Modes], pole_im[Modes], residue_re[Modes], residue_im[Modes];
#pragma GCC unroll 8
  for (int i = 0; i < Modes; ++i) {
    const std::int64_t at = (n + i) * width;
    re[i] = load(m.state_re + at), pole_re[i] = load(m.pole_re + at), residue_re[i] = load(m.residue_re + at);
    im[i] = load(m.state_im + at), pole_im[i] = load(m.pole_im + at), residue_im[i] = load(m.residue_im + at);
  }
  for (std::int64_t t = 0; t < rows; ++t) {
    const vf x = load(w + t * width);
    vf sum = load(sums + t * width);
#pragma GCC unroll 8
    for (int i = 0; i < Modes; ++i) {
      if constexpr (Complex) {
        const vf next = re[i] * pole_re[i] + (x - im[i] * pole_im[i]);
        im[i] = re[i] * pole_im[i] + im[i] * pole_re[i];
        re[i] = next;
        sum += residue_re[i] * re[i] - residue_im[i] * im[i];
      } else {
        re[i] += re[i] * pole_re[i] + x;
        sum += residue_re[i] * re[i];
      }
    }
    store(sums + t * width, sum);
  }
#pragma GCC unroll 8
  for (int i = 0; i < Modes; ++i) {
    store(m.state_re + (n + i) * width, re[i]);
    store(m.state_im + (n + i) * width, im[i]);
  }
}

template <bool Complex>
ISTHMUS_INLINE void all_modes_of(const modal_lanes& m, std::int64_t modes, std::int64_t rows, const float* w, float* sums) {
  constexpr int together = Complex ? 2 : 8;
  std::int64_t n = 0;
  for (; n + together <= modes; n += together) modal_rows_of<Complex, together>(m, n, rows, w, sums);
  for (; n < modes; ++n) modal_rows_of<Complex, 1>(m, n, rows, w, sums);
}

/// One vector of channels of sequence b. memory: [6][modes][width] and [2][modal_rows][width].
template <class Mask, class Act>
void modal_scan_lanes(const modal_scan_args<Act>& a, std::int64_t b, std::int64_t c, std::int64_t lanes, Mask mask, float* memory) {
  const std::int64_t each = a.modes * width, parts = a.form == modal_form::complex ? 2 : 1, size = a.modes * parts;
  const std::int64_t chunks = (a.length + modal_rows - 1) / modal_rows;
  const modal_lanes m{memory, memory + each, memory + 2 * each, memory + 3 * each, memory + 4 * each, memory + 5 * each};
  float *w = memory + 6 * each, *sums = w + modal_rows * width;
  gather_modes(a.form, a.poles + c * size, lanes, a.modes, m.pole_re, m.pole_im);
  gather_modes(a.form, a.residues + c * size, lanes, a.modes, m.residue_re, m.residue_im);
  gather_modes(a.form, a.initial ? a.initial + (b * a.channels + c) * size : nullptr, lanes, a.modes, m.state_re, m.state_im);
  if (parts == 1)
    for (std::int64_t n = 0; n < a.modes; ++n) store(m.pole_re + n * width, exp_less_one(load(m.pole_re + n * width)));
  const vf d = a.d ? mask.get(a.d + c) : vf{};
  for (std::int64_t begin = 0; begin < a.length; begin += modal_rows) {
    const std::int64_t rows = a.length - begin < modal_rows ? a.length - begin : modal_rows, first = b * a.length + begin;
    if (a.states)
      scatter_modes(a.form, m.state_re, m.state_im, lanes, a.modes, a.states + ((b * chunks + begin / modal_rows) * a.channels + c) * size);
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::int64_t at = (first + t) * a.x_stride + c, later = at + 16 * a.x_stride;
      if (begin + t + 16 < a.length) {  // rows lie too far apart for the CPU to foresee them
        __builtin_prefetch(a.v + later);
        if (a.x1) __builtin_prefetch(a.x1 + later);
        if (a.x2) __builtin_prefetch(a.x2 + later);
      }
      const vf x = a.x1 ? mask.get(a.x1 + at) * mask.get(a.v + at) : mask.get(a.v + at);
      store(w + t * width, x);
      store(sums + t * width, d * x);
    }
    parts == 2 ? all_modes_of<true>(m, a.modes, rows, w, sums) : all_modes_of<false>(m, a.modes, rows, w, sums);
    for (std::int64_t t = 0; t < rows; ++t) {
      const vf sum = load(sums + t * width);
      mask.put(a.y + (first + t) * a.y_stride + c, a.x2 ? sum * mask.get(a.x2 + (first + t) * a.x_stride + c) : sum);
    }
  }
  if (a.final) scatter_modes(a.form, m.state_re, m.state_im, lanes, a.modes, a.final + (b * a.channels + c) * size);
}

template <class Act>
void modal_scan(stream& s, const modal_scan_args<Act>& a) {
  const std::int64_t blocks = (a.channels + width - 1) / width, together = a.length < 16 ? 16 : 1;  // a step's blocks are too small for a tile
  const std::int64_t tiles = (blocks + together - 1) / together;
  s.workers.run(a.batch * tiles, [&](std::int64_t tile, int worker) {
    float* memory = own_floats(s, worker, (6 * a.modes + 2 * modal_rows) * width);
    const std::int64_t first = tile % tiles * together * width, left = a.channels - first, n = left < together * width ? left : together * width;
    over(n, [&](std::int64_t c, auto mask) {
      modal_scan_lanes(a, tile / tiles, first + c, n - c < width ? n - c : width, mask, memory);
    });
  });
}

template <class Act>
void modal_step(stream& s, const modal_step_args<Act>& a) {
  modal_scan<Act>(s, one_row_of(a));
}
