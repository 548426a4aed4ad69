#include "actors/sim/cluster.hpp"

#include "actors/messages.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/optim/adamw.hpp"
#include "framework/wire/wire.hpp"
#include "kernels/select.hpp"

#include <caf/atom.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scheduled_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/send.hpp>

#include <iterator>
#include <stdexcept>

namespace isthmus::actors {

namespace {

constexpr const char* small_recipe = R"(
[run]
name = "test"
tokens = 5760
[model]
pattern = ["attention", "mamba2"]
n_layers = 2
d_model = 16
n_heads = 2
n_kv_heads = 1
head_dim = 8
ffn_hidden = 32
ssm_inner = 32
ssm_head_dim = 16
ssm_state = 8
ssm_chunk = 8
[train]
context = 16
tokens_per_step = 64
learning_rate = 0.01
warm_up_tokens = 256
[round]
codec = "int8"
inner_steps = 3
groups = 2
grace_seconds = 1
deadline_min_seconds = 1
deadline_max_seconds = 10
[data]
vocabulary = 320
held_out_tokens = 1024
evaluation_every_rounds = 5
[links]
heartbeat_ms = 100
dead_after_ms = 800
[checkpoint]
every_rounds = 3
)";

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

recipe make_recipe(const cluster_options& options, const std::vector<std::string>& more = {}) {
  std::string text = options.recipe.empty() ? small_recipe : options.recipe;
  for (std::uint32_t i = 0; i < options.sites; ++i) text += "[[sites]]\nname = \"s" + std::to_string(i) + "\"\nsource = \"synthetic\"\n";
  auto overrides = options.overrides;
  overrides.push_back("run.seed=" + std::to_string(options.seed));
  overrides.insert(overrides.end(), more.begin(), more.end());
  auto reading = read_recipe(text, "recipe of the simulation", overrides);
  if (!reading.value) throw std::runtime_error(show_problems(reading.problems));
  return *reading.value;
}

}  // namespace

struct cluster::config final : caf::actor_system_config {
  config() { set("scheduler.policy", caf::atom("testing")); }
};

/// One process: its transport, its root actor and what they borrow.
struct cluster::node {
  std::unique_ptr<transport> wire;
  std::unique_ptr<storage> disk;
  std::unique_ptr<recorder> metrics;
  std::unique_ptr<kernels::team> team = std::make_unique<kernels::serial_team>();
  caf::actor root;
};

class cluster::recorder final : public metrics_sink {
public:
  recorder(cluster& c, site_id site) : cluster_(c), site_(site) {}
  void put(store_row row) override {
    if (const auto* e = std::get_if<event_row>(&row)) {
      cluster_.events_.push_back(*e);
      cluster_.world.note(std::to_string(site_) + " " + e->kind + " " + e->text);
    }
    if (const auto* r = std::get_if<round_row>(&row)) {
      if (r->group == 0) cluster_.last_round_ = std::max(cluster_.last_round_, r->round);
      cluster_.world.note("round " + std::to_string(r->group) + " " + std::to_string(r->round) + " " + r->anchor_hash);
    }
    if (const auto* s = std::get_if<sample_row>(&row)) cluster_.world.note(std::to_string(site_) + " loss " + std::to_string(s->loss));
    waiting_.push_back(std::move(row));
  }
  /// As the run store's writer: a killed process takes with it what it had not written.
  void flush() override {
    auto& rows = cluster_.rows_[site_];
    rows.insert(rows.end(), std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
    waiting_.clear();
  }

private:
  std::vector<store_row> waiting_;
  cluster& cluster_;
  site_id site_;
};

cluster::cluster(cluster_options options)
    : world(options.seed),
      net(world),
      plan(make_recipe(options)),
      options_(std::move(options)),
      interleaving_(options_.seed, 0, 0, draw::schedule),
      config_(std::make_unique<config>()),
      system_(std::make_unique<caf::actor_system>(*config_)),
      run_folder_(disk.open("run")) {}

cluster::~cluster() {
  let_go();
  while (!sites_.empty()) kill_site(sites_.begin()->first);
  step();
}

void cluster::start_all() {
  start_coordinator();
  for (site_id site = 0; site < options_.sites; ++site) start_site(site);
}

std::shared_ptr<const token_shard> cluster::shard_of(site_id site) const {
  auto shard = std::make_shared<token_shard>();
  shard->name = "synthetic-" + std::to_string(site);
  shard->vocabulary = static_cast<std::uint32_t>(plan.data.vocabulary);
  rng text(42, site, 0, draw::token);
  const auto fill = [&](token_section& section, std::size_t n) {
    std::vector<std::uint16_t> tokens;
    std::uint16_t last = 0;
    for (std::size_t i = 0; i < n; ++i) {
      last = static_cast<std::uint16_t>(text.below(4) == 0 ? text.below(256) : (last * 5 + 17 + site) % 256);
      tokens.push_back(last);
    }
    section.document_ends = {n};
    section.tokens = std::move(tokens);
  };
  fill(shard->train, static_cast<std::size_t>(plan.train.context) * 300 + 1);
  fill(shard->held_out, static_cast<std::size_t>(plan.train.context) * 64 + 1);
  return shard;
}

site_arithmetic cluster::make_arithmetic(site_id site, incarnation_number incarnation, node& at) {
  const auto& backend = *kernels::find_backend("reference");
  const auto optimizer = std::make_shared<adamw>(hybrid_layout(plan.model), adamw_options{});
  site_arithmetic a;
  a.layout = hybrid_layout(plan.model);
  a.initialise = [this](std::span<float> weights) { initial_weights(plan.model, options_.seed, weights); };
  a.make_learner = [this, site, &backend, team = at.team.get()](std::uint32_t device, std::shared_ptr<float_array> weights,
                                                                std::shared_ptr<float_array> gradients) {
    auto made = std::make_unique<device_model>(plan, backend, *team, std::move(weights), std::move(gradients));
    made->before = [this, site, device](device_work what) {
      if (options_.before_work) options_.before_work(site, device, what);
    };
    return made;
  };
  a.update = [this, site, incarnation, &backend, optimizer](learner& any, const optimizer_slice& s) {
    auto& device = dynamic_cast<device_model&>(any);
    device.before(device_work::update);
    optimizer->update(backend, device.model.stream(), s.weights, s.gradients, s.begin, s.end, s.learning_rate,
                      static_cast<float>(s.gradient_scale), true, static_cast<std::int64_t>(s.step));
    if (options_.after_update) options_.after_update(site, incarnation, s);
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

void cluster::start_site(site_id site) { start_site(site, {}); }

void cluster::start_site(site_id site, const std::vector<std::string>& overrides) {
  const recipe own = make_recipe(options_, overrides);
  auto made = std::make_unique<node>();
  const incarnation_number incarnation = ++incarnations_[site];
  made->wire = net.make_transport({"run", wire::version, recipe_hash(own), site, incarnation});
  made->disk = disk.open("run");
  made->metrics = std::make_unique<recorder>(*this, site);
  auto parts = std::make_shared<site_parts>(site_parts{.plan = own,
                                                       .run_id = "run",
                                                       .self = site,
                                                       .incarnation = incarnation,
                                                       .where = tier::simulated,
                                                       .wire = *made->wire,
                                                       .addresses = {},
                                                       .disk = *made->disk,
                                                       .wall = world,
                                                       .tokens = shard_of(site),
                                                       .domain = "synthetic",
                                                       .unigram_entropy = 5.5,
                                                       .arithmetic = {},
                                                       .metrics = *made->metrics,
                                                       .gradient_takes = options_.gradient_takes,
                                                       .tokens_per_slice = 64,
                                                       .stopped = {}});
  for (site_id other = 0; other < options_.sites; ++other)
    if (other != site) parts->addresses[other] = "sim";
  parts->addresses[coordinator_id] = "sim";
  parts->arithmetic = make_arithmetic(site, incarnation, *made);
  parts->stopped = [this, site](int code, std::string reason) {
    exits_[site] = code;
    reasons_[site] = reason;
    world.note(std::to_string(site) + " stopped " + std::to_string(code) + " " + reason);
    world.after(std::chrono::milliseconds(1), [this, site] { kill_site(site); });
  };
  exits_.erase(site);
  made->root = spawn_site(*system_, std::move(parts));
  sites_[site] = std::move(made);
}

void cluster::start_coordinator() {
  exits_.erase(coordinator_id);
  auto made = std::make_unique<node>();
  const incarnation_number incarnation = ++incarnations_[coordinator_id];
  made->wire = net.make_transport({"run", wire::version, recipe_hash(plan), coordinator_id, incarnation});
  made->disk = disk.open("run");
  auto log = coordinator_log::open(*made->disk, "coordinator.jsonl");
  if (!log) throw std::runtime_error(log.error().message);
  const auto groups = cut_groups(hybrid_layout(plan.model), static_cast<std::uint32_t>(plan.round.groups)).size();
  auto parts = std::make_shared<coordinator_parts>(coordinator_parts{.plan = plan,
                                                                     .run_id = "run",
                                                                     .incarnation = incarnation,
                                                                     .groups = static_cast<std::uint32_t>(groups),
                                                                     .wire = *made->wire,
                                                                     .log = std::move(*log),
                                                                     .decided = {},
                                                                     .stopped = {}});
  parts->decided = [this](const std::string& kind, const std::string& text) {
    events_.push_back({0, "coordinator", kind, text, 0});
    world.note("coordinator " + kind + " " + text);
  };
  parts->stopped = [this](int code, std::string reason) {
    exits_[coordinator_id] = code;
    reasons_[coordinator_id] = std::move(reason);
  };
  made->root = spawn_coordinator(*system_, std::move(parts));
  sites_[coordinator_id] = std::move(made);
}

void cluster::kill_site(site_id site) {
  const auto found = sites_.find(site);
  if (found == sites_.end()) return;
  world.note("kill " + std::to_string(site));
  auto dead = std::move(found->second);
  sites_.erase(found);
  dead->wire->stop();
  caf::anon_send_exit(dead->root, caf::exit_reason::kill);
  dead->root = nullptr;
  graveyard_.push_back(std::move(dead));
}

caf::actor cluster::root(site_id site) const { return sites_.at(site)->root; }
void cluster::kill_coordinator() { kill_site(coordinator_id); }
void cluster::drain_site(site_id site) { caf::anon_send(sites_.at(site)->root, drain{"asked by the test"}); }
void cluster::fail_device(site_id site, std::uint32_t device) { caf::anon_send(sites_.at(site)->root, actors::fail_device{device}); }

void cluster::fail_child(site_id site, const std::string& name) { caf::anon_send(sites_.at(site)->root, actors::fail_child{name}); }

void cluster::let_go() {
  auto& scheduler = dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler());
  scheduler.jobs.insert(scheduler.jobs.end(), stuck_.begin(), stuck_.end());
  stuck_.clear();
  held_.clear();
}

void cluster::fail_link(site_id site, site_id peer) {
  if (site != coordinator_id) return fail_child(site, "link to " + std::to_string(peer));
  caf::anon_send(sites_.at(site)->root, actors::fail_link{peer});
}

void cluster::step() {
  auto& scheduler = dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler());
  while (!scheduler.jobs.empty()) {
    const auto pick = static_cast<std::ptrdiff_t>(interleaving_.below(scheduler.jobs.size()));
    std::rotate(scheduler.jobs.begin(), scheduler.jobs.begin() + pick, scheduler.jobs.begin() + pick + 1);
    if (const auto* next = dynamic_cast<caf::scheduled_actor*>(scheduler.jobs.front()); next != nullptr && next->name() == held_) {
      stuck_.push_back(scheduler.jobs.front());
      scheduler.jobs.pop_front();
      continue;
    }
    scheduler.try_run_once();
  }
}

bool cluster::step_until(time_point end, const std::function<bool()>& holds) {
  auto& clock = dynamic_cast<caf::scheduler::test_coordinator&>(system_->scheduler()).clock();
  for (;;) {
    step();
    if (holds && holds()) return true;
    if (world.run_due()) continue;
    time_point next = end;
    if (const auto due = world.next_due()) next = std::min(next, *due);
    if (!clock.schedule().empty()) next = std::min<time_point>(next, clock.schedule().begin()->first);
    if (next < world.now()) next = world.now();
    world.advance_to(next);
    clock.current_time = next;
    if (!clock.schedule().empty() && clock.schedule().begin()->first <= next) {
      clock.trigger_timeout();
    } else if (next >= end && !(world.next_due() && *world.next_due() <= next)) {
      return false;
    }
  }
}

void cluster::run_for(duration d) { step_until(world.now() + d, {}); }
bool cluster::run_until(const std::function<bool()>& holds, duration limit) { return step_until(world.now() + limit, holds); }

std::optional<int> cluster::exit_code(site_id site) const {
  const auto found = exits_.find(site);
  if (found == exits_.end()) return std::nullopt;
  return found->second;
}

bool cluster::all_finished() const {
  for (site_id site = 0; site < options_.sites; ++site)
    if (exit_code(site) != 0) return false;
  return true;
}

std::string cluster::exit_reason(site_id site) const {
  const auto found = reasons_.find(site);
  return found == reasons_.end() ? "" : found->second;
}

round_number cluster::last_round() const { return last_round_; }

ledger_report cluster::ledgers() {
  auto report = check_ledgers(*run_folder_);
  if (!report) throw std::runtime_error(report.error().message);
  return *report;
}

std::string cluster::describe_violations() {
  std::string text = "seed " + std::to_string(options_.seed);
  for (const auto& v : ledgers().violations) text += "\n" + v.where + " " + v.rule + ": " + v.what;
  return text;
}

std::vector<double> cluster::losses(site_id site) {
  std::vector<double> values;
  for (const auto& row : rows_[site])
    if (const auto* s = std::get_if<sample_row>(&row)) values.push_back(s->loss);
  return values;
}

bool cluster::has_event(const std::string& kind, const std::string& part_of_text) {
  for (const auto& e : events_)
    if (e.kind == kind && e.text.find(part_of_text) != std::string::npos) return true;
  return false;
}

}  // namespace isthmus::actors
