#pragma once

#include "framework/data/lease_book.hpp"
#include "framework/rounds/contribution_book.hpp"
#include "framework/rounds/file_log.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/rounds/ledger_check.hpp"
#include "framework/rounds/membership.hpp"
#include "framework/rounds/parameter_group.hpp"
#include "framework/sim/disk.hpp"
#include "framework/sim/world.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace isthmus::testing {

/// A run's shape and what the network does to it.
struct cluster_settings {
  std::uint64_t seed = 1;
  std::uint32_t sites = 3, groups = 2;
  std::uint64_t rounds = 4;  // the goal, in contributions of one site
  std::int64_t group_size = 16;
  duration delay_max = std::chrono::milliseconds(20);
  duration train_max = std::chrono::milliseconds(200);
  double duplicates = 0;  // chance that a message comes twice
  bool down_residual = true;
  std::uint64_t warm_up_rounds = 0;  // with a lossy way down, before the codec that down_residual chooses
  outer_kind outer = outer_kind::nesterov;
  guard_settings guarding{};
  double audit_rate = 0;  // of all sites by all homes; what an audit finds:
  std::function<double(site_id)> audit_finds{};
  /// A hostile site's hand on the weights that it trained.
  std::function<void(site_id, group_id, std::span<const float> start, std::span<float> working)> spoil{};
};

/// fp32 as it is, in a frame of exactly group.size floats. With `grid` > 0 a lossy one: multiples of grid only, the rest is residual.
class test_codec final : public codec {
public:
  explicit test_codec(float grid) : grid_(grid) {}
  std::string_view name() const override { return "test"; }
  std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const override;
  expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const override;
  codec_size size(const group_shape& group) const override { return {0, 0, 0, static_cast<std::size_t>(group.size) * 4}; }
  float limit() const override { return 1e6F; }

private:
  float grid_;
};

/// n sites' pure objects, a coordinator and a network of queues, in virtual time from one seed.
class cluster {
public:
  explicit cluster(cluster_settings settings);
  ~cluster();

  /// Until everybody has finished, or `limit` of virtual time has passed. True when finished.
  bool run(duration limit = std::chrono::seconds(300));
  /// Called before each delivery with its number and receiver; may kill.
  std::function<void(std::uint64_t number, site_id from, site_id to, const envelope& what)> before_delivery;

  /// Called with what a site sends, which it may change.
  std::function<void(site_id from, envelope& what)> before_sending;

  void kill(site_id site);
  /// with_disk: from its last checkpoint and with its ledger; else as a new machine.
  void restart(site_id site, bool with_disk);
  bool alive(site_id site) const;
  /// False for one that was cut off, or came back, when the run was already over: it stands at an earlier round.
  bool saw_the_end(site_id site) const;
  void cut(site_id a, site_id b);
  void heal(site_id a, site_id b);
  void kill_coordinator();
  void restart_coordinator();
  bool coordinator_alive() const { return members_ != nullptr; }
  void save_checkpoint(site_id site);

  sim::world& world() { return world_; }
  const membership& coordinator() const { return *members_; }
  parameter_group& group(site_id site, group_id g);
  std::uint64_t delivered() const { return delivered_; }
  std::uint64_t total(std::uint64_t group_counters::*what) const;
  bool finished() const;
  round_number round(group_id g) const;
  /// All ledgers as one folder, to be checked or tampered with.
  std::unique_ptr<storage> ledgers();
  std::string state_text() const;

private:
  struct checkpoint;
  struct site_state;

  void start(site_id site);
  void deliver(site_id from, incarnation_number incarnation, site_id to, const envelope& what);
  void send(site_id from, site_id to, envelope what);
  void at_site(site_state& s, site_id from, incarnation_number incarnation, const envelope& what);
  void at_coordinator(site_id from, incarnation_number incarnation, const peer_message& what);
  void handle(site_state& s, group_id g, group_actions actions);
  void handle(membership_actions actions);
  void greet(site_state& s);
  void say_sealed(site_state& s);
  void enter(site_state& s, const epoch_view& view);
  void proceed(site_state& s);
  void begin_period(site_state& s);
  void end_period(site_state& s);
  void recover_accounts(site_state& s);
  void write(site_state& s, const std::string& line);
  void write(site_state& s, const lease_settlement& settled, const std::string& reason);
  void ticks();
  bool linked(site_id a, site_id b) const;
  std::vector<held_record> held(const site_state& s) const;
  group_settings settings_of(site_id site, incarnation_number incarnation, group_id g) const;

  cluster_settings settings_;
  sim::world world_;
  rng draws_;
  std::vector<std::unique_ptr<site_state>> sites_;
  std::set<std::pair<site_id, site_id>> cuts_;
  std::map<std::tuple<site_id, site_id, bool>, time_point> last_arrival_;
  sim::disk coordinator_disk_, shared_disk_;
  std::unique_ptr<storage> coordinator_storage_;
  std::optional<file_log> log_;
  std::unique_ptr<membership> members_;
  std::uint64_t coordinator_life_ = 0, delivered_ = 0;
};

}  // namespace isthmus::testing
