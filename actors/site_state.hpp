#pragma once

#include "actors/messages.hpp"
#include "actors/site.hpp"
#include "actors/site_start.hpp"
#include "actors/wire_events.hpp"
#include "framework/core/planted.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/rounds/restart_budget.hpp"

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

/// What the parts of the site supervisor share; nobody else includes it.
namespace isthmus::actors {

/// The ledger is written by several actors of the site, one line at a time. After a failed write it has a hole, nothing more is written,
/// and the site ends: a new incarnation goes on behind the hole.
class shared_ledger {
public:
  explicit shared_ledger(std::unique_ptr<ledger_writer> writer) : writer_(std::move(writer)) {}
  /// Throws what the disk says, so that nothing is done that the ledger does not have: whoever writes ends, and the site with it.
  void write(const std::string& line) {
    const std::lock_guard lock(mutex_);
    must(writer_->write(line));
  }
  /// The same, and it is durable on return with all before it. Others may write meanwhile.
  void write_synced(const std::string& line) {
    write(line);
    if (is_planted(planted::answer_before_sync)) return;
    auto ok = writer_->sync();
    const std::lock_guard lock(mutex_);
    must(std::move(ok));
  }
  std::string last_checkpoint() const { return writer_->last_checkpoint(); }
  /// Why the first write failed; empty while none has.
  std::string failure() {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

private:
  void must(expected<void> done) {
    if (done) return;
    if (failure_.empty()) failure_ = done.error().message;
    throw std::runtime_error(failure_);
  }
  std::mutex mutex_;
  std::unique_ptr<ledger_writer> writer_;
  std::string failure_;
};

/// A copy of the site in the making: what has answered so far.
struct save_in_progress {
  save_boundary at;
  std::vector<std::shared_ptr<const group_snapshot>> groups;
  std::vector<std::shared_ptr<const contribution_snapshot>> books;
  std::string cursor;
  std::size_t missing = 0;
};

struct site_state {
  std::shared_ptr<site_parts> parts;
  std::shared_ptr<site_start> start;
  std::shared_ptr<shared_ledger> ledger;
  std::shared_ptr<link_table> links_by_peer;

  caf::actor metrics, checkpoint, shard, trainer, auditor;  // auditor: of a home that audits, or nobody
  std::map<site_id, caf::actor> links;
  std::set<site_id> links_up;
  std::vector<caf::actor> groups;
  std::map<std::uint32_t, caf::actor> devices;
  std::map<std::string, restart_budget> budgets;
  std::map<std::string, caf::actor> named;  // users' own
  std::set<std::string> names_of_nobody;    // told of once each
  std::uint64_t messages_to_nobody = 0;

  epoch_view view;
  std::map<group_id, held_record> held;
  std::map<epoch_number, std::map<group_id, held_record>> seals;  // answers gathered for a seal
  std::map<group_id, epoch_number> group_epochs;                  // settled in
  epoch_number said_synced = 0, sealed = 0;
  std::map<site_id, message::suspect> suspects;  // peers whose link is down
  std::map<group_id, contributor> marks;         // of this site, when its groups first settled
  bool training = false;
  bool admitted = false;                    // by the coordinator, at some time
  std::map<site_id, std::string> refusals;  // by peer, what was told last

  std::optional<save_in_progress> saving;
  std::shared_ptr<site_copy> copy_memory;  // of the last save
  std::deque<save_copy> writing;           // sent to the checkpoint actor, not answered yet
  step_number step = 0;
  std::uint64_t tokens = 0, recent_tokens = 0;
  double loss = 0;
  bool closing = false, finished = false, draining = false, ended = false;
  std::optional<step_number> last_save;             // the step of the save that ends the run here
  bool last_saved = false, leases_closed = false;   // both must be, before the site says that it has finished
  std::string drain_reason, progress = "starting";  // as last told
  time_point moved_at{};                            // the last step, record or request to stop
};
using site_actor = caf::stateful_actor<site_state>;

// site.cpp
/// Ends the site where the ledger cannot be written; false then.
bool write_line(site_actor* self, const std::string& line);
/// An event for people.
void tell(site_actor* self, const std::string& kind, const std::string& text);
void progress(site_actor* self, const std::string& state, bool flush = false);
void send_to(site_actor* self, site_id to, envelope what);
/// The last save is durable: with all leases closed, the site has finished.
void finish_when_saved(site_actor* self);
/// The end: nothing is sent or written any more.
void end(site_actor* self, int exit_code, const std::string& reason);

// site_children.cpp
void start_link(site_actor* self, site_id peer);
caf::actor start_device(site_actor* self, std::uint32_t index);
void start_groups(site_actor* self);
void start_shard(site_actor* self);
void start_checkpoint(site_actor* self);
void start_auditor(site_actor* self);
/// Tells the groups whom they work with.
void wire_groups(site_actor* self);
void start_trainer(site_actor* self);
/// A child ended. Links, devices and services are begun again within their budgets, beyond which the site ends (unless it has other
/// devices); a group, the shard or the trainer cannot be: their state is rebuilt from peers and the checkpoint by a new incarnation of
/// the site.
void child_ended(site_actor* self, const caf::exit_msg& m);
/// A rehearsal.
void take_fail_child(site_actor* self, const fail_child& m);

// site_membership.cpp
/// What a site that takes part is doing: training, or standing by as a spare.
std::string at_work(const site_state& s);
void take_inbound(site_actor* self, const inbound& m);
void take_link_change(site_actor* self, const link_changed& m);
void take_link_refusal(site_actor* self, const link_refused& m);
void take_seal(site_actor* self, const group_sealed& m);
/// What we hold has changed: where our epoch is being ended, the coordinator hears of it.
void seal_again(site_actor* self);
void take_group_synced(site_actor* self, const group_synced& m);
/// A group settled for the first time. When all have, what their records say of us decides where leases and residuals stand.
void take_group_started(site_actor* self, const group_started& m);

// site_named.cpp
void take_to_actor(site_actor* self, const inbound& m);
void send_to_named(site_actor* self, const send_to_actor& m);
void register_named(site_actor* self, const register_actor& m);
void forget_named(site_actor* self, const caf::down_msg& m);

// site_saving.cpp
void begin_save(site_actor* self, const save_boundary& at);
void take_group_saved(site_actor* self, const group_saved& m);
void take_cursor(site_actor* self, const cursor& m);
void take_checkpoint(site_actor* self, const checkpoint_written& m);

}  // namespace isthmus::actors
