// Products by a library, in tiles of our own. Each of them gives false, with nothing done, when the library has no fast code for it.

/// Null when there is none for this instruction set, or so few rows that making code for their number does not pay.
template <class Act>
gemm_library* library_for([[maybe_unused]] stream& s, [[maybe_unused]] std::int64_t rows) {
#if ISTHMUS_WIDTH == 16
  gemm_library* library = static_cast<cpu_stream&>(s).products.get();
  if (rows >= 64 && library && (std::is_same_v<Act, float> || library->knows_bf16())) return library;
#endif
  return nullptr;
}

/// Weights as the library reads them in x W^T (transposed) or dy W.
template <class Act>
struct library_weights {
  matrix<Act>* w;
  bool transposed;
  std::int64_t columns() const { return transposed ? w->out : w->in; }
  std::int64_t depth() const { return transposed ? w->in : w->out; }
  right_form form() const {
    if (std::is_same_v<Act, float>) return right_form::panels;
    return transposed ? right_form::transposed : right_form::rows;
  }
  std::int64_t stride() const { return std::is_same_v<Act, float> ? 0 : w->in; }
};

/// The weights [out, in], rounded: read in both directions.
inline const bf16* prepared(stream& s, const library_weights<bf16>& of) {
  auto& form = static_cast<packed_matrix<bf16>*>(of.w)->rounded;
  const std::int64_t count = of.w->out * of.w->in;
  auto* rounded = reinterpret_cast<bf16*>(form.panels.at_least(static_cast<std::size_t>(count) * sizeof(bf16)));
  if (form.fresh) return rounded;
  constexpr std::int64_t piece = 16384;
  s.workers.run((count + piece - 1) / piece, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * piece, here = count - first < piece ? count - first : piece;
    over(here, [&](std::int64_t c, auto mask) { mask.put(rounded + first + c, mask.get(of.w->master + first + c)); });
  });
  form.fresh = true;
  return rounded;
}

/// fp32 weights in the library's panels.
inline const float* prepared(stream& s, const library_weights<float>& of) {
  auto& m = *static_cast<packed_matrix<float>*>(of.w);
  auto& form = of.transposed ? m.library_forward : m.library_backward;
  const std::int64_t columns = of.columns(), depth = of.depth(), rows = round_up(depth, library_depth_unit);
  const std::int64_t tiles = (columns + library_panel - 1) / library_panel, floats = rows * library_panel;
  auto* panels = reinterpret_cast<float*>(form.panels.at_least(static_cast<std::size_t>(tiles * floats) * sizeof(float)));
  if (form.fresh) return panels;
  s.workers.run(tiles, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * library_panel, here = columns - first < library_panel ? columns - first : library_panel;
    float* at = panels + tile * floats;
    if (of.transposed) {
      if (here < library_panel) __builtin_memset(at, 0, static_cast<std::size_t>(floats) * sizeof(float));
      transpose(of.w->master + first * depth, depth, here, depth, at, library_panel);
    } else {
      copy_rows(of.w->master + first, columns, depth, here, nullptr, at, library_panel);
    }
    __builtin_memset(at + depth * library_panel, 0, static_cast<std::size_t>((rows - depth) * library_panel) * sizeof(float));
  });
  form.fresh = true;
  return panels;
}

/// y [rows, columns] = x [rows, depth] w; y is fp32 or as x.
template <class Act, class Out>
bool library_multiply(stream& s, gemm_library& library, std::int64_t rows, const Act* x, std::int64_t x_stride,
                      const library_weights<Act>& w, Out* y, std::int64_t y_stride) {
  const std::int64_t n = w.columns(), k = w.depth(), whole = std::is_same_v<Act, float> && n * k > 1 << 19 ? 128 : 256;
  const std::int64_t tiles = (rows + whole - 1) / whole, last = rows - (tiles - 1) * whole;
  const auto plan_for = [&](std::int64_t m) {
    return library.prepare({m, n, k, x_stride, w.stride(), y_stride, false, w.form(), std::is_same_v<Act, bf16>, std::is_same_v<Out, bf16>, false});
  };
  const auto *last_plan = plan_for(last), *plan = tiles > 1 ? plan_for(whole) : last_plan;
  if (!plan || !last_plan) return false;
  const Act* b = prepared(s, w);
  s.workers.run(tiles, [&](std::int64_t tile, int worker) {
    library.run(tile + 1 == tiles ? *last_plan : *plan, x + tile * whole * x_stride, b, y + tile * whole * y_stride, worker);
  });
  return true;
}

/// dw [out, in] += dy^T x.
template <class Act>
bool library_backward_weight(stream& s, gemm_library& library, std::int64_t rows, std::int64_t out, std::int64_t in, const Act* dy,
                             std::int64_t dy_stride, const Act* x, std::int64_t x_stride, float* dw) {
  constexpr bool fp32 = std::is_same_v<Act, float>;
  // Rows of dy far apart fall into few sets of the caches while the library turns them; our own kernels copy them first.
  if (fp32 && (out > 512 || dy_stride % 1024 == 0)) return false;
  const std::int64_t even = round_up((out + 3) / 4, 32), whole = even < 128 ? 128 : even > 256 ? 256 : even;
  const std::int64_t tiles = (out + whole - 1) / whole, last = out - (tiles - 1) * whole;
  const auto plan_for = [&](std::int64_t m) {
    return library.prepare({m, in, rows, dy_stride, x_stride, in, true, right_form::rows, !fp32, false, true});
  };
  const auto *last_plan = plan_for(last), *plan = tiles > 1 ? plan_for(whole) : last_plan;
  if (!plan || !last_plan) return false;
  s.workers.run(tiles, [&](std::int64_t tile, int worker) {
    library.run(tile + 1 == tiles ? *last_plan : *plan, dy + tile * whole, x, dw + tile * whole * in, worker);
  });
  return true;
}
