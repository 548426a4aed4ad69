// The backward pass of selective_scan, chunks last to first. A chunk's states are computed again from the one kept before it; then, with
// G_t the adjoint of h_t, rows are walked back:
//   G_t = exp(D_{t+1} A) G_{t+1} + C_t dy_t;  dC_t = sum_e dy_t h_t;  dB_t = sum_e G_t D_t x_t;  d(D_t A) = G_t exp(D_t A) h_{t-1}.
// Sums over channels stay apart by lane until all blocks of a tile have added theirs; tiles are added in ascending order.

constexpr std::int64_t scan_backward_blocks = 8;  // of channels, a tile

/// What the rows of a chunk of one block need, [chunk][width] each; gate: sigmoid(z); d_exponents: sum_n d(D A) rate; along_b: sum_n G B.
struct scan_backward_rows {
  scan_rows forward;
  float *x, *slope, *dy, *gate, *along_b, *d_exponents;
};

/// Memory of a backward tile. b, c: [chunk][state padded]; before: h before each row and after the last, [chunk + 1][scan_group][width];
/// decays: [chunk][scan_group][width]; db, dc: [chunk][state padded][width]; kept: h before the chunk, [state padded][width]; adjoint:
/// [blocks][state padded][width]; parameters: the tile's share of their gradients, [blocks][state padded + 2][width], of rates, dt_bias, d.
struct scan_backward_memory {
  float *b, *c, *before, *decays, *db, *dc, *kept, *adjoint, *parameters;
  scan_backward_rows rows;
  std::int64_t padded;
};

/// scan_group states again, as in scan_states, from m.kept on; their dC is added while they are in registers.
inline void scan_again(const scan_backward_memory& m, std::int64_t n, std::int64_t first, const float* rates) {
  constexpr std::int64_t group = scan_group * width;
  const float *delta_row = m.rows.forward.delta, *moved_row = m.rows.forward.moved, *b = m.b + first, *c = m.c + first;
  const float* dy_row = m.rows.dy;
  float *y_row = m.rows.forward.y, *h = m.before, *decays = m.decays, *dc = m.dc + first * width;
  const std::int64_t padded = m.padded;
  vf now[scan_group], rate[scan_group];
#pragma GCC unroll 16
  for (int k = 0; k < scan_group; ++k) {
    now[k] = load(m.kept + (first + k) * width);
    store(h + k * width, now[k]);
    rate[k] = load(rates + (first + k) * width);
  }
  for (std::int64_t t = 0; t < n; ++t) {
    const vf delta = load(delta_row), moved = load(moved_row), dy = load(dy_row);
    vf y = load(y_row);
    h += group;
#pragma GCC unroll 16
    for (int k = 0; k < scan_group; ++k) {
      const vf decay = power_of_two(delta * rate[k]);
      now[k] = decay * now[k] + moved * b[k];
      y += now[k] * c[k];
      store(decays + k * width, decay);
      store(h + k * width, now[k]);
      store(dc + k * width, load(dc + k * width) + dy * now[k]);
    }
    store(y_row, y);
    dy_row += width, dc += padded * width;
    delta_row += width, moved_row += width, y_row += width, decays += group, b += padded, c += padded;
  }
}

/// The walk back over what scan_again left; adds dB. adjoint, d_rates: [scan_group][width].
inline void scan_walk_back(const scan_backward_memory& m, std::int64_t n, std::int64_t first, const float* rates, float* adjoint,
                           float* d_rates) {
  constexpr std::int64_t group = scan_group * width;
  const float *delta_row = m.rows.forward.delta, *moved_row = m.rows.forward.moved, *dy_row = m.rows.dy;
  float *along_row = m.rows.along_b, *exponent_row = m.rows.d_exponents;
  const float *b = m.b + first, *c = m.c + first, *decays = m.decays, *before = m.before;
  float* db = m.db + first * width;
  const std::int64_t padded = m.padded;
  vf g[scan_group], d_rate[scan_group], rate[scan_group];
#pragma GCC unroll 16
  for (int k = 0; k < scan_group; ++k) {
    rate[k] = load(rates + (first + k) * width);
    g[k] = load(adjoint + k * width);
    d_rate[k] = load(d_rates + k * width);
  }
  for (std::int64_t t = n - 1; t >= 0; --t) {
    const vf delta = load(delta_row + t * width), moved = load(moved_row + t * width), dy = load(dy_row + t * width);
    vf along_b = load(along_row + t * width), d_exponents = load(exponent_row + t * width);
    const float *b_t = b + t * padded, *c_t = c + t * padded, *h = before + t * group, *decay = decays + t * group;
    float* db_t = db + t * padded * width;
#pragma GCC unroll 16
    for (int k = 0; k < scan_group; ++k) {
      g[k] += dy * c_t[k];
      store(db_t + k * width, load(db_t + k * width) + g[k] * moved);
      along_b += g[k] * b_t[k];
      g[k] *= load(decay + k * width);
      const vf d_exponent = g[k] * load(h + k * width);
      d_exponents += d_exponent * rate[k];
      d_rate[k] += d_exponent * delta;
    }
    store(along_row + t * width, along_b);
    store(exponent_row + t * width, d_exponents);
  }
#pragma GCC unroll 16
  for (int k = 0; k < scan_group; ++k) {
    store(adjoint + k * width, g[k]);
    store(d_rates + k * width, d_rate[k]);
  }
}

/// Fills the rows of `n` rows of the block whose channels begin at e.
template <class Act, class Mask>
ISTHMUS_INLINE void scan_rows_in(const selective_scan_backward_args<Act>& a, std::int64_t row, std::int64_t n, std::int64_t e, Mask mask,
                                 const scan_backward_rows& rows) {
  const vf bias = mask.get(a.dt_bias + e), skip = mask.get(a.d + e);
  for (std::int64_t t = 0; t < n; ++t) {
    const vf x = mask.get(a.x + (row + t) * a.x_stride + e);
    vf slope, dy = mask.get(a.dy + (row + t) * a.channels + e);
    const vf delta = softplus(mask.get(a.dt + (row + t) * a.dt_stride + e) + bias, slope);
    if (a.z) {
      const vf z = mask.get(a.z + (row + t) * a.z_stride + e);
      const vf gate = gate_of(z);
      store(rows.gate + t * width, gate);
      dy *= z * gate;
    }
    store(rows.forward.delta + t * width, delta);
    store(rows.forward.moved + t * width, delta * x);
    store(rows.forward.y + t * width, skip * x);
    store(rows.x + t * width, x);
    store(rows.slope + t * width, slope);
    store(rows.dy + t * width, dy);
    store(rows.along_b + t * width, vf{});
    store(rows.d_exponents + t * width, vf{});
  }
}

/// Writes dx, d_dt and dz of those rows; adds to d_bias and d_skip [width].
template <class Act, class Mask>
ISTHMUS_INLINE void scan_rows_out(const selective_scan_backward_args<Act>& a, std::int64_t row, std::int64_t n, std::int64_t e, Mask mask,
                                  const scan_backward_rows& rows, float* d_bias, float* d_skip) {
  const vf skip = mask.get(a.d + e);
  vf bias_sum = load(d_bias), skip_sum = load(d_skip);
  for (std::int64_t t = 0; t < n; ++t) {
    const vf x = load(rows.x + t * width), dy = load(rows.dy + t * width), along_b = load(rows.along_b + t * width);
    const vf d_raw = (load(rows.d_exponents + t * width) * log_of_2 + along_b * x) * load(rows.slope + t * width);
    mask.put(a.dx + (row + t) * a.dx_stride + e, load(rows.forward.delta + t * width) * along_b + skip * dy);
    mask.put(a.d_dt + (row + t) * a.d_dt_stride + e, d_raw);
    bias_sum += d_raw;
    skip_sum += dy * x;
    if (!a.z) continue;
    const vf z = mask.get(a.z + (row + t) * a.z_stride + e), d_out = mask.get(a.dy + (row + t) * a.channels + e);
    mask.put(a.dz + (row + t) * a.dz_stride + e, d_out * load(rows.forward.y + t * width) * silu_slope(z, load(rows.gate + t * width)));
  }
  store(d_bias, bias_sum);
  store(d_skip, skip_sum);
}

/// to[i] = the sum of vector i of `from` [count][width], in an order that depends on nothing.
inline void sum_lanes(const float* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
#if ISTHMUS_WIDTH == 16
  alignas(64) float turned[256];
  for (; i + 16 <= count; i += 16) {
    transpose_square(from + i * 16, 16, turned, 16);
    vf all = load(turned);
    for (int lane = 1; lane < 16; ++lane) all += load(turned + lane * 16);
    store(to + i, all);
  }
#endif
  for (; i < count; ++i) to[i] = sum(load(from + i * width));
}

/// One chunk of one block. adjoint: [state padded][width]; gradients: its share of m.parameters.
template <class Act, class Mask>
ISTHMUS_INLINE void scan_chunk_backward(const selective_scan_backward_args<Act>& a, std::int64_t batch, std::int64_t chunk, std::int64_t e,
                                        Mask mask, const float* rates, const scan_backward_memory& m, float* adjoint, float* gradients) {
  const std::int64_t begin = chunk * a.chunk, n = a.length - begin < a.chunk ? a.length - begin : a.chunk, row = batch * a.length + begin;
  const std::int64_t chunks = (a.length + a.chunk - 1) / a.chunk;
  scan_rows_in(a, row, n, e, mask, m.rows);
  turn_states_in(a.states + ((batch * chunks + chunk) * a.channels + e) * a.state, a.channels - e, a.state, m.padded, m.kept);
  for (std::int64_t first = 0; first < m.padded; first += scan_group) {
    scan_again(m, n, first, rates);
    scan_walk_back(m, n, first, rates, adjoint + first * width, gradients + first * width);
  }
  scan_rows_out(a, row, n, e, mask, m.rows, gradients + m.padded * width, gradients + (m.padded + 1) * width);
}

/// One sequence, `blocks` blocks of channels from `first_block` on. d_bc: [2][length][state padded], this tile's share of db and dc.
template <class Act>
void scan_backward_tile(const selective_scan_backward_args<Act>& a, std::int64_t batch, std::int64_t first_block, std::int64_t blocks,
                        const float* rates, const scan_backward_memory& m, float* d_bc) {
  const std::int64_t kept = m.padded * width, first = first_block * width;
  const auto carried = [&](auto* states, std::int64_t i) { return states + (batch * a.channels + first + i * width) * a.state; };
  for (std::int64_t i = 0; i < blocks; ++i)
    turn_states_in(a.d_final ? carried(a.d_final, i) : nullptr, a.channels - first - i * width, a.state, m.padded, m.adjoint + i * kept);
  for (std::int64_t k = (a.length + a.chunk - 1) / a.chunk - 1; k >= 0; --k) {
    const std::int64_t begin = k * a.chunk, n = a.length - begin < a.chunk ? a.length - begin : a.chunk, row = batch * a.length + begin;
    copy_rows(a.b + row * a.bc_stride, a.bc_stride, n, a.state, nullptr, m.b, m.padded);
    copy_rows(a.c + row * a.bc_stride, a.bc_stride, n, a.state, nullptr, m.c, m.padded);
    for (float* sums : {m.db, m.dc}) __builtin_memset(sums, 0, static_cast<std::size_t>(n * kept) * sizeof(float));
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t e = first + i * width;
      over_lanes(a.channels - e, [&](auto mask) {
        scan_chunk_backward(a, batch, k, e, mask, rates + (first_block + i) * kept, m, m.adjoint + i * kept,
                            m.parameters + i * (kept + 2 * width));
      });
    }
    sum_lanes(m.db, n * m.padded, d_bc + begin * m.padded);
    sum_lanes(m.dc, n * m.padded, d_bc + (a.length + begin) * m.padded);
  }
  for (std::int64_t i = 0; a.d_initial && i < blocks; ++i)
    turn_states_out(m.adjoint + i * kept, a.channels - first - i * width, a.state, carried(a.d_initial, i));
}

/// db, dc: the tiles' shares [batch][tiles of a sequence][2][length][padded], added in order.
template <class Act>
void join_scan_shares(stream& s, const selective_scan_backward_args<Act>& a, const float* shares, std::int64_t tiles, std::int64_t padded) {
  over_row_blocks(s, a.batch * a.length, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const float* from = shares + (r / a.length * tiles * 2 * a.length + r % a.length) * padded;
      for (std::int64_t side = 0; side < 2; ++side) {
        Act* to = (side == 0 ? a.db : a.dc) + r * a.d_bc_stride;
        over(a.state, [&](std::int64_t n, auto mask) {
          vf all = vf{};
          for (std::int64_t k = 0; k < tiles; ++k) all += mask.get(from + (2 * k + side) * a.length * padded + n);
          mask.put(to + n, all);
        });
      }
    }
  });
}

/// The sequences' shares of the parameters' gradients, [batch][blocks][padded + 2][width], added in order to those of one block.
template <class Act>
void join_scan_parameters(const selective_scan_backward_args<Act>& a, const float* shares, std::int64_t blocks, std::int64_t padded,
                          const float* rates, std::int64_t first_block) {
  const std::int64_t share = (padded + 2) * width, e = first_block * width, lanes = a.channels - e < width ? a.channels - e : width;
  for (std::int64_t batch = 0; batch < a.batch; ++batch) {
    const float* from = shares + (batch * blocks + first_block) * share;
    for (std::int64_t i = 0; i < lanes; ++i) {
      for (std::int64_t n = 0; n < a.state; ++n)  // d(rate) rate = d(a_log)
        a.d_a_log[(e + i) * a.state + n] += from[n * width + i] * rates[(first_block * padded + n) * width + i] * log_of_2;
      a.d_dt_bias[e + i] += from[padded * width + i];
      a.d_d[e + i] += from[(padded + 1) * width + i];
    }
  }
}

/// Cuts the worker's memory; counts with null.
inline std::int64_t take_scan_backward(std::byte* from, std::int64_t chunk, std::int64_t padded, scan_backward_memory& m) {
  carver memory(from);
  m.padded = padded;
  // What a row of the walk reads and writes lies apart by more than multiples of 4 KiB: loads do not wait for stores that look alike.
  const auto apart = [&](std::int64_t floats, std::int64_t lines) {
    memory.take(16 * lines);
    return memory.take(floats);
  };
  for (float** each : {&m.b, &m.c}) *each = memory.take(chunk * padded);
  m.db = memory.take(chunk * padded * width);
  m.dc = apart(chunk * padded * width, 13);
  m.before = apart((chunk + 1) * scan_group * width, 29);
  m.decays = apart(chunk * scan_group * width, 39);
  scan_backward_rows& r = m.rows;
  for (float** each : {&r.forward.delta, &r.forward.moved, &r.forward.y, &r.x, &r.slope, &r.dy, &r.gate, &r.along_b, &r.d_exponents})
    *each = memory.take(chunk * width);
  m.kept = memory.take(padded * width);
  m.adjoint = memory.take(scan_backward_blocks * padded * width);
  return reinterpret_cast<std::byte*>(memory.take(0)) - from;
}

template <class Act>
void selective_scan_backward(stream& s, const selective_scan_backward_args<Act>& a) {
  const std::int64_t padded = round_up(a.state, scan_group), blocks = (a.channels + width - 1) / width;
  const std::int64_t tiles = (blocks + scan_backward_blocks - 1) / scan_backward_blocks, chunk = a.chunk < a.length ? a.chunk : a.length;
  const std::int64_t share = (padded + 2) * width, share_bc = 2 * a.length * padded;
  float* rates = shared_floats(s, blocks * padded * width + a.batch * (blocks * share + tiles * share_bc));
  float* parameters = rates + blocks * padded * width;
  float* bc = parameters + a.batch * blocks * share;
  scan_rates(s, a.a_log, a.channels, a.state, padded, rates);
  __builtin_memset(parameters, 0, static_cast<std::size_t>(a.batch * blocks * share) * sizeof(float));
  s.workers.run(a.batch * tiles, [&](std::int64_t tile, int worker) {
    scan_backward_memory m{};
    const std::int64_t bytes = take_scan_backward(nullptr, chunk, padded, m);
    take_scan_backward(s.workers.scratch(worker, static_cast<std::size_t>(bytes)), chunk, padded, m);
    const std::int64_t first_block = tile % tiles * scan_backward_blocks;
    m.parameters = parameters + (tile / tiles * blocks + first_block) * share;
    scan_backward_tile(a, tile / tiles, first_block,
                       blocks - first_block < scan_backward_blocks ? blocks - first_block : scan_backward_blocks, rates, m,
                       bc + tile * share_bc);
  });
  s.workers.run(blocks, [&](std::int64_t first_block, int) { join_scan_parameters(a, parameters, blocks, padded, rates, first_block); });
  join_scan_shares(s, a, bc, tiles, padded);
}
