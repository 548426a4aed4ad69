// Mixtures of experts: which experts a token has, and the way of its row there and back.

/// p = e^(logits - largest), wide; gives the largest logit and the sum.
struct exponentials {
  float largest, sum;
};
template <class Act>
ISTHMUS_INLINE exponentials exponentials_of(const Act* logits, std::int64_t experts, float* wide, float* p) {
  float largest = static_cast<float>(logits[0]);
  for (std::int64_t e = 0; e < experts; ++e) {
    wide[e] = static_cast<float>(logits[e]);
    largest = wide[e] > largest ? wide[e] : largest;
  }
  over(experts, [&](std::int64_t c, auto mask) { mask.put(p + c, exp(mask.get(wide + c) - largest)); });
  float total = 0;
  for (std::int64_t e = 0; e < experts; ++e) total += p[e];
  return {largest, total};
}

/// Sigmoids are tiny where all logits are far below zero.
constexpr float least_sum_of_scores = 1e-20F;

/// memory: [2, experts].
template <class Act>
void route_row(const route_args<Act>& a, std::int64_t r, float* memory) {
  float *wide = memory, *p = memory + a.experts;
  std::int32_t* chosen = a.chosen + r * a.active;
  float* weights = a.weights + r * a.active;
  const float all = exponentials_of(a.logits + r * a.experts, a.experts, wide, p).sum;
  if (a.rule == router_rule::sigmoid) {
    over(a.experts, [&](std::int64_t c, auto mask) { mask.put(p + c, sigmoid(mask.get(wide + c))); });
    if (a.correction)
      for (std::int64_t e = 0; e < a.experts; ++e) wide[e] = p[e] + a.correction[e];
  }
  choose_largest(wide, a.experts, a.active, chosen);
  float sum = 0;
  if (a.rule == router_rule::softmax)  // over the chosen alone: their sum over all may round to zero
    over(a.active, [&](std::int64_t c, auto mask) {
      float apart[width] = {};
      for (std::int64_t j = c; j < c + width && j < a.active; ++j) apart[j - c] = wide[chosen[j]] - wide[chosen[0]];
      mask.put(weights + c, exp(load(apart)));
    });
  else
    for (std::int64_t j = 0; j < a.active; ++j) weights[j] = p[chosen[j]];
  for (std::int64_t j = 0; j < a.active; ++j) sum += weights[j];
  if (a.rule == router_rule::softmax_all) sum = all;
  if (a.rule == router_rule::sigmoid && sum < least_sum_of_scores) sum = least_sum_of_scores;
  for (std::int64_t j = 0; j < a.active; ++j) weights[j] *= a.scale / sum;
}

template <class Act>
void route(stream& s, const route_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int worker) {
    float* memory = own_floats(s, worker, 2 * a.experts);
    for (std::int64_t r = first; r < first + rows; ++r) route_row(a, r, memory);
  });
  sort_choices(a);
}

/// memory: [3, experts].
template <class Act>
void route_backward_row(const route_backward_args<Act>& a, std::int64_t r, float* memory) {
  float *wide = memory, *p = memory + a.experts, *d = memory + 2 * a.experts;
  const bool sigmoids = a.rule == router_rule::sigmoid;
  const auto [largest, all] = exponentials_of(a.logits + r * a.experts, a.experts, wide, p);
  const float lse = largest + __builtin_logf(all);
  for (std::int64_t e = 0; e < a.experts; ++e) {
    p[e] /= all;
    d[e] = a.z * 2 * lse * p[e];
  }
  if (sigmoids) over(a.experts, [&](std::int64_t c, auto mask) { mask.put(p + c, sigmoid(mask.get(wide + c))); });
  float along = 0, sum = 0, mean = 0;
  for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j) along += a.weights[j] * a.d_weights[j];
  for (std::int64_t e = 0; e < a.experts; ++e) sum += p[e];
  const float slope = a.balance * static_cast<float>(a.experts) / static_cast<float>(a.rows) / sum;
  for (std::int64_t e = 0; e < a.experts; ++e) mean += p[e] / sum * static_cast<float>(a.counts[e]);
  for (std::int64_t e = 0; e < a.experts; ++e)
    d[e] += p[e] * (sigmoids ? 1 - p[e] : 1) * slope * (static_cast<float>(a.counts[e]) - mean) -
            (a.rule == router_rule::softmax_all ? p[e] * along : 0);
  for (std::int64_t j = 0; j < a.active; ++j) {
    const std::int32_t e = a.chosen[r * a.active + j];
    const float w = a.weights[r * a.active + j], dw = a.d_weights[r * a.active + j];
    d[e] += a.rule == router_rule::softmax_all ? w * dw : w * (dw - along / a.scale) * (sigmoids ? 1 - p[e] : 1);
  }
  store_rows(d, a.experts, 1, a.experts, a.d_logits + r * a.experts, a.experts);
}

template <class Act>
void route_backward(stream& s, const route_backward_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int worker) {
    float* memory = own_floats(s, worker, 3 * a.experts);
    for (std::int64_t r = first; r < first + rows; ++r) route_backward_row(a, r, memory);
  });
}

template <class Act>
void dispatch(stream& s, const dispatch_args<Act>& a) {
  const auto bytes = static_cast<std::size_t>(a.cols) * sizeof(Act);
  over_row_blocks(s, a.slots, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t i = first; i < first + rows; ++i)
      if (a.source[i] < 0)
        __builtin_memset(static_cast<void*>(a.y + i * a.cols), 0, bytes);
      else
        __builtin_memcpy(static_cast<void*>(a.y + i * a.cols), a.x + a.source[i] / a.active * a.cols, bytes);
  });
}

template <class Act>
void combine(stream& s, const combine_args<Act>& a) {
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      Act* y = a.y + r * a.cols;
      over(a.cols, [&](std::int64_t c, auto mask) {
        vf total = a.adds ? mask.get(y + c) : vf{};
        for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j)
          total += splat(a.weights ? a.weights[j] : 1.0F) * mask.get(a.x + a.place[j] * a.cols + c);
        mask.put(y + c, total);
      });
    }
  });
}

template <class Act>
void combine_backward(stream& s, const combine_backward_args<Act>& a) {
  over_row_blocks(s, a.slots, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t i = first; i < first + rows; ++i) {
      const std::int32_t choice = a.source[i];
      if (choice < 0) {
        __builtin_memset(static_cast<void*>(a.dx + i * a.cols), 0, static_cast<std::size_t>(a.cols) * sizeof(Act));
        continue;
      }
      const Act *x = a.x + i * a.cols, *dy = a.dy + choice / a.active * a.cols;
      const vf weight = splat(a.weights[choice]);
      vf along = vf{};
      over(a.cols, [&](std::int64_t c, auto mask) {
        const vf d = mask.get(dy + c);
        along += d * mask.get(x + c);
        mask.put(a.dx + i * a.cols + c, weight * d);
      });
      a.d_weights[choice] = sum(along);
    }
  });
}
