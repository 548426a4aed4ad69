// The backward pass of modal_scan, chunks last to first. A chunk's states are computed again from the one kept before it; then, with g_t the
// gradient of s_t as (re, im) and dc = dy x2, rows are walked back:
//   g_t = conj(p) g_{t+1} + dc_t conj(R);  dR = sum_t dc_t conj(s_t);  dp = sum_t g_t conj(s_{t-1});  dw_t = d dc_t + Re sum_n g_t.

/// Of one vector of channels. The lanes' states are those before a chunk. gradient, d_pole, d_residue: [modes][width]; w, sums, dc, dw:
/// [modal_rows][width]; re, im: states of one mode, [modal_rows + 1][width].
struct modal_backward_memory {
  modal_lanes lanes;
  float *gradient_re, *gradient_im, *d_pole_re, *d_pole_im, *d_residue_re, *d_residue_im;
  float *w, *sums, *dc, *dw, *re, *im;
};

inline std::int64_t take_modal_backward(std::byte* from, std::int64_t modes, modal_backward_memory& m) {
  carver memory(from);
  modal_lanes& l = m.lanes;
  for (float** each : {&l.pole_re, &l.pole_im, &l.residue_re, &l.residue_im, &l.state_re, &l.state_im, &m.gradient_re, &m.gradient_im,
                       &m.d_pole_re, &m.d_pole_im, &m.d_residue_re, &m.d_residue_im})
    *each = memory.take(modes * width);
  for (float** each : {&m.w, &m.sums, &m.dc, &m.dw}) *each = memory.take(modal_rows * width);
  for (float** each : {&m.re, &m.im}) *each = memory.take((modal_rows + 1) * width);
  return reinterpret_cast<std::byte*>(memory.take(0)) - from;
}

/// One mode over the rows of a chunk: there, and back.
template <bool Complex>
ISTHMUS_INLINE void modal_mode_backward(const modal_backward_memory& m, std::int64_t mode, std::int64_t rows) {
  const std::int64_t at = mode * width;
  const vf pole_re = load(m.lanes.pole_re + at), pole_im = load(m.lanes.pole_im + at);
  const vf residue_re = load(m.lanes.residue_re + at), residue_im = load(m.lanes.residue_im + at);
  vf re = load(m.lanes.state_re + at), im = load(m.lanes.state_im + at);
  for (std::int64_t t = 0; t < rows; ++t) {
    store(m.re + t * width, re);
    store(m.im + t * width, im);
    const vf x = load(m.w + t * width);
    if constexpr (Complex) {
      const vf next = re * pole_re + (x - im * pole_im);
      im = re * pole_im + im * pole_re;
      re = next;
    } else {
      re += re * pole_re + x;
    }
    store(m.sums + t * width, load(m.sums + t * width) + (residue_re * re - residue_im * im));
  }
  vf g_re = load(m.gradient_re + at), g_im = load(m.gradient_im + at), d_pole_re = load(m.d_pole_re + at), d_pole_im = load(m.d_pole_im + at);
  vf d_residue_re = load(m.d_residue_re + at), d_residue_im = load(m.d_residue_im + at);
  for (std::int64_t t = rows - 1; t >= 0; --t) {
    const vf dc = load(m.dc + t * width), before_re = load(m.re + t * width), before_im = load(m.im + t * width);
    d_residue_re += dc * re;
    d_residue_im -= dc * im;
    g_re += dc * residue_re;
    g_im -= dc * residue_im;
    store(m.dw + t * width, load(m.dw + t * width) + g_re);
    d_pole_re += g_re * before_re + g_im * before_im;
    d_pole_im += g_im * before_re - g_re * before_im;
    if constexpr (Complex) {
      const vf next = g_re * pole_re + g_im * pole_im;
      g_im = g_im * pole_re - g_re * pole_im;
      g_re = next;
    } else {
      g_re += g_re * pole_re;
    }
    re = before_re, im = before_im;
  }
  store(m.gradient_re + at, g_re), store(m.gradient_im + at, g_im);
  store(m.d_pole_re + at, d_pole_re), store(m.d_pole_im + at, d_pole_im);
  store(m.d_residue_re + at, d_residue_re), store(m.d_residue_im + at, d_residue_im);
}

/// Rows [begin, begin + rows) of sequence b; adds to d_d.
template <class Mask, class Act>
ISTHMUS_INLINE void modal_chunk_backward(const modal_scan_backward_args<Act>& a, std::int64_t b, std::int64_t begin, std::int64_t rows,
                                         std::int64_t c, Mask mask, const modal_backward_memory& m, vf& d_d) {
  const vf d = a.d ? mask.get(a.d + c) : vf{}, one = splat(1.0F);
  const auto at = [&](const Act* x, std::int64_t t) { return x ? mask.get(x + (b * a.length + begin + t) * a.x_stride + c) : one; };
  const auto dy_at = [&](std::int64_t t) { return mask.get(a.dy + (b * a.length + begin + t) * a.dy_stride + c); };
  for (std::int64_t t = 0; t < rows; ++t) {
    const vf w = at(a.x1, t) * at(a.v, t), dc = dy_at(t) * at(a.x2, t);
    store(m.w + t * width, w);
    store(m.sums + t * width, d * w);
    store(m.dc + t * width, dc);
    store(m.dw + t * width, d * dc);
    d_d += dc * w;
  }
  for (std::int64_t n = 0; n < a.modes; ++n)
    a.form == modal_form::complex ? modal_mode_backward<true>(m, n, rows) : modal_mode_backward<false>(m, n, rows);
  for (std::int64_t t = 0; t < rows; ++t) {
    const std::int64_t to = (b * a.length + begin + t) * a.dx_stride + c;
    const vf dw = load(m.dw + t * width);
    if (a.x2) mask.put(a.dx2 + to, dy_at(t) * load(m.sums + t * width));
    if (a.x1) mask.put(a.dx1 + to, dw * at(a.v, t));
    mask.put(a.dv + to, dw * at(a.x1, t));
  }
}

/// One vector of channels, of all sequences.
template <class Mask, class Act>
void modal_backward_lanes(const modal_scan_backward_args<Act>& a, std::int64_t c, std::int64_t lanes, Mask mask,
                          const modal_backward_memory& m) {
  const std::int64_t parts = a.form == modal_form::complex ? 2 : 1, size = a.modes * parts, each = a.modes * width;
  const std::int64_t chunks = (a.length + modal_rows - 1) / modal_rows;
  gather_modes(a.form, a.poles + c * size, lanes, a.modes, m.lanes.pole_re, m.lanes.pole_im);
  gather_modes(a.form, a.residues + c * size, lanes, a.modes, m.lanes.residue_re, m.lanes.residue_im);
  if (parts == 1)
    for (std::int64_t i = 0; i < each; i += width) store(m.lanes.pole_re + i, exp_less_one(load(m.lanes.pole_re + i)));
  for (float* sums : {m.d_pole_re, m.d_pole_im, m.d_residue_re, m.d_residue_im})
    __builtin_memset(sums, 0, static_cast<std::size_t>(each) * sizeof(float));
  vf d_d = vf{};
  for (std::int64_t b = 0; b < a.batch; ++b) {
    const std::int64_t carried = (b * a.channels + c) * size;
    gather_modes(a.form, a.d_final ? a.d_final + carried : nullptr, lanes, a.modes, m.gradient_re, m.gradient_im);
    for (std::int64_t k = chunks - 1; k >= 0; --k) {
      const std::int64_t begin = k * modal_rows, rows = a.length - begin < modal_rows ? a.length - begin : modal_rows;
      gather_modes(a.form, a.states + ((b * chunks + k) * a.channels + c) * size, lanes, a.modes, m.lanes.state_re, m.lanes.state_im);
      modal_chunk_backward(a, b, begin, rows, c, mask, m, d_d);
    }
    if (a.d_initial) scatter_modes(a.form, m.gradient_re, m.gradient_im, lanes, a.modes, a.d_initial + carried);
  }
  for (std::int64_t i = 0; i < lanes; ++i) {
    for (std::int64_t n = 0; n < a.modes; ++n) {
      const std::int64_t from = n * width + i, to = ((c + i) * a.modes + n) * parts;
      a.d_residues[to] += m.d_residue_re[from];
      a.d_poles[to] += parts == 2 ? m.d_pole_re[from] : m.d_pole_re[from] * (1 + m.lanes.pole_re[from]);
      if (parts == 1) continue;
      a.d_residues[to + 1] += m.d_residue_im[from];
      a.d_poles[to + 1] += m.d_pole_im[from];
    }
  }
  if (a.d) mask.put(a.d_d + c, mask.get(a.d_d + c) + d_d);
}

template <class Act>
void modal_scan_backward(stream& s, const modal_scan_backward_args<Act>& a) {
  s.workers.run((a.channels + width - 1) / width, [&](std::int64_t vector, int worker) {
    modal_backward_memory m{};
    const std::int64_t bytes = take_modal_backward(nullptr, a.modes, m), c = vector * width;
    take_modal_backward(s.workers.scratch(worker, static_cast<std::size_t>(bytes)), a.modes, m);
    const std::int64_t lanes = a.channels - c < width ? a.channels - c : width;
    over(lanes, [&](std::int64_t, auto mask) { modal_backward_lanes(a, c, lanes, mask, m); });
  });
}
