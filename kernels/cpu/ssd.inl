// Mamba-2's state space dual form in matrix products (Dao & Gu 2024, arXiv:2405.21060, listing 1). A tile is one sequence and a few
// heads that share b and c. With D the time steps, e_t = exp(cum_t) and f_t = exp(cum_last - cum_t) inside a chunk:
//   Y = (C B^T o L) (D X) + e C S,   S <- e_last S + (f B)^T (D X),   L[t,s] = exp(cum_t - cum_s) for s <= t.
// States are kept transposed, [state][head_dim padded].

/// Heads that one tile works on; they belong to one group.
ISTHMUS_INLINE std::int64_t heads_a_tile(std::int64_t heads, std::int64_t groups) {
  const std::int64_t per_group = heads / groups;
  return per_group % 4 == 0 ? 4 : per_group % 2 == 0 ? 2 : 1;
}

/// Time steps and decays of one head over a chunk.
struct chunk_decay {
  float *delta, *slope, *log_decay, *from_start, *to_end;  // [chunk]: D, dD/ddt, cum, e, f
};

ISTHMUS_INLINE void time_step(float raw, float low, float high, float& delta, float& slope) {
  const float e = std::exp(-std::fabs(raw));
  delta = (raw > 0 ? raw : 0) + std::log1p(e);
  slope = raw > 0 ? 1 / (1 + e) : e / (1 + e);
  if (delta < low || delta > high) slope = 0;
  delta = delta < low ? low : delta > high ? high : delta;
}

template <class Args>
void decays_of(const Args& a, std::int64_t row, std::int64_t n, std::int64_t h, const chunk_decay& d) {
  const float rate = -std::exp(a.a_log[h]);
  float sum = 0;
  for (std::int64_t t = 0; t < n; ++t) {
    time_step(static_cast<float>(a.dt[(row + t) * a.dt_stride + h]) + a.dt_bias[h], a.dt_min, a.dt_max, d.delta[t], d.slope[t]);
    sum += d.delta[t] * rate;
    d.log_decay[t] = sum;
  }
  over(n, [&](std::int64_t t, auto mask) {
    mask.put(d.from_start + t, exp(mask.get(d.log_decay + t)));
    mask.put(d.to_end + t, exp(sum - mask.get(d.log_decay + t)));
  });
}

/// out[t, s] = in[t, s] exp(cum_t - cum_s) for s <= t, else 0; rows of `row` floats.
ISTHMUS_INLINE void apply_decay(const float* in, const float* log_decay, std::int64_t n, std::int64_t row, float* out) {
  for (std::int64_t t = 0; t < n; ++t) {
    std::int64_t c = 0;
    const std::int64_t end = round_up(t + 1, width) < row ? round_up(t + 1, width) : row;
    for (; c < end; c += width) {
      const vf x = load(log_decay + c);
      store(out + t * row + c, load(in + t * row + c) * exp(min(log_decay[t] - x, vf{})));
    }
    for (std::int64_t i = t + 1; i < row; ++i) out[t * row + i] = 0;
  }
}

ISTHMUS_INLINE void scale_all(float* x, std::int64_t n, float by) {
  for (std::int64_t c = 0; c < n; c += width) store(x + c, load(x + c) * by);
}

/// Memory of a forward tile. b_t: C's partner, transposed panels; b, c, scaled: [chunk][padded state]; x: [chunk][padded head_dim];
/// scores, mask: [chunk][padded chunk]; states: [heads of the tile][state][padded head_dim].
struct ssd_memory {
  float *b_t, *b, *c, *scaled, *x, *y, *scores, *decayed, *states;
  chunk_decay decay;
  std::int64_t row_n, row_p, row_q;
};

template <class Act>
void ssd_chunk_head(const ssd_args<Act>& a, std::int64_t batch, std::int64_t begin, std::int64_t n, std::int64_t h, const ssd_memory& m,
                    const rows_view& b, const rows_view& c, float* state) {
  const std::int64_t row = batch * a.length + begin, inner = a.heads * a.head_dim;
  const Act* x = a.x + row * a.xbc_stride + h * a.head_dim;
  decays_of(a, row, n, h, m.decay);
  apply_decay(m.scores, m.decay.log_decay, n, m.row_q, m.decayed);
  copy_rows(x, a.xbc_stride, n, a.head_dim, m.decay.delta, m.x, m.row_p);
  const fp32_right steps{m.x, m.row_p, panel};
  for (std::int64_t t = 0; t < n; t += 16) {  // row t needs no column behind it
    const std::int64_t rows = n - t < 16 ? n - t : 16;
    product(rows, m.row_p, t + rows, {m.decayed + t * m.row_q, m.row_q, 1}, steps, {m.y + t * m.row_p, m.row_p, panel}, into::overwrite);
  }
  copy_rows(c.a, c.row, n, a.state, m.decay.from_start, m.scaled, m.row_n);
  product(n, m.row_p, a.state, {m.scaled, m.row_n, 1}, {state, m.row_p, panel}, {m.y, m.row_p, panel}, into::add);
  const float skip = a.d[h];
  Act* y = a.y + row * inner + h * a.head_dim;
  for (std::int64_t t = 0; t < n; ++t)
    over(a.head_dim, [&](std::int64_t p, auto mask) {
      mask.put(y + t * inner + p, mask.get(m.y + t * m.row_p + p) + mask.get(x + t * a.xbc_stride + p) * skip);
    });
  copy_rows(b.a, b.row, n, a.state, m.decay.to_end, m.scaled, m.row_n);
  scale_all(state, a.state * m.row_p, m.decay.from_start[n - 1]);
  product(a.state, m.row_p, n, {m.scaled, 1, m.row_n}, steps, {state, m.row_p, panel}, into::add);
}

/// Copies a state [head_dim, state] of the interface to or from our transposed form.
ISTHMUS_INLINE void state_from(const float* s, std::int64_t p, std::int64_t n, std::int64_t row, float* to) {
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < row; ++j) to[i * row + j] = s && j < p ? s[j * n + i] : 0.0F;
}
ISTHMUS_INLINE void state_to(const float* from, std::int64_t p, std::int64_t n, std::int64_t row, float* s) {
  for (std::int64_t j = 0; j < p; ++j)
    for (std::int64_t i = 0; i < n; ++i) s[j * n + i] = from[i * row + j];
}

template <class Act>
void ssd_tile(const ssd_args<Act>& a, std::int64_t batch, std::int64_t head, std::int64_t heads, const ssd_memory& m) {
  const std::int64_t size = a.head_dim * a.state, kept = a.state * m.row_p, chunks = (a.length + a.chunk - 1) / a.chunk;
  const std::int64_t g = head * a.groups / a.heads * a.state;
  for (std::int64_t i = 0; i < heads; ++i)
    state_from(a.initial ? a.initial + (batch * a.heads + head + i) * size : nullptr, a.head_dim, a.state, m.row_p, m.states + i * kept);
  for (std::int64_t k = 0; k < chunks; ++k) {
    const std::int64_t begin = k * a.chunk, n = a.length - begin < a.chunk ? a.length - begin : a.chunk, row = batch * a.length + begin;
    const rows_view c = view_rows(a.c + row * a.xbc_stride + g, a.xbc_stride, n, a.state, m.c);
    const rows_view b = view_rows(a.b + row * a.xbc_stride + g, a.xbc_stride, n, a.state, m.b);
    const fp32_right b_t = transposed_panels(b.a, b.row, n, a.state, m.b_t);
    product(n, m.row_q, a.state, c.as_left(), b_t, {m.scores, m.row_q, panel}, into::overwrite);
    for (std::int64_t i = 0; i < heads; ++i) {
      if (a.states) state_to(m.states + i * kept, a.head_dim, a.state, m.row_p, a.states + ((batch * chunks + k) * a.heads + head + i) * size);
      ssd_chunk_head(a, batch, begin, n, head + i, m, b, c, m.states + i * kept);
    }
  }
  for (std::int64_t i = 0; a.final && i < heads; ++i)
    state_to(m.states + i * kept, a.head_dim, a.state, m.row_p, a.final + (batch * a.heads + head + i) * size);
}

ISTHMUS_INLINE chunk_decay take_decay(carver& memory, std::int64_t row_q) {
  float* delta = memory.take(row_q);
  float* slope = memory.take(row_q);
  float* log_decay = memory.take(row_q);
  float* from_start = memory.take(row_q);
  return {delta, slope, log_decay, from_start, memory.take(row_q)};
}

template <class Act>
void ssd(stream& s, const ssd_args<Act>& a) {
  const std::int64_t row_n = round_up(a.state, panel), row_p = round_up(a.head_dim, panel), row_q = round_up(a.chunk, panel);
  const std::int64_t heads = heads_a_tile(a.heads, a.groups), parts = a.heads / heads;
  s.workers.run(a.batch * parts, [&](std::int64_t tile, int worker) {
    const std::int64_t floats = row_q * (4 * row_n + 2 * row_p + 2 * row_q + 5) + heads * a.state * row_p;
    carver memory(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
    ssd_memory m{};
    m.row_n = row_n, m.row_p = row_p, m.row_q = row_q;
    m.b_t = memory.take(row_q * row_n);
    m.b = memory.take(row_q * row_n);
    m.c = memory.take(row_q * row_n);
    m.scaled = memory.take(row_q * row_n);
    m.x = memory.take(row_q * row_p);
    m.y = memory.take(row_q * row_p);
    m.scores = memory.take(row_q * row_q);
    m.decayed = memory.take(row_q * row_q);
    m.states = memory.take(heads * a.state * row_p);
    m.decay = take_decay(memory, row_q);
    ssd_tile(a, tile / parts, tile % parts * heads, heads, m);
  });
}

/// One token: the recurrence itself.
template <class Act>
void ssd_step(stream& s, const ssd_step_args<Act>& a) {
  s.workers.run(a.heads, [&](std::int64_t h, int) {
    const std::int64_t g = h * a.groups / a.heads * a.state;
    float delta = 0, slope = 0;
    time_step(static_cast<float>(a.dt[h]) + a.dt_bias[h], a.dt_min, a.dt_max, delta, slope);
    const float decay = std::exp(delta * -std::exp(a.a_log[h]));
    for (std::int64_t p = h * a.head_dim; p < (h + 1) * a.head_dim; ++p) {
      float* state = a.s + p * a.state;
      const float x = static_cast<float>(a.x[p]);
      vf y = vf{};
      over(a.state, [&](std::int64_t n, auto mask) {
        const vf next = mask.get(state + n) * decay + mask.get(a.b + g + n) * (delta * x);
        mask.put(state + n, next);
        y += next * mask.get(a.c + g + n);
      });
      a.y[p] = static_cast<Act>(sum(y) + a.d[h] * x);
    }
  });
}
