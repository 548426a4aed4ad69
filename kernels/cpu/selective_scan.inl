// Mamba-1's selective scan, `width` channels side by side in vectors, the states of scan_group of them at a time in registers.
// exp(D A) = 2^(D rate) with rate = A log2(e): one multiplication, five for the power and three for h and y, a state and row.

constexpr int scan_group = 8;  // states that are moved on together
constexpr float log_of_2 = 0.693147181F;

/// body(mask) for the channels of a block: all `width` of them or the rest.
template <class Body>
ISTHMUS_INLINE void over_lanes(std::int64_t channels, Body&& body) {
  if (channels >= width)
    body(full{});
  else
    body(part{channels});
}

/// dst [state padded][width] = src [channels][state] of a block; zeros where there is none. src may be null.
ISTHMUS_INLINE void turn_states_in(const float* src, std::int64_t channels, std::int64_t state, std::int64_t padded, float* dst) {
  __builtin_memset(dst, 0, static_cast<std::size_t>(padded * width) * sizeof(float));
  if (src) transpose(src, state, channels < width ? channels : width, state, dst, width);
}
ISTHMUS_INLINE void turn_states_out(const float* src, std::int64_t channels, std::int64_t state, float* dst) {
  transpose(src, width, state, channels < width ? channels : width, dst, state);
}

/// rates [blocks][state padded][width] of all channels.
inline void scan_rates(stream& s, const float* a_log, std::int64_t channels, std::int64_t state, std::int64_t padded, float* rates) {
  s.workers.run((channels + width - 1) / width, [&](std::int64_t first_block, int) {
    float* rate = rates + first_block * padded * width;
    turn_states_in(a_log + first_block * width * state, channels - first_block * width, state, padded, rate);
    for (std::int64_t i = 0; i < padded * width; i += width) store(rate + i, i < state * width ? exp(load(rate + i)) * -log2_of_e : vf{});
  });
}

/// softplus(x), and in `slope` its derivative.
ISTHMUS_INLINE vf softplus(vf x, vf& slope) {
  const vf e = power_of_two(max(x, -x) * -log2_of_e), one = splat(1.0F);
  slope = (x > vf{} ? one : e) * reciprocal(one + e);
  return max(x, vf{}) + log_of_one_and(e);
}

/// sigmoid(z) of the gate; not below 2^-100.
ISTHMUS_INLINE vf gate_of(vf z) { return reciprocal(1.0F + power_of_two(min(z * -log2_of_e, splat(100.0F)))); }

/// Of a block of channels and a chunk of rows, [chunk][width]: D, D x, and y before its gate.
struct scan_rows {
  float *delta, *moved, *y;
};

/// Of `n` rows of a block: h [state padded][width] moves on, its part of y is added. b, c: [n][state padded].
inline void scan_states(const scan_rows& rows, std::int64_t n, std::int64_t padded, const float* rates, const float* b, const float* c,
                        float* h) {
  for (std::int64_t first = 0; first < padded; first += scan_group) {
    vf now[scan_group];
#pragma GCC unroll 16
    for (int k = 0; k < scan_group; ++k) now[k] = load(h + (first + k) * width);
    for (std::int64_t t = 0; t < n; ++t) {
      const vf delta = load(rows.delta + t * width), moved = load(rows.moved + t * width);
      vf y = load(rows.y + t * width);
#pragma GCC unroll 16
      for (int k = 0; k < scan_group; ++k) {
        const std::int64_t at = first + k;
        now[k] = power_of_two(delta * load(rates + at * width)) * now[k] + moved * b[t * padded + at];
        y += now[k] * c[t * padded + at];
      }
      store(rows.y + t * width, y);
    }
#pragma GCC unroll 16
    for (int k = 0; k < scan_group; ++k) store(h + (first + k) * width, now[k]);
  }
}

/// Memory of a forward tile; b, c: [chunk][state padded]; h: [blocks][state padded][width].
struct scan_memory {
  float *b, *c, *h;
  scan_rows rows;
  std::int64_t padded;
};

/// One chunk of `n` rows of one block: channels from e on.
template <class Act, class Mask>
ISTHMUS_INLINE void scan_chunk(const selective_scan_args<Act>& a, std::int64_t row, std::int64_t n, std::int64_t e, Mask mask,
                               const float* rates, const scan_memory& m, float* h) {
  const vf bias = mask.get(a.dt_bias + e), skip = mask.get(a.d + e);
  for (std::int64_t t = 0; t < n; ++t) {
    const vf x = mask.get(a.x + (row + t) * a.x_stride + e);
    vf slope;
    const vf delta = softplus(mask.get(a.dt + (row + t) * a.dt_stride + e) + bias, slope);
    store(m.rows.delta + t * width, delta);
    store(m.rows.moved + t * width, delta * x);
    store(m.rows.y + t * width, skip * x);
  }
  scan_states(m.rows, n, m.padded, rates, m.b, m.c, h);
  for (std::int64_t t = 0; t < n; ++t) {
    vf y = load(m.rows.y + t * width);
    if (a.z) {
      const vf z = mask.get(a.z + (row + t) * a.z_stride + e);
      y *= z * gate_of(z);
    }
    mask.put(a.y + (row + t) * a.channels + e, y);
  }
}

/// One sequence, `blocks` blocks of channels from `first_block` on.
template <class Act>
void scan_tile(const selective_scan_args<Act>& a, std::int64_t batch, std::int64_t first_block, std::int64_t blocks, const float* rates,
               const scan_memory& m) {
  const std::int64_t kept = m.padded * width, chunks = (a.length + a.chunk - 1) / a.chunk, first = first_block * width;
  const auto carried = [&](auto* states, std::int64_t i) { return states + (batch * a.channels + first + i * width) * a.state; };
  for (std::int64_t i = 0; i < blocks; ++i)
    turn_states_in(a.initial ? carried(a.initial, i) : nullptr, a.channels - first - i * width, a.state, m.padded, m.h + i * kept);
  for (std::int64_t k = 0; k < chunks; ++k) {
    const std::int64_t begin = k * a.chunk, n = a.length - begin < a.chunk ? a.length - begin : a.chunk, row = batch * a.length + begin;
    copy_rows(a.b + row * a.bc_stride, a.bc_stride, n, a.state, nullptr, m.b, m.padded);
    copy_rows(a.c + row * a.bc_stride, a.bc_stride, n, a.state, nullptr, m.c, m.padded);
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t e = first + i * width;
      float* h = m.h + i * kept;
      if (a.states) turn_states_out(h, a.channels - e, a.state, a.states + ((batch * chunks + k) * a.channels + e) * a.state);
      over_lanes(a.channels - e, [&](auto mask) { scan_chunk(a, row, n, e, mask, rates + (first_block + i) * kept, m, h); });
    }
  }
  for (std::int64_t i = 0; a.final && i < blocks; ++i)
    turn_states_out(m.h + i * kept, a.channels - first - i * width, a.state, carried(a.final, i));
}

template <class Act>
void selective_scan(stream& s, const selective_scan_args<Act>& a) {
  constexpr std::int64_t most = 4;  // blocks a tile
  const std::int64_t padded = round_up(a.state, scan_group), blocks = (a.channels + width - 1) / width, tiles = (blocks + most - 1) / most;
  const std::int64_t chunk = a.chunk < a.length ? a.chunk : a.length, kept = padded * width;
  float* rates = shared_floats(s, blocks * kept);
  scan_rates(s, a.a_log, a.channels, a.state, padded, rates);
  s.workers.run(a.batch * tiles, [&](std::int64_t tile, int worker) {
    const std::int64_t floats = 2 * round_up(chunk * padded, 16) + most * kept + 3 * round_up(chunk * width, 16) + 16;
    carver memory(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
    scan_memory m{};
    m.padded = padded;
    for (float** each : {&m.b, &m.c}) *each = memory.take(chunk * padded);
    m.h = memory.take(most * kept);
    for (float** each : {&m.rows.delta, &m.rows.moved, &m.rows.y}) *each = memory.take(chunk * width);
    const std::int64_t first_block = tile % tiles * most;
    scan_tile(a, tile / tiles, first_block, blocks - first_block < most ? blocks - first_block : most, rates, m);
  });
}

/// One token, the states of a channel side by side.
template <class Act>
void selective_scan_step(stream& s, const selective_scan_step_args<Act>& a) {
  constexpr std::int64_t channels = 64;
  s.workers.run((a.channels + channels - 1) / channels, [&](std::int64_t tile, int) {
    for (std::int64_t e = tile * channels; e < a.channels && e < (tile + 1) * channels; ++e) {
      vf slope, y = vf{};
      const float x = static_cast<float>(a.x[e]), delta = softplus(splat(static_cast<float>(a.dt[e]) + a.dt_bias[e]), slope)[0];
      over(a.state, [&](std::int64_t n, auto mask) {
        const vf decay = power_of_two(exp(mask.get(a.a_log + e * a.state + n)) * (-log2_of_e * delta));
        const vf next = decay * mask.get(a.h + e * a.state + n) + mask.get(a.b + n) * (delta * x);
        mask.put(a.h + e * a.state + n, next);
        y += next * mask.get(a.c + n);
      });
      vf out = splat(sum(y) + a.d[e] * x);
      if (a.z) {
        const vf z = splat(static_cast<float>(a.z[e]));
        out *= z * gate_of(z);
      }
      a.y[e] = static_cast<Act>(out[0]);
    }
  });
}
