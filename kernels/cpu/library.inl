// Products by the matrix unit or by a library, in tiles of our own. Each of them gives false, with nothing done, when there is no fast
// code for it.

/// What there is besides the kernels of this instruction set.
struct fast_products {
  bool splits = false;  // fp32 out of bf16 parts
  gemm_library* library = nullptr;
  explicit operator bool() const { return splits || library; }
};

constexpr std::int64_t library_rows = 64;  // with fewer, code for their number does not pay

/// None with few rows.
template <class Act>
fast_products fast_products_for([[maybe_unused]] stream& s, [[maybe_unused]] std::int64_t rows) {
#if ISTHMUS_WIDTH == 16
  const auto& own = static_cast<cpu_stream&>(s);
  if (rows < library_rows) return {};
  if (std::is_same_v<Act, float> && own.splits) return {.splits = true};
  if (own.products && (std::is_same_v<Act, float> || own.products->knows_bf16())) return {.library = own.products.get()};
#endif
  return {};
}

/// Weights as the library reads them in x W^T (transposed) or dy W.
template <class Act>
struct library_weights {
  matrix<Act>* w;
  bool transposed;
  std::int64_t columns() const { return transposed ? w->out : w->in; }
  std::int64_t depth() const { return transposed ? w->in : w->out; }
};

/// The weights [out, in], rounded: read in both directions.
template <class Act>
const bf16* rounded_weights(stream& s, matrix<Act>* w) {
  auto& form = static_cast<packed_matrix<Act>*>(w)->rounded;
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

#if ISTHMUS_WIDTH == 16
/// The weights [out, in] in bf16 as pairs, of inputs or, transposed back, of outputs.
template <class Act>
const std::byte* paired_weights(stream& s, matrix<Act>* w, bool transposed = true) {
  auto& m = *static_cast<packed_matrix<Act>*>(w);
  auto& form = transposed ? m.paired : m.paired_backward;
  std::byte* pairs = form.panels.at_least(transposed ? pair_bytes(w->out, w->in) : pair_bytes(w->in, w->out));
  if (!form.fresh) (transposed ? pair_weights : pair_weights_transposed)(s.workers, w->master, w->out, w->in, pairs);
  form.fresh = true;
  return pairs;
}
#endif

/// bf16 weights as pairs: only vectors of AVX-512 have a library that wants them.
inline const bf16* prepared([[maybe_unused]] stream& s, [[maybe_unused]] const library_weights<bf16>& of) {
#if ISTHMUS_WIDTH == 16
  return reinterpret_cast<const bf16*>(paired_weights(s, of.w, of.transposed));
#else
  return nullptr;
#endif
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

/// How a product is cut: rows of a tile, and about how many parts of its columns.
struct library_cut {
  std::int64_t rows, parts;
};

/// y [rows, n] = x [rows, k] b, b in panels or pairs; y is fp32 or as x.
template <class In, class Out>
bool library_tiles(stream& s, gemm_library& library, std::int64_t rows, std::int64_t n, std::int64_t k, library_cut cut, const In* x,
                   std::int64_t x_stride, const In* b, Out* y, std::int64_t y_stride) {
  constexpr bool fp32 = std::is_same_v<In, float>;
  const std::int64_t tiles = (rows + cut.rows - 1) / cut.rows, last = rows - (tiles - 1) * cut.rows;
  const std::int64_t wide = cut.parts == 1 ? n : round_up((n + cut.parts - 1) / cut.parts, library_panel), parts = (n + wide - 1) / wide;
  const auto plan_for = [&](bool last_rows, bool last_columns) {
    return library.prepare({last_rows ? last : cut.rows, last_columns ? n - (parts - 1) * wide : wide, k, x_stride, 0, y_stride, false,
                            fp32 ? right_form::panels : right_form::pairs, !fp32, std::is_same_v<Out, bf16>, false});
  };
  const gemm_library::plan* plans[2][2];
  for (const bool last_rows : {false, true})
    for (const bool last_columns : {false, true})
      if (!(plans[last_rows][last_columns] = plan_for(last_rows || tiles == 1, last_columns || parts == 1))) return false;
  const std::int64_t depth = round_up(k, fp32 ? library_depth_unit : pair_inputs);
  s.workers.run(tiles * parts, [&](std::int64_t tile, int worker) {
    const std::int64_t i = tile / parts, j = tile % parts;
    library.run(*plans[i + 1 == tiles][j + 1 == parts], x + i * cut.rows * x_stride, b + j * wide * depth,
                y + i * cut.rows * y_stride + j * wide, worker);
  });
  return true;
}

/// y [rows, columns] = x [rows, depth] w; y is fp32 or as x.
template <class Act, class Out>
bool library_multiply(stream& s, gemm_library& library, std::int64_t rows, const Act* x, std::int64_t x_stride,
                      const library_weights<Act>& w, Out* y, std::int64_t y_stride) {
  const std::int64_t n = w.columns(), k = w.depth(), whole = std::is_same_v<Act, float> && n * k > 1 << 19 ? 128 : 256;
  const library_cut cut{whole, rows > whole || n < 512 ? 1 : 4};  // rows of one tile share out the columns
  return library_tiles(s, library, rows, n, k, cut, x, x_stride, prepared(s, w), y, y_stride);
}

#if ISTHMUS_WIDTH == 16
/// y = x W^T with the weights as pairs; fp32 activations are rounded to bf16 as well.
template <class Act>
bool library_pair_multiply(stream& s, gemm_library& library, const linear_args<Act>& a, const std::byte* weights) {
  const std::int64_t n = a.w->out, k = a.w->in;
  const library_cut cut{256, a.rows > 3 * 256 || n < 512 ? 1 : 4};  // few rows: tiles of outputs; many: of rows
  const auto* pairs = reinterpret_cast<const bf16*>(weights);
  if constexpr (std::is_same_v<Act, bf16>) {
    return library_tiles(s, library, a.rows, n, k, cut, a.x, a.x_stride, pairs, a.y, a.y_stride);
  } else {
    auto* x = reinterpret_cast<bf16*>(shared_floats(s, (a.rows * k + 1) / 2));
    over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
      store_rows(a.x + first * a.x_stride, a.x_stride, rows, k, x + first * k, k);
    });
    return library_tiles(s, library, a.rows, n, k, cut, x, k, pairs, a.y, a.y_stride);
  }
}

#endif

/// dw [out, in] += dy^T x.
template <class Act>
bool library_backward_weight(stream& s, gemm_library& library, std::int64_t rows, std::int64_t out, std::int64_t in, const Act* dy,
                             std::int64_t dy_stride, const Act* x, std::int64_t x_stride, float* dw) {
  constexpr bool fp32 = std::is_same_v<Act, float>;
  // Rows of dy far apart fall into few sets of the caches while the library turns them; our own kernels copy them first.
  if (fp32 && dy_stride % 1024 == 0) return false;
  const std::int64_t parts = fp32 ? 4 : 2;  // bf16 likes larger tiles
  const std::int64_t even = round_up((out + parts - 1) / parts, 32), whole = even < 128 ? 128 : even > 256 ? 256 : even;
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

#if ISTHMUS_WIDTH == 16
/// The weights in bf16 parts.
inline const std::byte* split(stream& s, const library_weights<float>& of) {
  auto& m = *static_cast<packed_matrix<float>*>(of.w);
  auto& form = of.transposed ? m.split_forward : m.split_backward;
  std::byte* parts = form.panels.at_least(split_bytes(of.columns(), of.depth()));
  if (!form.fresh) split_right(s.workers, of.w->master, of.w->in, of.transposed, of.columns(), of.depth(), parts);
  form.fresh = true;
  return parts;
}
#endif

/// y [rows, columns] = x [rows, depth] w; y is fp32 or as x.
template <class Act, class Out>
bool fast_multiply(stream& s, const fast_products& by, std::int64_t rows, const Act* x, std::int64_t x_stride,
                   const library_weights<Act>& w, Out* y, std::int64_t y_stride) {
#if ISTHMUS_WIDTH == 16
  if constexpr (std::is_same_v<Act, float>)
    if (by.splits) {
      split_multiply(s.workers, rows, w.columns(), w.depth(), x, x_stride, split(s, w), y, y_stride);
      return true;
    }
#endif
  return by.library && library_multiply(s, *by.library, rows, x, x_stride, w, y, y_stride);
}

/// Floats of memory for fast_backward_weight.
inline std::int64_t fast_backward_floats([[maybe_unused]] const fast_products& by, [[maybe_unused]] std::int64_t rows,
                                         [[maybe_unused]] std::int64_t in) {
#if ISTHMUS_WIDTH == 16
  if (by.splits) return static_cast<std::int64_t>(split_backward_bytes(rows, in) / sizeof(float));
#endif
  return 0;
}

/// dw [out, in] += dy^T x.
template <class Act>
bool fast_backward_weight(stream& s, const fast_products& by, std::int64_t rows, std::int64_t out, std::int64_t in, const Act* dy,
                          std::int64_t dy_stride, const Act* x, std::int64_t x_stride, [[maybe_unused]] float* memory, float* dw) {
#if ISTHMUS_WIDTH == 16
  if constexpr (std::is_same_v<Act, float>)
    if (by.splits) {
      split_backward_weight(s.workers, rows, out, in, dy, dy_stride, x, x_stride, reinterpret_cast<std::byte*>(memory), dw);
      return true;
    }
#endif
  return by.library && library_backward_weight(s, *by.library, rows, out, in, dy, dy_stride, x, x_stride, dw);
}
