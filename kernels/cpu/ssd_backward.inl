// The backward pass of ssd, chunks last to first. With dM = dY (D X)^T below the diagonal, G = C B^T, P = adjoint of the state behind
// the chunk:
//   d(DX) = (G o L)^T dY + (f B) P;   dC = (sum over heads of dM o L) B + e dY S^T;   dB = (sum of dM o L)^T C + f (DX) P^T;
//   P <- e_last P + (e C)^T dY.
// The decays' gradients need no further product. With Z = G o dM o L off the diagonal, U = e dY S^T and V = f (DX) P^T:
//   d cum_t = (row sum of Z)_t - (column sum of Z)_t + C_t . U_t - B_t . V_t, and at the last row also <P, S'>, S' the state behind.

/// b_t, scores, decayed, x, ...: as in ssd_memory; dx: gradient of DX; d_scores: sum over heads of dM o L; dm: dM of a head; s_t, p_t: a
/// state and an adjoint as [head_dim][padded state]; adjoints: [heads of the tile][state][padded head_dim]; db, dc: [chunk][padded state].
struct ssd_backward_memory {
  float *b_t, *b, *c, *scaled, *x, *x_t, *dy, *dx, *scores, *decayed, *dm, *d_scores, *s_t, *p_t, *adjoints, *db, *dc, *u, *columns;
  double *d_cum;  // sums of large numbers that cancel
  chunk_decay decay;
  std::int64_t row_n, row_p, row_q;
};

/// What one chunk of one head adds to the gradients of its three parameters.
struct head_gradients {
  double dt_bias, a_log, d;
};

/// d_cum [n] -> d_dt, and the gradients of dt_bias and a_log.
template <class Act>
ISTHMUS_INLINE void decay_gradients(const ssd_backward_args<Act>& a, std::int64_t row, std::int64_t n, std::int64_t h,
                                    const ssd_backward_memory& m, head_gradients& sums) {
  const float rate = -std::exp(a.a_log[h]);
  const Act* x = a.x + row * a.xbc_stride + h * a.head_dim;
  double d_log_decay = 0;
  for (std::int64_t t = n - 1; t >= 0; --t) {
    d_log_decay += m.d_cum[t];
    vf along = vf{};
    over(a.head_dim, [&](std::int64_t p, auto mask) { along += mask.get(x + t * a.xbc_stride + p) * mask.get(m.dx + t * m.row_p + p); });
    const float d_raw = (sum(along) + rate * static_cast<float>(d_log_decay)) * m.decay.slope[t];
    a.d_dt[(row + t) * a.d_dt_stride + h] = static_cast<Act>(d_raw);
    sums.dt_bias += static_cast<double>(d_raw);
    sums.a_log += static_cast<double>(m.decay.delta[t] * rate) * d_log_decay;
  }
}

/// d_scores += decayed = dM o L; d_cum = row sums - column sums of Z.
ISTHMUS_INLINE void score_gradient_sums(const ssd_backward_memory& m, std::int64_t n) {
  for (std::int64_t c = 0; c < m.row_q; ++c) m.columns[c] = 0;
  for (std::int64_t t = 0; t < n; ++t) {
    float* z = m.decayed + t * m.row_q;
    const float diagonal = z[t];
    z[t] = 0;
    vf row = vf{};
    for (std::int64_t i = 0; i <= t; i += width) {
      const vf d = load(z + i), product = d * load(m.scores + t * m.row_q + i);
      store(m.d_scores + t * m.row_q + i, load(m.d_scores + t * m.row_q + i) + d);
      store(m.columns + i, load(m.columns + i) + product);
      row += product;
    }
    m.d_scores[t * m.row_q + t] += diagonal;
    m.d_cum[t] = static_cast<double>(sum(row));
  }
  for (std::int64_t t = 0; t < n; ++t) m.d_cum[t] -= static_cast<double>(m.columns[t]);
}

/// to [n][row_n] += u; d_cum_t += sign * u_t . x_t. Gives the sum of u_t . x_t.
ISTHMUS_INLINE double add_state_part(const ssd_backward_memory& m, const rows_view& x, std::int64_t n, std::int64_t state, float sign,
                                     float* to) {
  double all = 0;
  for (std::int64_t t = 0; t < n; ++t) {
    vf along = vf{};
    over(state, [&](std::int64_t c, auto mask) {
      const vf u = mask.get(m.u + t * m.row_n + c);
      along += u * mask.get(x.a + t * x.row + c);
      mask.put(to + t * m.row_n + c, mask.get(to + t * m.row_n + c) + u);
    });
    m.d_cum[t] += static_cast<double>(sign * sum(along));
    all += static_cast<double>(sum(along));
  }
  return all;
}

/// Writes dx of the chunk; sums d_d.
template <class Act>
ISTHMUS_INLINE void input_gradients(const ssd_backward_args<Act>& a, std::int64_t row, std::int64_t n, std::int64_t h,
                                    const rows_view& dy, const ssd_backward_memory& m, head_gradients& sums) {
  const Act* x = a.x + row * a.xbc_stride + h * a.head_dim;
  const float skip = a.d[h];
  for (std::int64_t t = 0; t < n; ++t) {
    vf through = vf{};
    const float delta = m.decay.delta[t];
    Act* dx = a.dx + (row + t) * a.d_xbc_stride + h * a.head_dim;
    over(a.head_dim, [&](std::int64_t p, auto mask) {
      const vf dyp = mask.get(dy.a + t * dy.row + p);
      through += dyp * mask.get(x + t * a.xbc_stride + p);
      mask.put(dx + p, mask.get(m.dx + t * m.row_p + p) * delta + dyp * skip);
    });
    sums.d += static_cast<double>(sum(through));
  }
}

/// What the state before the chunk gives to dC, and the adjoint behind it, if there is one, to d(DX), dB and d_cum; then the adjoint moves
/// before it. Gives <(f B)^T DX, adjoint>.
template <class Act>
double state_gradients(const ssd_backward_args<Act>& a, std::int64_t n, const float* before, bool behind, const rows_view& b,
                       const rows_view& c, const rows_view& dy, const ssd_backward_memory& m, float* adjoint) {
  double added = 0;
  const std::int64_t kept = a.state * m.row_p;
  copy_rows(dy.a, dy.row, n, a.head_dim, m.decay.from_start, m.scaled, m.row_p);
  copy_rows(before, a.state, a.head_dim, a.state, nullptr, m.s_t, m.row_n);
  product(n, m.row_n, a.head_dim, {m.scaled, m.row_p, 1}, {m.s_t, m.row_n, panel}, {m.u, m.row_n, panel}, into::overwrite);
  add_state_part(m, c, n, a.state, 1.0F, m.dc);
  if (behind) {
    transpose(adjoint, m.row_p, a.state, m.row_p, m.p_t, m.row_n);
    copy_rows(m.x, m.row_p, n, a.head_dim, m.decay.to_end, m.scaled, m.row_p);
    product(n, m.row_n, a.head_dim, {m.scaled, m.row_p, 1}, {m.p_t, m.row_n, panel}, {m.u, m.row_n, panel}, into::overwrite);
    added = add_state_part(m, b, n, a.state, -1.0F, m.db);
    copy_rows(b.a, b.row, n, a.state, m.decay.to_end, m.scaled, m.row_n);
    product(n, m.row_p, a.state, {m.scaled, m.row_n, 1}, {adjoint, m.row_p, panel}, {m.dx, m.row_p, panel}, into::add);
    scale_all(adjoint, kept, m.decay.from_start[n - 1]);
  }
  copy_rows(c.a, c.row, n, a.state, m.decay.from_start, m.scaled, m.row_n);
  product(a.state, m.row_p, n, {m.scaled, 1, m.row_n}, dy.as_right(), {adjoint, m.row_p, panel}, into::add);
  return added;
}

/// <adjoint, S> with S [head_dim, state] as kept by the forward pass.
ISTHMUS_INLINE double adjoint_along(const ssd_backward_memory& m, const float* adjoint, const float* s, std::int64_t p, std::int64_t n) {
  double all = 0;
  transpose(adjoint, m.row_p, n, m.row_p, m.p_t, m.row_n);
  for (std::int64_t i = 0; i < p; ++i) {
    vf dot = vf{};
    over(n, [&](std::int64_t j, auto mask) { dot += mask.get(m.p_t + i * m.row_n + j) * mask.get(s + i * n + j); });
    all += static_cast<double>(sum(dot));
  }
  return all;
}

template <class Act>
void ssd_chunk_head_backward(const ssd_backward_args<Act>& a, std::int64_t batch, std::int64_t chunk, std::int64_t h,
                             const ssd_backward_memory& m, const rows_view& b, const rows_view& c, float* adjoint, head_gradients& sums) {
  const std::int64_t begin = chunk * a.chunk, n = a.length - begin < a.chunk ? a.length - begin : a.chunk, inner = a.heads * a.head_dim;
  const std::int64_t row = batch * a.length + begin, chunks = (a.length + a.chunk - 1) / a.chunk, size = a.head_dim * a.state;
  const float* before = a.states + ((batch * chunks + chunk) * a.heads + h) * size;
  const float* behind = chunk + 1 < chunks ? before + a.heads * size : nullptr;
  decays_of(a, row, n, h, m.decay);
  const rows_view dy = view_rows(a.dy + row * inner + h * a.head_dim, inner, n, a.head_dim, m.dy);
  copy_rows(a.x + row * a.xbc_stride + h * a.head_dim, a.xbc_stride, n, a.head_dim, m.decay.delta, m.x, m.row_p);
  apply_decay(m.scores, m.decay.log_decay, n, m.row_q, m.decayed);
  transposed_panels(m.x, m.row_p, n, a.head_dim, m.x_t);
  for (std::int64_t t = 0; t < n; t += 16) {
    const std::int64_t rows = n - t < 16 ? n - t : 16;
    product(rows, round_up(t + rows, panel), a.head_dim, dy.from(t).as_left(), {m.x_t, panel, a.head_dim * panel},
            {m.dm + t * m.row_q, m.row_q, panel}, into::overwrite);
    // Column t ... of (G o L)^T dY: only rows from t on see it.
    product(rows, m.row_p, n - t, {m.decayed + t * m.row_q + t, 1, m.row_q}, dy.from(t).as_right(),
            {m.dx + t * m.row_p, m.row_p, panel}, into::overwrite);
  }
  apply_decay(m.dm, m.decay.log_decay, n, m.row_q, m.decayed);
  score_gradient_sums(m, n);
  // The final state is not kept: S' = e_last S + (f B)^T DX.
  const bool final = !behind && a.d_final;
  double last = behind ? adjoint_along(m, adjoint, behind, a.head_dim, a.state) : 0.0;
  if (final) last = static_cast<double>(m.decay.from_start[n - 1]) * adjoint_along(m, adjoint, before, a.head_dim, a.state);
  const double added = state_gradients(a, n, before, behind || final, b, c, dy, m, adjoint);
  if (final) last += added;
  input_gradients(a, row, n, h, dy, m, sums);
  m.d_cum[n - 1] += last;
  decay_gradients(a, row, n, h, m, sums);
}

/// One sequence, `heads` heads from `head` on. d_bc: [length][2][padded state], this tile's share of db and dc; sums: [heads].
template <class Act>
void ssd_backward_tile(const ssd_backward_args<Act>& a, std::int64_t batch, std::int64_t head, std::int64_t heads,
                       const ssd_backward_memory& m, float* d_bc, head_gradients* sums) {
  const std::int64_t kept = a.state * m.row_p, g = head * a.groups / a.heads * a.state, size = a.head_dim * a.state;
  const std::int64_t carried = (batch * a.heads + head) * size;
  for (std::int64_t i = 0; i < heads; ++i)
    state_from(a.d_final ? a.d_final + carried + i * size : nullptr, a.head_dim, a.state, m.row_p, m.adjoints + i * kept);
  for (std::int64_t i = 0; i < heads; ++i) sums[i] = {};
  for (std::int64_t k = (a.length + a.chunk - 1) / a.chunk - 1; k >= 0; --k) {
    const std::int64_t begin = k * a.chunk, n = a.length - begin < a.chunk ? a.length - begin : a.chunk, row = batch * a.length + begin;
    const rows_view c = view_rows(a.c + row * a.xbc_stride + g, a.xbc_stride, n, a.state, m.c);
    const rows_view b = view_rows(a.b + row * a.xbc_stride + g, a.xbc_stride, n, a.state, m.b);
    product(n, m.row_q, a.state, c.as_left(), transposed_panels(b.a, b.row, n, a.state, m.b_t), {m.scores, m.row_q, panel}, into::overwrite);
    __builtin_memset(m.d_scores, 0, static_cast<std::size_t>(n * m.row_q) * sizeof(float));
    __builtin_memset(m.db, 0, static_cast<std::size_t>(n * m.row_n) * sizeof(float));
    __builtin_memset(m.dc, 0, static_cast<std::size_t>(n * m.row_n) * sizeof(float));
    for (std::int64_t i = 0; i < heads; ++i) ssd_chunk_head_backward(a, batch, k, head + i, m, b, c, m.adjoints + i * kept, sums[i]);
    product(n, m.row_n, n, {m.d_scores, m.row_q, 1}, b.as_right(), {m.dc, m.row_n, panel}, into::add);
    product(n, m.row_n, n, {m.d_scores, 1, m.row_q}, c.as_right(), {m.db, m.row_n, panel}, into::add);
    for (std::int64_t t = 0; t < n; ++t) {
      __builtin_memcpy(d_bc + (begin + t) * 2 * m.row_n, m.db + t * m.row_n, static_cast<std::size_t>(m.row_n) * sizeof(float));
      __builtin_memcpy(d_bc + (begin + t) * 2 * m.row_n + m.row_n, m.dc + t * m.row_n, static_cast<std::size_t>(m.row_n) * sizeof(float));
    }
  }
  for (std::int64_t i = 0; a.d_initial && i < heads; ++i)
    state_to(m.adjoints + i * kept, a.head_dim, a.state, m.row_p, a.d_initial + carried + i * size);
}

/// db, dc: the tiles' shares [batch][tiles of a sequence][length][2][row_n], added in order.
template <class Act>
void join_shares(stream& s, const ssd_backward_args<Act>& a, const float* shares, std::int64_t parts, std::int64_t row_n) {
  const std::int64_t per_group = parts / a.groups;
  over_row_blocks(s, a.batch * a.length, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t i = first * a.groups; i < (first + rows) * a.groups; ++i) {
      const std::int64_t r = i / a.groups, g = i % a.groups, batch = r / a.length, t = r % a.length;
      for (std::int64_t side = 0; side < 2; ++side) {
        Act* to = (side == 0 ? a.db : a.dc) + r * a.d_xbc_stride + g * a.state;
        over(a.state, [&](std::int64_t c, auto mask) {
          vf all = vf{};
          for (std::int64_t k = g * per_group; k < (g + 1) * per_group; ++k)
            all += mask.get(shares + (((batch * parts + k) * a.length + t) * 2 + side) * row_n + c);
          mask.put(to + c, all);
        });
      }
    }
  });
}

ISTHMUS_INLINE ssd_backward_memory take_backward(carver& memory, std::int64_t row_n, std::int64_t row_p, std::int64_t row_q,
                                                 std::int64_t heads) {
  ssd_backward_memory m{};
  m.row_n = row_n, m.row_p = row_p, m.row_q = row_q;
  for (float** each : {&m.b_t, &m.b, &m.c, &m.db, &m.dc, &m.u}) *each = memory.take(row_q * row_n);
  for (float** each : {&m.x, &m.x_t, &m.dy, &m.dx}) *each = memory.take(row_q * row_p);
  for (float** each : {&m.scores, &m.decayed, &m.dm, &m.d_scores}) *each = memory.take(row_q * row_q);
  m.scaled = memory.take(row_q * (row_n > row_p ? row_n : row_p));
  m.s_t = memory.take(row_p * row_n);
  m.p_t = memory.take(row_p * row_n);
  m.adjoints = memory.take(heads * row_n * row_p);
  m.d_cum = reinterpret_cast<double*>(memory.take(2 * row_q));
  m.columns = memory.take(row_q);
  m.decay = take_decay(memory, row_q);
  return m;
}

template <class Act>
void ssd_backward(stream& s, const ssd_backward_args<Act>& a) {
  const std::int64_t row_n = round_up(a.state, panel), row_p = round_up(a.head_dim, panel), row_q = round_up(a.chunk, panel);
  const std::int64_t heads = heads_a_tile(a.heads, a.groups), parts = a.heads / heads, share = a.length * 2 * row_n;
  const std::int64_t widest = row_n > row_p ? row_n : row_p;
  const std::int64_t floats = row_q * (6 * row_n + 4 * row_p + 4 * row_q + widest + 8) + (heads + 2) * row_n * row_p;
  float* shares = shared_floats(s, a.batch * parts * share + 8 * a.batch * a.heads);
  auto* sums = reinterpret_cast<head_gradients*>(shares + a.batch * parts * share);
  s.workers.run(a.batch * parts, [&](std::int64_t tile, int worker) {
    carver memory(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
    const ssd_backward_memory m = take_backward(memory, row_n, row_p, row_q, heads);
    ssd_backward_tile(a, tile / parts, tile % parts * heads, heads, m, shares + tile * share, sums + tile * heads);
  });
  for (std::int64_t i = 0; i < a.batch * a.heads; ++i) {
    a.d_dt_bias[i % a.heads] += static_cast<float>(sums[i].dt_bias);
    a.d_a_log[i % a.heads] += static_cast<float>(sums[i].a_log);
    a.d_d[i % a.heads] += static_cast<float>(sums[i].d);
  }
  join_shares(s, a, shares, parts, row_n);
}
