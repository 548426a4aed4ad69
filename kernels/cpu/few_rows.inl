// Products of few rows, fp32 or bf16: what decoding does. They go at the speed of reading the weights once, from one end to the other: as
// they lie, row by row, or as the panels that a library has of them, which memory gives half as fast again.

constexpr std::int64_t few_rows = 4;
constexpr std::int64_t few_rows_tile_bytes = 64 << 10;  // of weights, at least

/// Floats of a row of x as it is multiplied with weights of type Weight: fp32 as they are; beside bf16 those of even index, then those
/// of odd index, `width` of each in turn, zeros behind the last.
template <class Weight>
std::int64_t few_rows_floats(std::int64_t in) {
  return std::is_same_v<Weight, float> ? in : round_up(in, 2 * width);
}

template <class Act>
ISTHMUS_INLINE void even_then_odd(const Act* x, std::int64_t in, float* to) {
  std::int64_t i = 0;
  for (; i + 2 * width <= in; i += 2 * width)
    for (std::int64_t k = 0; k < width; ++k) {
      to[i + k] = static_cast<float>(x[i + 2 * k]);
      to[i + width + k] = static_cast<float>(x[i + 2 * k + 1]);
    }
  if (i == in) return;
  for (std::int64_t k = 0; k < 2 * width; ++k) to[i + k % 2 * width + k / 2] = i + k < in ? static_cast<float>(x[i + k]) : 0.0F;
}

constexpr std::int64_t bytes_ahead = 8192;  // of weights, fetched early: more than the CPU dares to foresee
constexpr int row_sums = 4;                 // sums of their own, so that none waits for the one before

template <class Weight>
ISTHMUS_INLINE void fetch_ahead(const Weight* w, std::int64_t count, bool past_caches) {
  const char* at = reinterpret_cast<const char*>(w) + bytes_ahead;
  for (std::int64_t line = 0; line < count * static_cast<std::int64_t>(sizeof(Weight)); line += 64)
    past_caches ? __builtin_prefetch(at + line, 0, 0) : __builtin_prefetch(at + line, 0, 2);
}

/// Adds a row of W times each row of x.
template <int Rows>
ISTHMUS_INLINE void add_products(const float* w, const float* x, std::int64_t x_row, std::int64_t in, bool past_caches,
                                 vf (&sums)[row_sums][Rows]) {
  std::int64_t i = 0;
  for (; i + row_sums * width <= in; i += row_sums * width) {
    fetch_ahead(w + i, row_sums * width, past_caches);
#pragma GCC unroll 4
    for (int p = 0; p < row_sums; ++p) {
      const vf weights = load(w + i + p * width);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) sums[p][r] += weights * load(x + r * x_row + i + p * width);
    }
  }
  over(in - i, [&](std::int64_t c, auto mask) {
    for (int r = 0; r < Rows; ++r) sums[0][r] += mask.get(w + i + c) * mask.get(x + r * x_row + i + c);
  });
}

/// The same for 2 * width weights in bf16, into sums[first] and sums[first + 1].
template <int Rows>
ISTHMUS_INLINE void add_pairs(const bf16* w, const float* x, std::int64_t x_row, int first, vf (&sums)[row_sums][Rows]) {
  const vu pairs = *reinterpret_cast<const vu*>(w);
  const vf even = reinterpret_cast<vf>(pairs << 16), odd = reinterpret_cast<vf>(pairs & 0xffff0000U);
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
    sums[first][r] += even * load(x + r * x_row);
    sums[first + 1][r] += odd * load(x + r * x_row + width);
  }
}
template <int Rows>
ISTHMUS_INLINE void add_products(const bf16* w, const float* x, std::int64_t x_row, std::int64_t in, bool past_caches,
                                 vf (&sums)[row_sums][Rows]) {
  std::int64_t i = 0;
  for (; i + 4 * width <= in; i += 4 * width) {
    fetch_ahead(w + i, 4 * width, past_caches);
    add_pairs<Rows>(w + i, x + i, x_row, 0, sums);
    add_pairs<Rows>(w + i + 2 * width, x + i + 2 * width, x_row, 2, sums);
  }
  for (; i < in; i += 2 * width) {
    bf16 whole[2 * width] = {};
    __builtin_memcpy(whole, w + i, static_cast<std::size_t>(in - i < 2 * width ? in - i : 2 * width) * sizeof(bf16));
    add_pairs<Rows>(whole, x + i, x_row, 0, sums);
  }
}

/// Outputs [first, last) of all rows.
template <int Rows, class Weight, class Act>
void few_rows_tile(const Weight* w, std::int64_t in, const float* x, std::int64_t x_row, std::int64_t first, std::int64_t last, Act* y,
                   std::int64_t y_stride) {
  const bool past_caches = this_cpu().stream_past_caches;
  for (std::int64_t o = first; o < last; ++o) {
    vf sums[row_sums][Rows] = {};
    add_products<Rows>(w + o * in, x, x_row, in, past_caches, sums);
    for (int r = 0; r < Rows; ++r) y[r * y_stride + o] = static_cast<Act>(sum((sums[0][r] + sums[1][r]) + (sums[2][r] + sums[3][r])));
  }
}

template <class Weight, class Act, int... Rows>
constexpr auto few_rows_tiles(std::integer_sequence<int, Rows...>) {
  using function = void (*)(const Weight*, std::int64_t, const float*, std::int64_t, std::int64_t, std::int64_t, Act*, std::int64_t);
  return std::array<function, sizeof...(Rows)>{few_rows_tile<Rows + 1, Weight, Act>...};
}

/// y [rows, out] = x [rows, in] w^T, 1 <= rows <= few_rows, w [out, in].
template <class Weight, class Act>
void multiply_few_rows(stream& s, std::int64_t rows, std::int64_t out, std::int64_t in, const Weight* w, const Act* x,
                       std::int64_t x_stride, Act* y, std::int64_t y_stride) {
  const float* values = nullptr;
  std::int64_t row = x_stride;
  if constexpr (std::is_same_v<Weight, float> && std::is_same_v<Act, float>) {
    values = x;
  } else {
    static_assert(std::is_same_v<Weight, bf16>);
    row = few_rows_floats<Weight>(in);
    float* copy = shared_floats(s, rows * row);
    for (std::int64_t r = 0; r < rows; ++r) even_then_odd(x + r * x_stride, in, copy + r * row);
    values = copy;
  }
  static constexpr auto tiles_by_rows = few_rows_tiles<Weight, Act>(std::make_integer_sequence<int, few_rows>());
  const std::int64_t wanted = few_rows_tile_bytes / (in * static_cast<std::int64_t>(sizeof(Weight))),
                     outs = wanted < 4 ? 4 : wanted / 4 * 4;
  s.workers.run((out + outs - 1) / outs, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * outs, last = out - first < outs ? out : first + outs;
    tiles_by_rows[static_cast<std::size_t>(rows - 1)](w, in, values, row, first, last, y, y_stride);
  });
}

#if ISTHMUS_WIDTH == 16
/// y = x W^T by the library's panels of W: for fewer rows than the library is fast at.
inline void multiply_by_panels(stream& s, const linear_args<float>& a, const float* panels) {
  static_assert(library_panel == panel_outputs);
  const std::int64_t bytes = round_up(a.w->in, library_depth_unit) * panel_step_bytes;
  multiply_panels<fp32_step>(s.workers, {reinterpret_cast<const std::byte*>(panels), bytes, a.w->in, a.w->out, this_cpu().fp32_piece_steps},
                             a.rows, a.x, a.x_stride, a.y, a.y_stride);
}
#endif
