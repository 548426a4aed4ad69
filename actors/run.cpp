#include "actors/run.hpp"

#include "actors/incarnation.hpp"
#include "actors/lock_file.hpp"
#include "actors/messages.hpp"
#include "actors/process.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/optim/adamw.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"

#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/send.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <utility>

namespace isthmus::actors {

namespace {

/// The rest of a step that keeps the site to its pace, and as slow as a rehearsal wants it; empty when neither is asked for.
std::function<duration(duration)> pace_of(const site_process& process) {
  const auto& site = process.plan.sites.at(process.self);
  const double seconds = site.tokens_per_second > 0 ? static_cast<double>(process.plan.train.tokens_per_step) / site.tokens_per_second : 0;
  if (seconds == 0 && !process.steering) return {};
  return [seconds, steering = process.steering](duration spent) {
    const double slowness = steering ? steering->slowness() : 1;
    return from_seconds(std::max(seconds, to_seconds(spent)) * slowness) - spent;
  };
}

}  // namespace

namespace {

/// Whom it audits must not be known to anybody: the numbers come from the system.
audit_means audits_of(const site_process& process) {
  std::random_device chance;
  const auto secret = static_cast<std::uint64_t>(chance()) << 32 | chance();
  return {process.shared_texts, [plan = process.plan, site = process.self] { return make_arithmetic(plan, site); }, secret};
}

}  // namespace

site_arithmetic make_arithmetic(const recipe& plan, site_id site) {
  const auto& backend = kernels::default_backend();
  const auto layout = hybrid_layout(plan.model);
  const adamw_options options{static_cast<float>(plan.train.beta1), static_cast<float>(plan.train.beta2),
                              static_cast<float>(plan.train.epsilon), static_cast<float>(plan.train.weight_decay), plan.train.clip_norm};
  const auto optimizer = std::make_shared<adamw>(layout, options);
  const auto threads = static_cast<int>(plan.sites.at(site).threads_per_device);

  /// A model with the threads it runs on.
  class device_model final : public learner {
  public:
    device_model(const model_config& c, const kernels::backend& b, int n, std::shared_ptr<float_array> weights,
                 std::shared_ptr<float_array> gradients)
        : team_(std::make_unique<kernels::stealing_team>(n)), model(c, b, *team_, 2048, std::move(weights), std::move(gradients)) {}
    const parameter_layout& layout() const override { return model.layout(); }
    std::span<float> weights() override { return model.weights(); }
    std::span<float> gradients() override { return model.gradients(); }
    void weights_changed() override { model.weights_changed(); }
    double accumulate(const token_batch& batch, double scale) override { return model.accumulate(batch, scale); }
    double evaluate(const token_batch& batch) override { return model.evaluate(batch); }

  private:
    std::unique_ptr<kernels::team> team_;

  public:
    hybrid_model model;
  };

  site_arithmetic made;
  made.layout = layout;
  made.initialise = [plan](std::span<float> weights) { initial_weights(plan.model, static_cast<std::uint64_t>(plan.run.seed), weights); };
  made.make_learner = [&backend, plan, threads](std::uint32_t, std::shared_ptr<float_array> weights,
                                                std::shared_ptr<float_array> gradients) {
    return std::make_unique<device_model>(plan.model, backend, threads, std::move(weights), std::move(gradients));
  };
  made.update = [&backend, optimizer](learner& model, const optimizer_slice& s) {
    optimizer->update(backend, dynamic_cast<device_model&>(model).model.stream(), s.weights, s.gradients, s.begin, s.end, s.learning_rate,
                      static_cast<float>(s.gradient_scale), true, static_cast<std::int64_t>(s.step));
  };
  made.squared_norm = [&backend](learner& model, std::span<const float> gradients) {
    return adamw::squared_norm(backend, dynamic_cast<device_model&>(model).model.stream(), gradients);
  };
  made.first_moment = optimizer->first();
  made.second_moment = optimizer->second();
  return made;
}

int run_site(site_process process) {
  const sigset_t signals = block_signals();
  const std::string who = "site " + process.plan.sites.at(process.self).name;
  const std::string folder = own_folder(process.self);
  auto disk = open_disk(process.run_folder);
  if (!disk) return say(who, disk.error().message), exit_environment;
  if (auto ok = (*disk)->make_folders(folder); !ok) return say(who, ok.error().message), exit_environment;
  const lock_file lock(process.run_folder + "/" + folder + "/lock", lock_patience);
  if (!lock.held())
    return say(who, lock.holder_text() + " is this site already (it holds " + folder + "/lock); end it, then resume"), exit_environment;
  const auto incarnation = next_incarnation(**disk, folder, std::random_device{}());
  if (!incarnation) return say(who, incarnation.error().message), exit_code_of(incarnation.error().code);
  const real_clock time;
  auto wire = open_wire(process.plan, process.run_id, process.self, *incarnation, process.addresses.at(process.self), process.keys, time);
  if (!wire) return say(who, wire.error().message), exit_environment;
  if (process.steering) *wire = process.steering->over(std::move(*wire), static_cast<std::uint64_t>(process.plan.run.seed));

  ending end;
  actor_config settings;
  caf::actor_system system(settings);
  const std::int64_t devices = process.plan.sites.at(process.self).devices;
  auto peers = process.addresses;
  peers.erase(process.self);
  auto parts = std::make_shared<site_parts>(site_parts{.plan = process.plan,
                                                       .run_id = process.run_id,
                                                       .self = process.self,
                                                       .incarnation = *incarnation,
                                                       .where = tier::real,
                                                       .wire = **wire,
                                                       .addresses = std::move(peers),
                                                       .disk = **disk,
                                                       .wall = time,
                                                       .tokens = process.tokens,
                                                       .domain = process.domain,
                                                       .unigram_entropy = process.unigram_entropy,
                                                       .arithmetic = make_arithmetic(process.plan, process.self),
                                                       .metrics = *process.metrics,
                                                       .codecs = process.codecs,
                                                       .audits = audits_of(process),
                                                       .gradient_takes = {},
                                                       .rest = pace_of(process),
                                                       .tokens_per_slice = slice_tokens,
                                                       .stopped = {}});
  parts->stopped = [&end, who](int code, std::string reason) {
    if (code != 0) say(who, reason);
    end.code = code;
    end.done = true;
  };
  const caf::actor root = spawn_site(system, std::move(parts));
  end_with(root, who, end);
  const int code = wait_for_end(who, signals, end, root, devices);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // last words: rows are flushed, messages leave
  (*wire)->stop();
  caf::anon_send_exit(root, caf::exit_reason::kill);
  std::fflush(nullptr);
  std::_Exit(code);  // device threads may be inside a step; everything durable is on disk
}

}  // namespace isthmus::actors
