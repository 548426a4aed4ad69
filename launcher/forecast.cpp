#include "launcher/forecast.hpp"

#include "framework/core/error.hpp"
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

/// Each member holds anchor, momentum and residual of every group; a home, besides, what it adds up of its groups. What comes and goes is most
/// while a checkpoint is written: copies of weights, moments, anchor, momentum and residual, and the bytes of a file. So many arrays of all
/// parameters were measured, to 7 %, with 5 to 7 million of them.
double memory_of_rounds(const recipe& plan, double share_of_groups) {
  constexpr double of_a_member = 8.2, of_a_home = 5.2;
  return (of_a_member + of_a_home * share_of_groups) * bytes_a_number * static_cast<double>(hybrid_layout(plan.model).size);
}

/// Groups go to the homes in turn.
std::vector<double> shares_of_groups(const recipe& plan) {
  const auto groups = std::max<std::int64_t>(1, plan.round.groups);
  const auto homes = std::max<std::int64_t>(1, std::ranges::count_if(plan.sites, [](const auto& s) { return s.home; }));
  std::vector<double> shares;
  std::int64_t home = 0;
  for (const auto& site : plan.sites) {
    const std::int64_t own = site.home ? groups / homes + (home < groups % homes ? 1 : 0) : 0;
    home += site.home ? 1 : 0;
    shares.push_back(static_cast<double>(own) / static_cast<double>(groups));
  }
  return shares;
}

}  // namespace

expected<void> check_activations(const recipe& plan) {
  if (plan.model.activation_mib == 0) return {};
  kernels::serial_team team;
  hybrid_model model(plan.model, kernels::default_backend(), team);  // its arrays are not touched
  try {
    model.plan(1, plan.train.context);
  } catch (const contract_error& e) { return fail(errc::recipe_invalid, e.what()); }
  return {};
}

std::vector<site_forecast> forecast_memory(const recipe& plan) {
  constexpr double program = 70 << 20;
  const auto shares = shares_of_groups(plan);
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
                         .rounds = memory_of_rounds(plan, shares[forecasts.size()])});
  }
  return forecasts;
}

}  // namespace isthmus::launcher
