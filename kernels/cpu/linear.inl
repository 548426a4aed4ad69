// Products with weight matrices.

template <class Act>
void linear(stream& s, const linear_args<Act>& a) {
  const weight_format format = a.w->format;
  if (a.rows == 0) return;
  if (format == weight_format::int8 || format == weight_format::int4) return grouped_linear(s, a);
  if (format == weight_format::bf16) return rounded_linear(s, a);
#if ISTHMUS_WIDTH == 16
  if constexpr (std::is_same_v<Act, float>) {
    const auto& own = static_cast<cpu_stream&>(s);
    if (a.rows < this_cpu().library_rows && own.products && !own.splits)
      return multiply_by_panels(s, a, prepared(s, library_weights<float>{a.w, true}));
  }
#endif
  if (a.rows <= few_rows) {
    if constexpr (std::is_same_v<Act, float>)
      return multiply_few_rows(s, a.rows, a.w->out, a.w->in, a.w->master, a.x, a.x_stride, a.y, a.y_stride);
    else
      return multiply_few_rows(s, a.rows, a.w->out, a.w->in, rounded_weights(s, a.w), a.x, a.x_stride, a.y, a.y_stride);
  }
  const auto fast = fast_products_for<Act>(s, a.rows);
  if (fast_multiply(s, fast, a.rows, a.x, a.x_stride, library_weights<Act>{a.w, true}, a.y, a.y_stride)) return;
  multiply(s, a.rows, a.w->out, a.w->in, a.x, a.x_stride, packed_weights(s, a.w, true), a.y, a.y_stride);
}

template <class Act>
void linear_backward_input(stream& s, const linear_backward_input_args<Act>& a) {
  ensure_trains(*a.w);
  const auto fast = fast_products_for<Act>(s, a.rows);
  if (fast_multiply(s, fast, a.rows, a.dy, a.dy_stride, library_weights<Act>{a.w, false}, a.dx, a.dx_stride)) return;
  multiply(s, a.rows, a.w->in, a.w->out, a.dy, a.dy_stride, packed_weights(s, a.w, false), a.dx, a.dx_stride);
}

/// Rows of activations that a product of gradients takes at once: a strip of one operand and a panel of the other stay in the
/// first-level cache.
constexpr std::int64_t gradient_depth = 192;
constexpr std::int64_t gradient_ins = 512;
constexpr std::int64_t rows_ahead = 16;  // what packing fetches early: rows lie too far apart for the CPU to foresee them

/// Columns [0, outs) of dy as strips [outs / strip_rows][rows][strip_room], so that a strip is read from one end to the other.
constexpr std::int64_t strip_room = (strip_rows + 15) / 16 * 16;
template <class Grad>
ISTHMUS_INLINE void pack_strips(const Grad* dy, std::int64_t stride, std::int64_t rows, std::int64_t outs, float* to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const Grad* row = dy + r * stride;
    for (std::int64_t o = 0; o < outs; o += 64 / static_cast<std::int64_t>(sizeof(Grad)))
      __builtin_prefetch(row + rows_ahead * stride + o);
    for (std::int64_t o = 0; o < outs; o += strip_rows) {
      float* at = to + (o / strip_rows * rows + r) * strip_room;
      over(outs - o < strip_rows ? outs - o : strip_rows, [&](std::int64_t c, auto mask) { store(at + c, mask.get(row + o + c)); });
    }
  }
}

/// x [rows, columns] as panels [columns / 32][rows][32] in `to`, which every tile of dy^T x reads.
template <class Act>
void pack_panels(stream& s, const Act* x, std::int64_t stride, std::int64_t rows, std::int64_t columns, float* to) {
  over_row_blocks(s, rows, [&](std::int64_t first, std::int64_t n, std::int64_t, int) {
    for (std::int64_t c = 0; c < columns; c += panel)
      copy_rows(x + first * stride + c, stride, n, columns - c < panel ? columns - c : panel, nullptr, to + c * rows + first * panel, panel);
  });
}

/// dw [outs, ins] += dy^T x, a block of rows at a time. panels: x packed; memory: [strips of outs][gradient_depth][strip_room].
template <class Grad>
void weight_tile(std::int64_t rows, std::int64_t outs, std::int64_t ins, const Grad* dy, std::int64_t dy_stride, const float* panels,
                 float* dw, std::int64_t dw_row, float* memory) {
  for (std::int64_t r = 0; r < rows; r += gradient_depth) {
    const std::int64_t here = rows - r < gradient_depth ? rows - r : gradient_depth;
    pack_strips(dy + r * dy_stride, dy_stride, here, outs, memory);
    for (std::int64_t i = 0; i < ins; i += panel)
      for (std::int64_t o = 0; o < outs; o += strip_rows)
        product(outs - o < strip_rows ? outs - o : strip_rows, ins - i < panel ? ins - i : panel, here,
                {memory + o / strip_rows * here * strip_room, 1, strip_room}, {panels + i * rows + r * panel, panel, panel},
                {dw + o * dw_row + i, dw_row, panel}, into::add);
  }
}

/// packed: [rows * round_up(in, 32)] floats of shared memory.
template <class Grad, class Act>
void backward_weight(stream& s, std::int64_t rows, std::int64_t out, std::int64_t in, const Grad* dy, std::int64_t dy_stride, const Act* x,
                     std::int64_t x_stride, float* packed, float* dw) {
  pack_panels(s, x, x_stride, rows, in, packed);
  const std::int64_t in_tiles = (in + gradient_ins - 1) / gradient_ins;
  // Many rows of dw a tile, for what is packed pays off over them, but tiles enough to steal.
  const std::int64_t wanted = round_up((out + 7) / 8, strip_rows);
  const std::int64_t most = 16 * strip_rows, outs_at_most = wanted < most ? wanted : most, out_tiles = (out + outs_at_most - 1) / outs_at_most;
  s.workers.run(out_tiles * in_tiles, [&](std::int64_t tile, int worker) {
    const std::int64_t o = tile / in_tiles * outs_at_most, outs = out - o < outs_at_most ? out - o : outs_at_most;
    const std::int64_t i = tile % in_tiles * gradient_ins, ins = in - i < gradient_ins ? in - i : gradient_ins;
    float* memory = own_floats(s, worker, round_up(outs, strip_rows) / strip_rows * strip_room * gradient_depth);
    weight_tile(rows, outs, ins, dy + o, dy_stride, packed + i * rows, dw + o * in + i, in, memory);
  });
}

template <class Act>
void linear_backward_weight(stream& s, const linear_backward_weight_args<Act>& a) {
  ensure_trains(*a.w);
  const auto fast = fast_products_for<Act>(s, a.rows);
  const std::int64_t for_fast = fast_backward_floats(fast, a.rows, a.w->in), for_ours = a.rows * round_up(a.w->in, panel);
  float* packed = shared_floats(s, for_fast > 0 ? for_fast : for_ours);
  if (fast_backward_weight(s, fast, a.rows, a.w->out, a.w->in, a.dy, a.dy_stride, a.x, a.x_stride, packed, a.dw)) return;
  backward_weight(s, a.rows, a.w->out, a.w->in, a.dy, a.dy_stride, a.x, a.x_stride, packed, a.dw);
}
