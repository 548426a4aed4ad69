#include "framework/optim/adamw.hpp"

#include "framework/core/error.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus {

float clip_scale(double squared_norm, double clip_norm) {
  const double norm = std::sqrt(squared_norm);
  if (!std::isfinite(norm)) return static_cast<float>(norm);
  return clip_norm > 0 && norm > clip_norm ? static_cast<float>(clip_norm / norm) : 1.0F;
}

adamw::adamw(const parameter_layout& layout, const adamw_options& options)
    : options_(options), first_(static_cast<std::size_t>(layout.size)), second_(static_cast<std::size_t>(layout.size)) {
  for (const auto& slot : layout.slots) extents_.push_back({slot.offset, slot.count, slot.decays ? options.weight_decay : 0.0F});
}

double adamw::squared_norm(const kernels::backend& backend, kernels::stream& stream, std::span<const float> gradients) {
  double sum = 0;
  backend.sum_of_squares(stream, {gradients.data(), static_cast<std::int64_t>(gradients.size()), &sum});
  return sum;
}

void adamw::update(const kernels::backend& backend, kernels::stream& stream, std::span<float> weights, std::span<float> gradients,
                   std::int64_t begin, std::int64_t end, double learning_rate, float gradient_scale, bool clear_gradients,
                   std::int64_t step_number) {
  ensure(weights.size() == first_.size() && gradients.size() == first_.size(), "adamw: arrays of another layout");
  ensure(0 <= begin && begin <= end && end <= static_cast<std::int64_t>(first_.size()), "adamw: slice out of range");
  std::vector<kernels::decay_extent> slice;
  for (const auto& extent : extents_) {
    const std::int64_t from = std::max(extent.offset, begin), to = std::min(extent.offset + extent.count, end);
    if (from < to) slice.push_back({from, to - from, extent.decay});
  }
  const auto step = static_cast<double>(step_number);
  backend.adamw(stream, {.weights = weights.data(),
                         .first = first_.data(),
                         .second = second_.data(),
                         .gradients = gradients.data(),
                         .extents = slice.data(),
                         .n_extents = static_cast<std::int64_t>(slice.size()),
                         .rate = static_cast<float>(learning_rate),
                         .beta1 = options_.beta1,
                         .beta2 = options_.beta2,
                         .eps = options_.eps,
                         .gradient_scale = gradient_scale,
                         .correction1 = static_cast<float>(1 - std::pow(static_cast<double>(options_.beta1), step)),
                         .correction2 = static_cast<float>(1 - std::pow(static_cast<double>(options_.beta2), step)),
                         .clear_gradients = clear_gradients});
}

double adamw::step(const kernels::backend& backend, kernels::stream& stream, std::span<float> weights, std::span<float> gradients,
                   double learning_rate) {
  const double squared = squared_norm(backend, stream, gradients);
  if (!std::isfinite(squared)) return squared;
  update(backend, stream, weights, gradients, 0, static_cast<std::int64_t>(weights.size()), learning_rate,
         clip_scale(squared, options_.clip_norm), true, steps_ + 1);
  finish_step();
  return std::sqrt(squared);
}

}  // namespace isthmus
