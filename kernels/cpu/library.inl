// bf16 products by a library, in tiles of our own.

/// Null when there is none for this instruction set, or so few rows that making code for their number does not pay.
inline bf16_gemm* library_for([[maybe_unused]] stream& s, [[maybe_unused]] std::int64_t rows) {
#if ISTHMUS_WIDTH == 16
  if (rows >= 64) return static_cast<cpu_stream&>(s).bf16_products.get();
#endif
  return nullptr;
}

/// The weights [out, in], rounded.
inline const bf16* rounded_weights(stream& s, matrix<bf16>* w) {
  auto& form = static_cast<packed_matrix<bf16>*>(w)->rounded;
  const std::int64_t count = w->out * w->in;
  auto* rounded = reinterpret_cast<bf16*>(form.panels.at_least(static_cast<std::size_t>(count) * sizeof(bf16)));
  if (form.fresh) return rounded;
  constexpr std::int64_t piece = 16384;
  s.workers.run((count + piece - 1) / piece, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * piece, here = count - first < piece ? count - first : piece;
    over(here, [&](std::int64_t c, auto mask) { mask.put(rounded + first + c, mask.get(w->master + first + c)); });
  });
  form.fresh = true;
  return rounded;
}

struct library_operand {
  const bf16* b;  // [k, n], or [n, k] when transposed
  std::int64_t stride;
  bool transposed;
};

/// y [rows, n] = x [rows, k] b; y is bf16 or fp32.
inline void library_multiply(stream& s, bf16_gemm& library, std::int64_t rows, std::int64_t n, std::int64_t k, const bf16* x,
                             std::int64_t x_stride, const library_operand& b, void* y, std::int64_t y_stride, bool y_is_bf16) {
  constexpr std::int64_t whole = 256;
  const std::int64_t tiles = (rows + whole - 1) / whole, last = rows - (tiles - 1) * whole;
  const auto plan_for = [&](std::int64_t m) -> const bf16_gemm::plan& {
    return library.prepare({m, n, k, x_stride, b.stride, y_stride, false, b.transposed, y_is_bf16, false});
  };
  const auto &last_plan = plan_for(last), &plan = tiles > 1 ? plan_for(whole) : last_plan;
  s.workers.run(tiles, [&](std::int64_t tile, int worker) {
    const std::int64_t to = tile * whole * y_stride * (y_is_bf16 ? 2 : 4);
    library.run(tile + 1 == tiles ? last_plan : plan, x + tile * whole * x_stride, b.b, static_cast<std::byte*>(y) + to, worker);
  });
}

/// dw [out, in] += dy^T x.
inline void library_backward_weight(stream& s, bf16_gemm& library, std::int64_t rows, std::int64_t out, std::int64_t in, const bf16* dy,
                                    std::int64_t dy_stride, const bf16* x, std::int64_t x_stride, float* dw) {
  const std::int64_t even = round_up((out + 3) / 4, 32), whole = even < 128 ? 128 : even > 256 ? 256 : even;
  const std::int64_t tiles = (out + whole - 1) / whole, last = out - (tiles - 1) * whole;
  const auto plan_for = [&](std::int64_t m) -> const bf16_gemm::plan& {
    return library.prepare({m, in, rows, dy_stride, x_stride, in, true, false, false, true});
  };
  const auto &last_plan = plan_for(last), &plan = tiles > 1 ? plan_for(whole) : last_plan;
  s.workers.run(tiles, [&](std::int64_t tile, int worker) {
    library.run(tile + 1 == tiles ? last_plan : plan, dy + tile * whole, x, dw + tile * whole * in, worker);
  });
}
