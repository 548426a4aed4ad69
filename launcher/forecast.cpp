#include "launcher/forecast.hpp"

#include "framework/core/rng.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/optim/adamw.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

namespace isthmus::launcher {

namespace {

constexpr double bytes_a_number = 4;

/// Of this process, in bytes.
double resident() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS:")) return std::strtod(line.c_str() + 6, nullptr) * 1024;
  return 0;
}

/// What training takes: of one device alone, and of that what the devices of a site share.
struct training_memory {
  double device = 0, shared = 0;
};

training_memory train_a_step(const recipe& plan, std::int64_t devices, std::int64_t threads) {
  const double before = resident();
  const auto layout = hybrid_layout(plan.model);
  kernels::stealing_team team(static_cast<int>(threads));
  hybrid_model model(plan.model, kernels::default_backend(), team);
  initial_weights(plan.model, 1, model.weights());
  model.weights_changed();
  adamw optimizer(layout, {});
  const std::int64_t context = plan.train.context, rows = std::max<std::int64_t>(1, plan.train.tokens_per_step / context / devices);
  rng random(1, 0, 0, draw::sampling);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * (context + 1)));
  for (auto& id : ids) id = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(plan.model.vocabulary)));
  model.accumulate({ids, rows, context}, 1);
  optimizer.update(model.backend(), model.stream(), model.weights(), model.gradients(), 0, layout.size, 1e-4F, 1, true, 1);
  return {resident() - before, 3 * bytes_a_number * static_cast<double>(layout.size)};  // weights and two moments
}

/// Each member holds anchor, momentum and residual of every group, and while a round closes the next anchor and momentum beside them;
/// contributions and a checkpoint's copies come and go.
double memory_of_rounds(const recipe& plan) {
  const double numbers = static_cast<double>(hybrid_layout(plan.model).size);
  constexpr double arrays = 5;
  return arrays * bytes_a_number * numbers;
}

}  // namespace

std::vector<site_forecast> forecast_memory(const recipe& plan) {
  constexpr double program = 60 << 20;
  std::map<std::pair<std::int64_t, std::int64_t>, training_memory> measured;
  std::vector<site_forecast> forecasts;
  for (const auto& site : plan.sites) {
    const auto devices = std::max<std::int64_t>(1, site.devices);
    auto at = measured.find({devices, site.threads_per_device});
    if (at == measured.end())
      at = measured.emplace(std::pair{devices, site.threads_per_device}, train_a_step(plan, devices, site.threads_per_device)).first;
    const auto& one = at->second;
    forecasts.push_back({.process = program,
                         .training = one.device + static_cast<double>(devices - 1) * (one.device - one.shared),
                         .rounds = memory_of_rounds(plan)});
  }
  return forecasts;
}

}  // namespace isthmus::launcher
