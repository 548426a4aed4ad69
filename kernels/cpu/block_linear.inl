// Block-diagonal products. Large blocks are products like any other; of small ones a tile takes rows of a single block, all in one go, for
// starting the team once a block would cost more than the block.

constexpr std::int64_t block_linear_large = 128 * 128;

/// y_k [rows, n] = x_k [rows, depth] times panels of block k.
template <class Act>
void small_blocks(stream& s, matrix<Act>* const* w, std::int64_t blocks, bool transposed, std::int64_t rows, const Act* x,
                  std::int64_t x_stride, Act* y, std::int64_t y_stride) {
  constexpr std::int64_t rows_at_once = 4 * strip_rows;
  const std::int64_t n = transposed ? w[0]->out : w[0]->in, depth = transposed ? w[0]->in : w[0]->out;
  for (std::int64_t k = 0; k < blocks; ++k) packed_weights(s, w[k], transposed);
  s.workers.run((rows + rows_at_once - 1) / rows_at_once, [&](std::int64_t tile, int worker) {
    const std::int64_t first = tile * rows_at_once, m = rows - first < rows_at_once ? rows - first : rows_at_once;
    float* scratch = own_floats(s, worker, product_scratch<Act>(m, n, depth));
    for (std::int64_t k = 0; k < blocks; ++k)
      rows_times_panels(m, n, depth, x + first * x_stride + k * depth, x_stride, packed_weights(s, w[k], transposed),
                        y + first * y_stride + k * n, y_stride, scratch);
  });
}

template <class Act>
bool blocks_are_large(matrix<Act>* const* w) {
  return w[0]->out * w[0]->in >= block_linear_large;
}

template <class Act>
void block_linear(stream& s, const block_linear_args<Act>& a) {
  if (a.blocks == 0) return;
  if (!blocks_are_large(a.w)) return small_blocks(s, a.w, a.blocks, true, a.rows, a.x, a.x_stride, a.y, a.y_stride);
  for (std::int64_t k = 0; k < a.blocks; ++k) linear(s, block_of(a, k));
}

template <class Act>
void block_linear_backward_input(stream& s, const block_linear_backward_input_args<Act>& a) {
  if (a.blocks == 0) return;
  if (!blocks_are_large(a.w)) return small_blocks(s, a.w, a.blocks, false, a.rows, a.dy, a.dy_stride, a.dx, a.dx_stride);
  for (std::int64_t k = 0; k < a.blocks; ++k) linear_backward_input(s, block_of(a, k));
}

template <class Act>
void block_linear_backward_weight(stream& s, const block_linear_backward_weight_args<Act>& a) {
  if (a.blocks == 0) return;
  if (blocks_are_large(a.w)) {
    for (std::int64_t k = 0; k < a.blocks; ++k) linear_backward_weight(s, block_of(a, k));
    return;
  }
  const std::int64_t out = a.w[0]->out, in = a.w[0]->in, row = round_up(in, panel);
  s.workers.run(a.blocks, [&](std::int64_t k, int worker) {
    carver memory(s.workers.scratch(worker, static_cast<std::size_t>(gradient_depth * (row + round_up(out, panel)) + 64) * sizeof(float)));
    float *left_memory = memory.take(gradient_depth * round_up(out, panel)), *right_memory = memory.take(gradient_depth * row);
    for (std::int64_t r = 0; r < a.rows; r += gradient_depth) {
      const std::int64_t n = a.rows - r < gradient_depth ? a.rows - r : gradient_depth;
      copy_rows(a.dy + r * a.dy_stride + k * out, a.dy_stride, n, out, nullptr, left_memory, round_up(out, panel));
      copy_rows(a.x + r * a.x_stride + k * in, a.x_stride, n, in, nullptr, right_memory, row);
      product(out, in, n, {left_memory, 1, round_up(out, panel)}, {right_memory, row, panel}, {a.dw + k * out * in, in, panel}, into::add);
    }
  });
}

template <class Act>
void gate(stream& s, const gate_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r)
      over(a.cols, [&](std::int64_t c, auto mask) {
        mask.put(a.y + r * a.y_stride + c, mask.get(a.a + r * a.a_stride + c) * mask.get(a.b + r * a.b_stride + c));
      });
  });
}

template <class Act>
void gate_backward(stream& s, const gate_backward_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r)
      over(a.cols, [&](std::int64_t c, auto mask) {
        const vf dy = mask.get(a.dy + r * a.dy_stride + c);
        mask.put(a.db + r * a.db_stride + c, dy * mask.get(a.a + r * a.a_stride + c));
        mask.put(a.da + r * a.da_stride + c, dy * mask.get(a.b + r * a.b_stride + c));
      });
  });
}

/// Of the two sides of a transposition the writes are the contiguous ones.
template <class Act>
void shuffle(stream& s, const shuffle_args<Act>& a) {
  const std::int64_t cols = a.outer * a.inner;
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const Act* x = a.x + r * cols;
      Act* y = a.y + r * cols;
      for (std::int64_t i = 0; i < a.inner; ++i)
        for (std::int64_t o = 0; o < a.outer; ++o) *y++ = x[o * a.inner + i];
    }
  });
}

template <class Act>
void add(stream& s, const add_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r)
      over(a.cols, [&](std::int64_t c, auto mask) {
        mask.put(a.y + r * a.y_stride + c, mask.get(a.y + r * a.y_stride + c) + mask.get(a.x + r * a.x_stride + c));
      });
  });
}
