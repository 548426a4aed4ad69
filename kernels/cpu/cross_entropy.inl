// The head and its loss. A tile holds the logits of a few rows; the gradients of all rows of a chunk stay for dw.

/// logits <- (softmax(logits) (1 + 2 z lse) - onehot) * scale; gives the loss.
inline float softmax_row(float* logits, std::int64_t n, std::int32_t target, float scale, float z_loss, bool backward) {
  if (target == no_target) {
    if (backward) __builtin_memset(logits, 0, static_cast<std::size_t>(n) * sizeof(float));
    return 0;
  }
  vf top = splat(-INFINITY);
  over(n, [&](std::int64_t c, auto mask) {
    if constexpr (std::is_same_v<decltype(mask), full>)
      top = max(top, load(logits + c));
    else
      for (std::int64_t i = 0; i < mask.count; ++i) top[0] = logits[c + i] > top[0] ? logits[c + i] : top[0];
  });
  const float peak = largest(top), chosen = logits[target];
  vf total = vf{};
  double tail = 0;
  over(n, [&](std::int64_t c, auto mask) {
    const vf e = exp(mask.get(logits + c) - peak);
    mask.put(logits + c, e);
    if constexpr (std::is_same_v<decltype(mask), full>)
      total += e;
    else
      for (std::int64_t i = 0; i < mask.count; ++i) tail += static_cast<double>(e[i]);
  });
  const double all = static_cast<double>(sum(total)) + tail, lse = static_cast<double>(peak) + std::log(all);
  if (backward) {
    const vf by = splat(static_cast<float>(static_cast<double>(scale) * (1 + 2 * static_cast<double>(z_loss) * lse) / all));
    over(n, [&](std::int64_t c, auto mask) { mask.put(logits + c, mask.get(logits + c) * by); });
    logits[target] -= scale;
  }
  return static_cast<float>(lse - static_cast<double>(chosen));
}

inline void add_bias_row(const float* bias, std::int64_t n, float* logits) {
  if (bias) over(n, [&](std::int64_t c, auto mask) { mask.put(logits + c, mask.get(logits + c) + mask.get(bias + c)); });
}

/// d_bias[c] += sum_r d_logits[r, c], each column by one worker, in the order of the rows.
template <class Number>
void add_bias_gradient(stream& s, std::int64_t rows, std::int64_t vocabulary, const Number* d_logits, std::int64_t stride, float* d_bias) {
  constexpr std::int64_t at_once = 256;
  s.workers.run((vocabulary + at_once - 1) / at_once, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * at_once, n = vocabulary - first < at_once ? vocabulary - first : at_once;
    for (std::int64_t r = 0; r < rows; ++r)
      over(n, [&](std::int64_t c, auto mask) {
        mask.put(d_bias + first + c, mask.get(d_bias + first + c) + mask.get(d_logits + r * stride + first + c));
      });
  });
}

/// With fast products: logits of a chunk of rows in fp32, and their gradients, for bf16 beside them.
template <class Act>
bool cross_entropy_by_chunks(stream& s, const fast_products& fast, const cross_entropy_args<Act>& a) {
  constexpr bool fp32 = std::is_same_v<Act, float>;
  const std::int64_t vocabulary = a.head->out, cols = a.head->in;
  constexpr std::int64_t chunk = 1024;
  const std::int64_t half = round_up((vocabulary + 1) / 2, 16);
  const std::int64_t for_fast = fast_backward_floats(fast, chunk, cols), for_ours = chunk * round_up(cols, panel);
  float* logits = shared_floats(s, chunk * (vocabulary + (fp32 ? 0 : half)) + (for_fast > 0 ? for_fast : for_ours));
  auto* d_logits = reinterpret_cast<Act*>(fp32 ? logits : logits + chunk * vocabulary);
  float* packed = logits + chunk * (vocabulary + (fp32 ? 0 : half));
  for (std::int64_t begin = 0; begin < a.rows; begin += chunk) {
    const std::int64_t rows = a.rows - begin < chunk ? a.rows - begin : chunk;
    const Act* h = a.h + begin * cols;
    if (!fast_multiply(s, fast, rows, h, cols, library_weights<Act>{a.head, true}, logits, vocabulary)) return false;
    over_row_blocks(s, rows, [&](std::int64_t first, std::int64_t n, std::int64_t, int) {
      for (std::int64_t r = first; r < first + n; ++r) {
        float* row = logits + r * vocabulary;
        add_bias_row(a.bias, vocabulary, row);
        a.losses[begin + r] = softmax_row(row, vocabulary, a.targets[begin + r], a.scale, a.z_loss, a.dh);
        if constexpr (!fp32)
          if (a.dh) over(vocabulary, [&](std::int64_t c, auto mask) { mask.put(d_logits + r * vocabulary + c, mask.get(row + c)); });
      }
    });
    if (!a.dh) continue;
    if (a.bias) add_bias_gradient(s, rows, vocabulary, d_logits, vocabulary, a.d_bias);
    Act* dh = a.dh + begin * cols;
    if (!fast_multiply(s, fast, rows, d_logits, vocabulary, library_weights<Act>{a.head, false}, dh, cols))
      multiply(s, rows, cols, vocabulary, d_logits, vocabulary, packed_weights(s, a.head, false), dh, cols);
    if (!fast_backward_weight(s, fast, rows, vocabulary, cols, d_logits, vocabulary, h, cols, packed, a.dw))
      backward_weight(s, rows, vocabulary, cols, d_logits, vocabulary, h, cols, packed, a.dw);
  }
  return true;
}

template <class Act>
void cross_entropy(stream& s, const cross_entropy_args<Act>& a) {
  if (const auto fast = fast_products_for<Act>(s, a.rows); fast && cross_entropy_by_chunks(s, fast, a)) return;
  const std::int64_t vocabulary = a.head->out, cols = a.head->in, row = round_up(vocabulary, panel);
  const float* forward = packed_weights(s, a.head, true);
  const float* backward = a.dh ? packed_weights(s, a.head, false) : nullptr;
  constexpr std::int64_t chunk = 1024, rows_at_once = 4 * strip_rows;
  float* d_logits = a.dh ? shared_floats(s, chunk * (row + round_up(cols, panel))) : nullptr;
  for (std::int64_t begin = 0; begin < a.rows; begin += chunk) {
    const std::int64_t rows = a.rows - begin < chunk ? a.rows - begin : chunk, tiles = (rows + rows_at_once - 1) / rows_at_once;
    s.workers.run(tiles, [&](std::int64_t tile, int worker) {
      const std::int64_t first = rows * tile / tiles, m = rows * (tile + 1) / tiles - first, padded = round_up(cols, panel);
      const std::int64_t floats = m * (2 * padded + (a.dh ? 0 : row));
      auto* scratch = reinterpret_cast<float*>(s.workers.scratch(worker, static_cast<std::size_t>(floats) * sizeof(float)));
      float* logits = a.dh ? d_logits + first * row : scratch + m * 2 * padded;
      const rows_view h = view_rows(a.h + (begin + first) * cols, cols, m, cols, scratch);
      product(m, vocabulary, cols, h.as_left(), {forward, panel, cols * panel}, {logits, row, panel}, into::overwrite);
      for (std::int64_t r = 0; r < m; ++r) {
        add_bias_row(a.bias, vocabulary, logits + r * row);
        a.losses[begin + first + r] = softmax_row(logits + r * row, vocabulary, a.targets[begin + first + r], a.scale, a.z_loss, a.dh);
      }
      if (!a.dh) return;
      float* dh = scratch + m * padded;
      product(m, cols, vocabulary, {logits, row, 1}, {backward, panel, vocabulary * panel}, {dh, padded, panel}, into::overwrite);
      store_rows(dh, padded, m, cols, a.dh + (begin + first) * cols, cols);
    });
    if (a.dh && a.bias) add_bias_gradient(s, rows, vocabulary, d_logits, row, a.d_bias);
    if (a.dh) backward_weight(s, rows, vocabulary, cols, d_logits, row, a.h + begin * cols, cols, d_logits + chunk * row, a.dw);
  }
}
