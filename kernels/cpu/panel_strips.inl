// Products of few rows with weights in panels of 64 outputs: a worker holds a panel against all rows, which are shared out evenly over
// strips whose sums fit the registers. What a step of a panel is, a Step says: its inputs, of which type, and how it adds them to the sums.

constexpr std::int64_t panel_outputs = 64, panel_vectors = panel_outputs / width;
constexpr std::int64_t panel_step_bytes = 256;
constexpr std::int64_t panel_strip_rows = 6;                        // whose sums fit the registers beside a step of a panel
constexpr std::int64_t panel_rows_at_once = 10 * panel_strip_rows;  // whose sums wait in the first-level cache
constexpr std::int64_t panel_tile_bytes = 64 << 10;                 // of weights, at least, where there are tiles enough

/// Weights [out, in] as panels that lie one behind the other, `bytes` apart, each of so many steps, which must be read in pieces.
struct weight_panels {
  const std::byte* at;
  std::int64_t bytes, steps, out, piece_steps;
  std::int64_t count() const { return (out + panel_outputs - 1) / panel_outputs; }
};

/// Some rows, at most panel_strip_rows, and some steps of a panel.
template <class Input, class Act>
struct panel_strip {
  const std::byte* w;
  std::int64_t steps;
  const Input* x;
  std::int64_t x_stride;
  float* sums;  // [rows, panel_outputs]: what came before, where `onto`, and unless y is given what waits for the rest
  bool onto;
  Act* y;
  std::int64_t y_stride, columns;  // of its outputs so many are there
  weights_ahead ahead;
};

/// Weights of one input times its value in each row.
template <int Rows>
ISTHMUS_INLINE void add_to_panel(const vf (&weights)[panel_vectors], const float* x, std::int64_t x_stride,
                                 vf (&sums)[Rows][panel_vectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    vf value = splat(x[r * x_stride]);
    asm("" : "+v"(value));  // one load for all products with it
#pragma GCC unroll 4
    for (int j = 0; j < panel_vectors; ++j) sums[r][j] += weights[j] * value;
  }
}

/// fp32 weights: an input a step.
struct fp32_step {
  using input = float;
  static constexpr std::int64_t inputs = 1;
  template <int Rows>
  static ISTHMUS_INLINE void add(const std::byte* w, const float* x, std::int64_t x_stride, vf (&sums)[Rows][panel_vectors]) {
    vf weights[panel_vectors];
#pragma GCC unroll 4
    for (int j = 0; j < panel_vectors; ++j) weights[j] = load(reinterpret_cast<const float*>(w) + j * width);
    add_to_panel(weights, x, x_stride, sums);
  }
};

/// Pairs of bf16 weights, widened: two inputs a step, in fp32 as they are.
struct widened_step {
  using input = float;
  static constexpr std::int64_t inputs = 2;
  template <int Rows>
  static ISTHMUS_INLINE void add(const std::byte* w, const float* x, std::int64_t x_stride, vf (&sums)[Rows][panel_vectors]) {
    vf first[panel_vectors], second[panel_vectors];
    const auto* pairs = reinterpret_cast<const vu*>(w);
#pragma GCC unroll 4
    for (int j = 0; j < panel_vectors; ++j) first[j] = reinterpret_cast<vf>(pairs[j] << 16);
    add_to_panel(first, x, x_stride, sums);
#pragma GCC unroll 4
    for (int j = 0; j < panel_vectors; ++j) second[j] = reinterpret_cast<vf>(pairs[j] & 0xffff0000U);
    add_to_panel(second, x + 1, x_stride, sums);
  }
};

template <class Step, int Rows, class Act>
__attribute__((noinline)) void multiply_strip(const panel_strip<typename Step::input, Act>& of) {
  vf sums[Rows][panel_vectors] = {};
  if (of.onto)
    for (int r = 0; r < Rows; ++r)
      for (int j = 0; j < panel_vectors; ++j) sums[r][j] = load(of.sums + r * panel_outputs + j * width);
  const std::byte* w = of.w;
  const typename Step::input* x = of.x;
  const std::int64_t steps = of.steps, x_stride = of.x_stride;
  weights_ahead ahead = of.ahead;
  for (std::int64_t i = 0; i < steps; ++i, w += panel_step_bytes, x += Step::inputs) {
    ahead.fetch();
    if (ahead.near) fetch_near<panel_step_bytes>(w);
    Step::template add<Rows>(w, x, x_stride, sums);
  }
  for (int r = 0; r < Rows; ++r)
    for (int j = 0; j < panel_vectors; ++j) {
      const std::int64_t left = of.columns - j * width;
      if (!of.y)
        store(of.sums + r * panel_outputs + j * width, sums[r][j]);
      else if (left >= width)
        store(of.y + r * of.y_stride + j * width, sums[r][j]);
      else if (left > 0)
        store_part(of.y + r * of.y_stride + j * width, sums[r][j], left);
    }
}

template <class Step, class Act, int... Rows>
constexpr auto panel_strips_of(std::integer_sequence<int, Rows...>) {
  using function = void (*)(const panel_strip<typename Step::input, Act>&);
  return std::array<function, sizeof...(Rows)>{multiply_strip<Step, Rows + 1, Act>...};
}

/// One panel times all rows, at most panel_rows_at_once. end: of all panels.
template <class Step, class Act>
void multiply_panel(const std::byte* w, const weight_panels& of, const std::byte* end, const typename Step::input* x, std::int64_t x_stride,
                    std::int64_t rows, Act* y, std::int64_t y_stride, std::int64_t columns) {
  static constexpr auto strips = panel_strips_of<Step, Act>(std::make_integer_sequence<int, panel_strip_rows>());
  const std::int64_t count = (rows + panel_strip_rows - 1) / panel_strip_rows;
  if (count == 1)
    return strips[static_cast<std::size_t>(rows - 1)]({w, of.steps, x, x_stride, nullptr, false, y, y_stride, columns,
                                                       lone_ahead(w, of.steps * panel_step_bytes, end, of.steps)});
  alignas(64) float sums[panel_rows_at_once * panel_outputs];
  const std::int64_t piece_steps = of.steps < of.piece_steps ? of.steps : of.piece_steps, piece_bytes = piece_steps * panel_step_bytes;
  struct {
    std::int64_t row, rows;
    share_of_lines ahead;  // of a whole piece
  } cuts[panel_rows_at_once / panel_strip_rows];
  for (std::int64_t s = 0; s < count; ++s)
    cuts[s] = {rows * s / count, rows * (s + 1) / count - rows * s / count, share_of_strip(piece_bytes, s, count, piece_steps)};
  for (std::int64_t from = 0; from < of.steps; from += piece_steps) {
    const bool last = of.steps - from <= piece_steps;
    const std::int64_t here = last ? of.steps - from : piece_steps;
    const std::byte *piece = w + from * panel_step_bytes, *next = piece + here * panel_step_bytes;
    const std::int64_t left = end - next, bytes = left < 0 ? 0 : left < piece_bytes ? left : piece_bytes;
    const bool whole = here == piece_steps && bytes == piece_bytes;
    for (std::int64_t s = 0; s < count; ++s) {
      const std::int64_t row = cuts[s].row;
      const auto ahead = share_ahead(next, whole ? cuts[s].ahead : share_of_strip(bytes, s, count, here));
      strips[static_cast<std::size_t>(cuts[s].rows - 1)]({piece, here, x + row * x_stride + from * Step::inputs, x_stride,
                                                          sums + row * panel_outputs, from > 0, last ? y + row * y_stride : nullptr,
                                                          y_stride, columns, ahead});
    }
  }
}

/// y [rows, out] = x [rows, steps * inputs] W^T, rows x_stride and y_stride apart.
template <class Step, class Act>
void multiply_panels(team& workers, const weight_panels& w, std::int64_t rows, const typename Step::input* x, std::int64_t x_stride, Act* y,
                     std::int64_t y_stride) {
  const std::int64_t count = w.count(), wanted = panel_tile_bytes / w.bytes, group = wanted < 1 ? 1 : wanted;
  const std::int64_t passes = (rows + panel_rows_at_once - 1) / panel_rows_at_once;  // over a panel
  const std::byte* end = w.at + count * w.bytes;
  workers.run((count + group - 1) / group, [&](std::int64_t tile, int) {
    for (std::int64_t i = tile * group; i < count && i < (tile + 1) * group; ++i)
      for (std::int64_t p = 0; p < passes; ++p) {
        const std::int64_t r = rows * p / passes, next = rows * (p + 1) / passes;
        multiply_panel<Step>(w.at + i * w.bytes, w, end, x + r * x_stride, x_stride, next - r, y + r * y_stride + i * panel_outputs, y_stride,
                             w.out - i * panel_outputs);
      }
  });
}
