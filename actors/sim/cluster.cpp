#include "actors/sim/cluster.hpp"

#include "actors/incarnation.hpp"
#include "actors/messages.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/rounds/file_log.hpp"
#include "framework/wire/wire.hpp"
#include "kernels/team.hpp"

#include <caf/atom.hpp>
#include <caf/exit_reason.hpp>
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

recipe make_recipe(const cluster_options& options, const std::vector<std::string>& more = {}) {
  std::string text = options.recipe.empty() ? small_recipe : options.recipe;
  if (options.plan) {
    text = write_recipe(*options.plan);
  } else {
    for (std::uint32_t i = 0; i < options.sites; ++i) text += "[[sites]]\nname = \"s" + std::to_string(i) + "\"\nsource = \"synthetic\"\n";
  }
  auto overrides = options.overrides;
  overrides.push_back("run.seed=" + std::to_string(options.seed));
  overrides.insert(overrides.end(), more.begin(), more.end());
  auto reading = read_recipe(text, "recipe of the simulation", overrides);
  if (!reading.value) throw std::runtime_error(show_problems(reading.problems));
  return *reading.value;
}

/// chance: should its disk have been lost.
incarnation_number start_of(site_id site, storage& disk, std::uint64_t chance) {
  const auto number = next_incarnation(disk, own_folder(site), static_cast<std::uint32_t>(chance));
  if (!number) throw std::runtime_error(number.error().message);
  return *number;
}

/// What a whole recipe says of sites and time.
cluster_options with_plan(cluster_options options) {
  if (!options.plan) return options;
  options.sites = static_cast<std::uint32_t>(options.plan->sites.size());
  options.gradient_takes = from_seconds(options.plan->scenario.step_seconds);
  return options;
}

}  // namespace

struct cluster::config final : caf::actor_system_config {
  config() { set("scheduler.policy", caf::atom("testing")); }
};

/// What a site takes for the time of day.
class wall_of_site final : public isthmus::clock {
public:
  wall_of_site(const sim::world& w, const double& offset) : world_(w), offset_(offset) {}
  time_point now() const override { return world_.now(); }
  double wall_seconds() const override { return world_.wall_seconds() + offset_; }

private:
  const sim::world& world_;
  const double& offset_;
};

/// One process: its transport, its root actor and what they borrow.
struct cluster::node {
  std::unique_ptr<isthmus::clock> wall;
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
      cluster_.tell(*e);
      cluster_.world.note(std::to_string(site_) + " " + e->kind + " " + e->text);
    }
    if (const auto* r = std::get_if<round_row>(&row)) {
      if (r->group == 0) cluster_.last_round_ = std::max(cluster_.last_round_, r->round);
      if (r->group == 0) cluster_.tokens_ += r->tokens;
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
      options_(with_plan(std::move(options))),
      arithmetic_(options_.plan ? plan.scenario.arithmetic : "model"),
      interleaving_(options_.seed, 0, 0, draw::schedule),
      lives_(options_.seed, 0, 1, draw::schedule),
      config_(std::make_unique<config>()),
      system_(std::make_unique<caf::actor_system>(*config_)),
      run_folder_(disk.open("run")) {
  disk.on_sync([this](const std::string&) { ++syncs_; });
  for (site_id site = 0; site <= options_.sites; ++site)
    if (!expect_first_start(*run_folder_, own_folder(site < options_.sites ? site : coordinator_id)))
      throw std::runtime_error("the simulated disk takes nothing");
}

cluster::~cluster() {
  slow_disks_.clear();
  busy_until_.clear();
  let_go();
  while (!sites_.empty()) kill_site(sites_.begin()->first);
  step();
}

void cluster::start_all() {
  start_coordinator();
  for (site_id site = 0; site < options_.sites; ++site) start_site(site);
}

void cluster::tell(const event_row& event) {
  events_.push_back(event);
  if (options_.on_event) options_.on_event(to_seconds(world.now().time_since_epoch()), event);
}

arithmetic_hooks cluster::hooks_of(site_id site, incarnation_number incarnation) const {
  arithmetic_hooks hooks;
  if (options_.before_work)
    hooks.before = [this, site](std::uint32_t device, device_work what) { options_.before_work(site, device, what); };
  hooks.before_update = [this, site](const optimizer_slice& s) {
    if (const auto hand = hostile_.find(site); hand != hostile_.end()) hand->second->before(s);
  };
  hooks.after_update = [this, site, incarnation](const optimizer_slice& s) {
    if (const auto hand = hostile_.find(site); hand != hostile_.end()) hand->second->after(s);
    if (options_.after_update) options_.after_update(site, incarnation, s);
  };
  return hooks;
}

duration cluster::step_takes(site_id site) const {
  const auto slow = slowness_.find(site);
  const double factor = slow == slowness_.end() ? 1 : slow->second;
  const double pace = plan.sites[site].tokens_per_second;
  const double seconds = pace > 0 ? static_cast<double>(plan.train.tokens_per_step) / pace : to_seconds(options_.gradient_takes);
  return from_seconds(seconds * factor);
}

void cluster::start_site(site_id site) { start_site(site, {}); }

void cluster::start_site(site_id site, const std::vector<std::string>& overrides) {
  recipe own = make_recipe(options_, overrides);
  if (own.data.documents == "separate") own.model.document_mark = 0;  // any id will do in a text without meaning
  auto made = std::make_unique<node>();
  made->disk = disk.open("run");
  const incarnation_number incarnation = start_of(site, *made->disk, lives_.next());
  made->wire = net.make_transport({"run", wire::version, recipe_hash(own), site, incarnation});
  made->wall = std::make_unique<wall_of_site>(world, wall_offsets_[site]);
  made->metrics = std::make_unique<recorder>(*this, site);
  auto parts = std::make_shared<site_parts>(site_parts{.plan = own,
                                                       .run_id = "run",
                                                       .self = site,
                                                       .incarnation = incarnation,
                                                       .where = tier::simulated,
                                                       .wire = *made->wire,
                                                       .addresses = {},
                                                       .disk = *made->disk,
                                                       .wall = *made->wall,
                                                       .tokens = shard_of(site),
                                                       .domain = "synthetic",
                                                       .unigram_entropy = 5.5,
                                                       .arithmetic = {},
                                                       .metrics = *made->metrics,
                                                       .codecs = options_.codecs,
                                                       .gradient_takes = [this, site] { return step_takes(site); },
                                                       .tokens_per_slice = 64,
                                                       .stopped = {}});
  for (site_id other = 0; other < options_.sites; ++other)
    if (other != site) parts->addresses[other] = "sim";
  parts->addresses[coordinator_id] = "sim";
  const auto arithmetic = [this, own, team = made->team.get()](arithmetic_hooks hooks) {
    return arithmetic_ == "grid" ? grid_arithmetic(std::move(hooks)) : model_arithmetic(own, *team, std::move(hooks));
  };
  parts->arithmetic = arithmetic(hooks_of(site, incarnation));
  parts->audits = audits_of(own, site, [arithmetic] { return arithmetic({}); });
  parts->stopped = [this, site](int code, std::string reason) {
    exits_[site] = code;
    reasons_[site] = reason;
    world.note(std::to_string(site) + " stopped " + std::to_string(code) + " " + reason);
    world.after(std::chrono::milliseconds(1), [this, site] { kill_site(site); });
  };
  exits_.erase(site);
  spawn_as(site, [&] { made->root = spawn_site(*system_, std::move(parts)); });
  watch(site, *made);
  sites_[site] = std::move(made);
}

void cluster::start_coordinator() {
  exits_.erase(coordinator_id);
  auto made = std::make_unique<node>();
  made->disk = disk.open("run");
  const incarnation_number incarnation = start_of(coordinator_id, *made->disk, lives_.next());
  made->wire = net.make_transport({"run", wire::version, recipe_hash(plan), coordinator_id, incarnation});
  auto log = file_log::open(*made->disk, "coordinator.jsonl");
  if (!log) throw std::runtime_error(log.error().message);
  const auto layout = arithmetic_ == "grid" ? grid_layout() : hybrid_layout(plan.model);
  const auto groups = cut_groups(layout, static_cast<std::uint32_t>(plan.round.groups)).size();
  auto parts = std::make_shared<coordinator_parts>(coordinator_parts{.plan = plan,
                                                                     .run_id = "run",
                                                                     .incarnation = incarnation,
                                                                     .groups = static_cast<std::uint32_t>(groups),
                                                                     .where = tier::simulated,
                                                                     .wire = *made->wire,
                                                                     .log = std::make_unique<file_log>(std::move(*log))});
  parts->decided = [this](const std::string& kind, const std::string& text) {
    tell({0, "coordinator", kind, text, 0});
    world.note("coordinator " + kind + " " + text);
  };
  parts->stopped = [this](int code, std::string reason) {
    exits_[coordinator_id] = code;
    reasons_[coordinator_id] = std::move(reason);
  };
  spawn_as(coordinator_id, [&] { made->root = spawn_coordinator(*system_, std::move(parts)); });
  watch(coordinator_id, *made);
  sites_[coordinator_id] = std::move(made);
}

/// A root actor that fails takes its process with it, as it does for real.
void cluster::watch(site_id site, const node& at) {
  caf::actor_cast<caf::abstract_actor*>(at.root)->attach_functor([this, site, me = &at](const caf::error& reason) {
    const auto found = sites_.find(site);
    if (found == sites_.end() || found->second.get() != me || exits_.contains(site)) return;
    exits_[site] = exit_failed;
    reasons_[site] = "its root actor failed: " + caf::to_string(reason);
    world.note(std::to_string(site) + " failed");
    world.after({}, [this, site, me] {
      if (const auto still = sites_.find(site); still != sites_.end() && still->second.get() == me) kill_site(site);
    });
  });
}

void cluster::kill_site(site_id site) {
  const auto found = sites_.find(site);
  if (found == sites_.end()) return;
  thaw_site(site);  // the dead wait for nothing
  dead_up_to_[site] = system_->latest_actor_id();
  std::erase_if(busy_until_, [&](const auto& entry) { return process_of_[entry.first] == site; });
  let_run();
  world.note("kill " + std::to_string(site));
  auto dead = std::move(found->second);
  sites_.erase(found);
  dead->wire->stop();
  sim::disk::abandon(*dead->disk);
  caf::anon_send_exit(dead->root, caf::exit_reason::kill);
  dead->root = nullptr;
  graveyard_.push_back(std::move(dead));
}

void cluster::wipe_site(site_id site) {
  for (const auto& name : files_of(site)) disk.erase(name);
  disk.erase("run/" + own_folder(site));
}

std::vector<std::string> cluster::files_of(site_id site) {
  if (site == coordinator_id) return {"run/coordinator.jsonl"};
  const auto number = std::to_string(site);
  return {"run/checkpoints/site-" + number, "run/ledger/site-" + number + ".jsonl"};
}

caf::actor cluster::root(site_id site) const { return sites_.at(site)->root; }
void cluster::kill_coordinator() { kill_site(coordinator_id); }
void cluster::drain_site(site_id site) { caf::anon_send(sites_.at(site)->root, drain{"asked by the test"}); }
void cluster::fail_device(site_id site, std::uint32_t device) { caf::anon_send(sites_.at(site)->root, actors::fail_device{device}); }

void cluster::fail_child(site_id site, const std::string& name) { caf::anon_send(sites_.at(site)->root, actors::fail_child{name}); }

void cluster::fail_link(site_id site, site_id peer) {
  if (site != coordinator_id) return fail_child(site, "link to " + std::to_string(peer));
  caf::anon_send(sites_.at(site)->root, actors::fail_link{peer});
}

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
