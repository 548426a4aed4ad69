#include "actors/sim/arithmetic.hpp"

#include "framework/core/rng.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/optim/adamw.hpp"
#include "kernels/select.hpp"

#include <algorithm>
#include <memory>

namespace isthmus::actors {

namespace {

/// A device's model, which says what it is about to do.
struct device_model final : learner {
  device_model(const recipe& plan, const kernels::backend& backend, kernels::team& team, std::shared_ptr<float_array> weights,
               std::shared_ptr<float_array> gradients)
      : model(plan.model, backend, team, 2048, std::move(weights), std::move(gradients)) {}
  const parameter_layout& layout() const override { return model.layout(); }
  std::span<float> weights() override { return model.weights(); }
  std::span<float> gradients() override { return model.gradients(); }
  void weights_changed() override { model.weights_changed(); }
  double accumulate(const token_batch& batch, double scale) override {
    before(device_work::gradient);
    return model.accumulate(batch, scale);
  }
  double evaluate(const token_batch& batch) override {
    before(device_work::evaluation);
    return model.evaluate(batch);
  }

  hybrid_model model;
  std::function<void(device_work)> before;
};

constexpr int numbers_of_row = 8;

/// A device that moves whole numbers.
struct device_grid final : learner {
  device_grid(std::shared_ptr<float_array> w, std::shared_ptr<float_array> g) : weights_(std::move(w)), gradients_(std::move(g)) {}
  const parameter_layout& layout() const override { return layout_; }
  std::span<float> weights() override { return weights_->span(); }
  std::span<float> gradients() override { return gradients_->span(); }
  void weights_changed() override {}
  double accumulate(const token_batch& batch, double) override {
    before(device_work::gradient);
    const auto width = static_cast<std::size_t>(batch.context + 1);
    for (std::int64_t r = 0; r < batch.rows; ++r)
      add_grid_change(batch.ids.subspan(static_cast<std::size_t>(r) * width, width), gradients_->span());
    return static_cast<double>(batch.tokens());
  }
  double evaluate(const token_batch& batch) override {
    before(device_work::evaluation);
    return static_cast<double>(batch.tokens());
  }

  parameter_layout layout_ = grid_layout();
  std::shared_ptr<float_array> weights_, gradients_;
  std::function<void(device_work)> before;
};

/// Moments that stay zero: checkpoints want some.
struct grid_moments {
  float_array first, second;
  explicit grid_moments(std::size_t floats) : first(floats), second(floats) {}
};

template <class Device>
std::unique_ptr<learner> with_hook(std::unique_ptr<Device> made, std::uint32_t device, const arithmetic_hooks& hooks) {
  made->before = [device, before = hooks.before](device_work what) {
    if (before) before(device, what);
  };
  return made;
}

}  // namespace

site_arithmetic model_arithmetic(const recipe& plan, kernels::team& team, arithmetic_hooks hooks) {
  const auto& backend = *kernels::find_backend("reference");
  const auto optimizer = std::make_shared<adamw>(hybrid_layout(plan.model), adamw_options{});
  site_arithmetic a;
  a.layout = hybrid_layout(plan.model);
  a.initialise = [plan](std::span<float> weights) { initial_weights(plan.model, static_cast<std::uint64_t>(plan.run.seed), weights); };
  a.make_learner = [plan, hooks, &backend, &team](std::uint32_t device, std::shared_ptr<float_array> weights,
                                                  std::shared_ptr<float_array> gradients) {
    return with_hook(std::make_unique<device_model>(plan, backend, team, std::move(weights), std::move(gradients)), device, hooks);
  };
  a.update = [hooks, &backend, optimizer](learner& any, const optimizer_slice& s) {
    auto& device = dynamic_cast<device_model&>(any);
    device.before(device_work::update);
    if (hooks.before_update) hooks.before_update(s);
    optimizer->update(backend, device.model.stream(), s.weights, s.gradients, s.begin, s.end, s.learning_rate,
                      static_cast<float>(s.gradient_scale), true, static_cast<std::int64_t>(s.step));
    if (hooks.after_update) hooks.after_update(s);
  };
  a.squared_norm = [&backend](learner& any, std::span<const float> gradients) {
    auto& device = dynamic_cast<device_model&>(any);
    device.before(device_work::reduction);
    return adamw::squared_norm(backend, device.model.stream(), gradients);
  };
  a.first_moment = optimizer->first();
  a.second_moment = optimizer->second();
  return a;
}

parameter_layout grid_layout() {
  parameter_layout layout;  // tensors on both sides of the 4096 elements from which on SparseLoCo is sparse; no gaps
  layout.add("grid.a", {64}, false);
  layout.add("grid.b", {32, 8}, true);
  layout.add("grid.c", {4096}, true);
  layout.add("grid.d", {16}, false);
  layout.add("grid.e", {128}, true);
  return layout;
}

void add_grid_change(std::span<const std::int32_t> row, std::span<float> change) {
  std::uint64_t key = row.size();
  for (const std::int32_t id : row) key = mix64(key ^ static_cast<std::uint64_t>(id));
  for (int i = 0; i < numbers_of_row; ++i) {
    key = mix64(key + 1);
    change[key % change.size()] += static_cast<float>(static_cast<int>((key >> 32) % 15) - 7);
  }
}

site_arithmetic grid_arithmetic(arithmetic_hooks hooks) {
  site_arithmetic a;
  a.layout = grid_layout();
  const auto moments = std::make_shared<grid_moments>(static_cast<std::size_t>(a.layout.size));
  a.initialise = [](std::span<float> weights) {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(mix64(i) % 1024);
  };
  a.make_learner = [hooks](std::uint32_t device, std::shared_ptr<float_array> weights, std::shared_ptr<float_array> gradients) {
    return with_hook(std::make_unique<device_grid>(std::move(weights), std::move(gradients)), device, hooks);
  };
  a.update = [hooks, moments](learner& any, const optimizer_slice& s) {
    dynamic_cast<device_grid&>(any).before(device_work::update);
    if (hooks.before_update) hooks.before_update(s);
    for (auto i = static_cast<std::size_t>(s.begin); i < static_cast<std::size_t>(s.end); ++i) {
      s.weights[i] -= s.gradients[i];
      s.gradients[i] = 0;
    }
    if (hooks.after_update) hooks.after_update(s);
  };
  a.squared_norm = [](learner& any, std::span<const float> gradients) {
    dynamic_cast<device_grid&>(any).before(device_work::reduction);
    double sum = 0;
    for (const float g : gradients) sum += static_cast<double>(g) * static_cast<double>(g);
    return sum;
  };
  a.first_moment = moments->first.span();
  a.second_moment = moments->second.span();
  return a;
}

}  // namespace isthmus::actors
