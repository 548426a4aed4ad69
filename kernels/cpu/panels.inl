// Products with weights as panels. Weights are packed once after each change, in both directions that a step needs.

/// The weights as right operand of x W^T: panels [out / 32][in][32]; of dy W: [in / 32][out][32].
template <class Act>
const float* packed_weights(stream& s, matrix<Act>* w, bool transposed) {
  auto& m = *static_cast<packed_matrix<Act>*>(w);
  auto& form = transposed ? m.of_forward : m.of_backward;
  const std::int64_t columns = transposed ? w->out : w->in, depth = transposed ? w->in : w->out;
  auto* panels = reinterpret_cast<float*>(form.panels.at_least(static_cast<std::size_t>(round_up(columns, panel) * depth) * sizeof(float)));
  if (form.fresh) return panels;
  s.workers.run(round_up(columns, panel) / panel, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * panel, here = columns - first < panel ? columns - first : panel;
    float* at = panels + first * depth;
    if (transposed)
      transposed_panels(w->master + first * depth, depth, here, depth, at);
    else
      copy_rows(w->master + first, columns, depth, here, nullptr, at, panel);
    if constexpr (std::is_same_v<Act, bf16>)
      over(panel * depth, [&](std::int64_t c, auto mask) {
        bf16 rounded[width];
        store(rounded, mask.get(at + c));
        mask.put(at + c, load(rounded));
      });
  });
  form.fresh = true;
  return panels;
}

constexpr std::int64_t tile_rows = 16 * strip_rows;  // of a product with weights: its left operand stays in the second-level cache

/// Scratch floats that rows_times_panels wants.
template <class Act>
std::int64_t product_scratch(std::int64_t rows, std::int64_t n, std::int64_t k) {
  return std::is_same_v<Act, float> ? 0 : rows * (round_up(k, panel) + round_up(n, panel));
}

/// y [m, n] = x [m, k] b, b in panels of depth k.
template <class Act>
void rows_times_panels(std::int64_t m, std::int64_t n, std::int64_t k, const Act* x, std::int64_t x_stride, const float* b, Act* y,
                       std::int64_t y_stride, float* scratch) {
  const fp32_right operand{b, panel, k * panel};
  if constexpr (std::is_same_v<Act, float>) {
    product(m, n, k, {x, x_stride, 1}, operand, {y, y_stride, panel}, into::overwrite);
  } else {
    const rows_view rows = view_rows(x, x_stride, m, k, scratch);
    const std::int64_t row = round_up(n, panel);
    float* sums = scratch + m * round_up(k, panel);
    product(m, n, k, rows.as_left(), operand, {sums, row, panel}, into::overwrite);
    store_rows(sums, row, m, n, y, y_stride);
  }
}

/// y [rows, n] = x [rows, k] b in tiles of rows and groups of panels.
template <class Act>
void multiply(stream& s, std::int64_t rows, std::int64_t n, std::int64_t k, const Act* x, std::int64_t x_stride, const float* b, Act* y,
              std::int64_t y_stride) {
  const std::int64_t row_tiles = (rows + tile_rows - 1) / tile_rows;
  // Enough tiles for stealing to even things out, none of them tiny.
  const std::int64_t wanted = row_tiles >= 12 ? 1 : (12 + row_tiles - 1) / (row_tiles > 0 ? row_tiles : 1);
  const std::int64_t at_least = round_up((n + wanted - 1) / wanted, panel);
  const std::int64_t group = at_least < 2 * panel ? 2 * panel : at_least > 1024 ? 1024 : at_least;
  const std::int64_t groups = (n + group - 1) / group;
  s.workers.run(row_tiles * groups, [&](std::int64_t tile, int worker) {
    const std::int64_t first = rows * (tile / groups) / row_tiles, m = rows * (tile / groups + 1) / row_tiles - first;
    const std::int64_t column = tile % groups * group, columns = n - column < group ? n - column : group;
    auto* scratch = reinterpret_cast<float*>(
        s.workers.scratch(worker, static_cast<std::size_t>(product_scratch<Act>(m, columns, k)) * sizeof(float)));
    rows_times_panels(m, columns, k, x + first * x_stride, x_stride, b + column * k, y + first * y_stride + column, y_stride, scratch);
  });
}
