#include "framework/layers/monarch/implicit_filter.hpp"

#include "framework/core/buffer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace isthmus {

namespace {

constexpr std::array numbers_of_layers{"0", "2", "4", "6"};  // sines between

std::string layer_name(const std::string& prefix, std::size_t way, const char* number) {
  return prefix + (way == 0 ? "" : "reverse.") + number;
}

/// [context, features]
template <class Real>
std::vector<Real> features_of(const implicit_shape& shape) {
  std::vector<Real> features;
  const std::int64_t bands = (shape.features - 1) / 2;
  for (std::int64_t t = 0; t < shape.context; ++t) {
    features.push_back(shape.context == 1 ? Real{0} : static_cast<Real>(static_cast<double>(t) / static_cast<double>(shape.context - 1)));
    const double turn = 2 * std::numbers::pi * static_cast<double>(t) / static_cast<double>(shape.context);
    const auto frequency = [&](std::int64_t k) {
      return bands == 1 ? 1e-4 : 1e-4 + (static_cast<double>(bands) - 1 - 1e-4) * static_cast<double>(k) / static_cast<double>(bands - 1);
    };
    for (std::int64_t k = 0; k < bands; ++k) features.push_back(static_cast<Real>(std::cos(frequency(k) * turn)));
    for (std::int64_t k = 0; k < bands; ++k) features.push_back(static_cast<Real>(-std::sin(frequency(k) * turn)));
  }
  return features;
}

}  // namespace

template <class Act>
implicit_filter<Act>::implicit_filter(const implicit_shape& shape, const layer_parts<Act>& parts, const std::string& prefix)
    : shape_(shape), ops_(parts.real_ops), freq_(parts.vector(prefix + "freq")), decay_(parts.vector(prefix + "decay")) {
  if (shape.learned) learned_ = parts.vector(prefix + "features");
  ways_.resize(shape.both_ways ? 2 : 1);
  for (std::size_t i = 0; i < ways_.size(); ++i) {
    for (const char* number : numbers_of_layers) {
      const bool last = number == numbers_of_layers.back();
      const std::string name = layer_name(prefix, i, number);
      const auto weight = parts.vector(name + ".weight");
      const std::int64_t in = number == numbers_of_layers.front() ? shape.features : shape.order;
      ways_[i].layers.push_back({ops_.make_matrix(weight.weight, last ? shape.d : shape.order, in), weight.gradient,
                                 last ? parameter<real>{} : parts.vector(name + ".bias")});
    }
  }
  computed_ = features_of<real>(shape);
}

template <class Act>
typename implicit_filter<Act>::workspace implicit_filter<Act>::take(std::int64_t taps, arena& memory) const {
  workspace w{.taps = taps};
  for (auto& before : w.before) before = memory.take<real>(taps * shape_.order);
  w.after = memory.take<real>(taps * shape_.order);
  w.rows = memory.take<real>(taps * shape_.d);
  if (shape_.learned) w.d_features = memory.take<real>(taps * shape_.features);
  return w;
}

template <class Act>
typename implicit_filter<Act>::filter_memory implicit_filter<Act>::place(std::int64_t length, arena& shared) const {
  filter_memory m;
  for (std::size_t i = 0; i < ways_.size(); ++i) {
    auto& w = m.ways[i];
    w = take(std::min(length, shape_.context), shared);
    w.h = shared.take<real>(shape_.d * w.taps);
    w.dh = shared.take<real>(shape_.d * w.taps);
  }
  return m;
}

template <class Act>
typename implicit_filter<Act>::real implicit_filter<Act>::fading(std::int64_t t, std::int64_t c) const {
  return std::exp(-computed_[static_cast<std::size_t>(t * shape_.features)] * std::abs(decay_.weight[c]));
}

/// after = sin(freq before).
template <class Act>
void implicit_filter<Act>::sine(const workspace& memory, std::size_t layer) const {
  const real* x = memory.before[layer];
  for (std::int64_t t = 0; t < memory.taps; ++t)
    for (std::int64_t i = 0; i < shape_.order; ++i)
      memory.after[t * shape_.order + i] = std::sin(freq_.weight[i] * x[t * shape_.order + i]);
}

/// From the gradient in `after`: that of `before`, in its place. The frequencies' gradient grows.
template <class Act>
void implicit_filter<Act>::sine_back(const workspace& memory, std::size_t layer) const {
  real* x = memory.before[layer];
  for (std::int64_t t = 0; t < memory.taps; ++t) {
    for (std::int64_t i = 0; i < shape_.order; ++i) {
      const std::int64_t at = t * shape_.order + i;
      const real slope = memory.after[at] * std::cos(freq_.weight[i] * x[at]);
      freq_.gradient[i] += slope * x[at];
      x[at] = slope * freq_.weight[i];
    }
  }
}

template <class Act>
void implicit_filter<Act>::run(const layer_pass<Act>& p, const way& w, const workspace& memory) const {
  const real* x = features();
  for (std::size_t i = 0; i < w.layers.size(); ++i) {
    const auto& layer = w.layers[i];
    const bool last = i + 1 == w.layers.size();
    real* y = last ? memory.rows : memory.before[i];
    ops_.linear(p.stream, {.w = layer.w.get(), .x = x, .y = y, .rows = memory.taps, .x_stride = layer.w->in, .y_stride = layer.w->out});
    if (last) break;
    ops_.bias(p.stream, {.bias = layer.bias.weight, .y = y, .rows = memory.taps, .cols = shape_.order, .y_stride = shape_.order});
    sine(memory, i);
    x = memory.after;
  }
  for (std::int64_t t = 0; t < memory.taps; ++t)
    for (std::int64_t c = 0; c < shape_.d; ++c) memory.rows[t * shape_.d + c] *= fading(t, c);
}

template <class Act>
void implicit_filter<Act>::run_back(const layer_pass<Act>& p, const way& w, const workspace& memory) const {
  for (std::int64_t t = 0; t < memory.taps; ++t)
    for (std::int64_t c = 0; c < shape_.d; ++c) memory.rows[t * shape_.d + c] = memory.dh[c * memory.taps + t] * fading(t, c);
  for (std::int64_t c = 0; c < shape_.d; ++c) {
    real sum = 0;
    for (std::int64_t t = 0; t < memory.taps; ++t)
      sum += computed_[static_cast<std::size_t>(t * shape_.features)] * memory.dh[c * memory.taps + t] * memory.h[c * memory.taps + t];
    decay_.gradient[c] -= decay_.weight[c] < 0 ? -sum : sum;
  }
  const real* dy = memory.rows;
  for (std::size_t i = w.layers.size(); i-- > 0;) {
    const auto& layer = w.layers[i];
    const std::int64_t in = layer.w->in, out = layer.w->out;
    if (i > 0) sine(memory, i - 1);  // the layer's input once more
    const real* x = i > 0 ? memory.after : features();
    ops_.linear_backward_weight(
        p.stream, {.w = layer.w.get(), .x = x, .dy = dy, .dw = layer.gradient, .rows = memory.taps, .x_stride = in, .dy_stride = out});
    if (layer.bias.gradient)
      ops_.bias_backward(p.stream, {.dy = dy, .d_bias = layer.bias.gradient, .rows = memory.taps, .cols = out, .dy_stride = out});
    if (i == 0) break;
    ops_.linear_backward_input(p.stream,
                               {.w = layer.w.get(), .dy = dy, .dx = memory.after, .rows = memory.taps, .dy_stride = out, .dx_stride = in});
    sine_back(memory, i - 1);
    dy = memory.before[i - 1];
  }
  if (!learned_.gradient) return;
  const std::int64_t features = shape_.features;
  ops_.linear_backward_input(p.stream, {.w = w.layers.front().w.get(),
                                        .dy = dy,
                                        .dx = memory.d_features,
                                        .rows = memory.taps,
                                        .dy_stride = shape_.order,
                                        .dx_stride = features});
  ops_.add(
      p.stream,
      {.x = memory.d_features, .y = learned_.gradient, .rows = memory.taps, .cols = features, .x_stride = features, .y_stride = features});
}

template <class Act>
std::vector<typename implicit_filter<Act>::real> implicit_filter<Act>::rows_of_taps(const layer_pass<Act>& p) const {
  arena counting;
  take(shape_.context, counting);
  buffer memory(counting.most_used());
  arena own(memory.bytes());
  const workspace w = take(shape_.context, own);
  run(p, ways_[0], w);
  return {w.rows, w.rows + shape_.context * shape_.d};
}

template <class Act>
void implicit_filter<Act>::materialise(const layer_pass<Act>& p, const filter_memory& m) const {
  for (std::size_t i = 0; i < ways_.size(); ++i) {
    const workspace& w = m.ways[i];
    run(p, ways_[i], w);
    for (std::int64_t t = 0; t < w.taps; ++t)
      for (std::int64_t c = 0; c < shape_.d; ++c) w.h[c * w.taps + t] = w.rows[t * shape_.d + c];
  }
}

template <class Act>
void implicit_filter<Act>::clear(const filter_memory& m) const {
  for (std::size_t i = 0; i < ways_.size(); ++i) std::fill_n(m.ways[i].dh, shape_.d * m.taps(), real{0});
}

template <class Act>
void implicit_filter<Act>::backward(const layer_pass<Act>& p, const filter_memory& m) const {
  for (std::size_t i = 0; i < ways_.size(); ++i) run_back(p, ways_[i], m.ways[i]);
}

template <class Act>
void implicit_filter<Act>::weights_changed() {
  for (auto& w : ways_)
    for (auto& layer : w.layers) layer.w->weights_changed();
}

void declare_implicit_filter(const implicit_shape& shape, const std::string& prefix, tensor_list& tensors) {
  if (shape.learned)
    tensors.add(prefix + "features", {shape.context, shape.features}, false,
                [shape](rng&, std::span<float> w) { std::ranges::copy(features_of<float>(shape), w.begin()); });
  for (std::size_t way = 0; way < (shape.both_ways ? 2 : 1); ++way) {
    for (const char* number : numbers_of_layers) {
      const bool first = number == numbers_of_layers.front(), last = number == numbers_of_layers.back();
      const std::string name = layer_name(prefix, way, number);
      tensors.add_matrix(name + ".weight", last ? shape.d : shape.order, first ? shape.features : shape.order);
      if (!last) tensors.add_bias(name + ".bias", shape.order);
    }
  }
  tensors.add_vector(prefix + "freq", shape.order, constant_values(static_cast<float>(shape.frequency)));
  // From 0.01 at 0.3 of the context to 0.01 at 1.5 of it, over the channels.
  tensors.add_vector(prefix + "decay", shape.d, [](rng&, std::span<float> w) {
    const double fast = -std::log(0.01) / 0.3, slow = -std::log(0.01) / 1.5;
    for (std::size_t c = 0; c < w.size(); ++c)
      w[c] = static_cast<float>(w.size() == 1 ? slow : slow + (fast - slow) * static_cast<double>(c) / static_cast<double>(w.size() - 1));
  });
}

template class implicit_filter<float>;
template class implicit_filter<kernels::bf16>;
template class implicit_filter<double>;

}  // namespace isthmus
