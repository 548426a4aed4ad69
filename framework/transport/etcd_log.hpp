#pragma once

#include "framework/core/clock.hpp"
#include "framework/rounds/coordinator_log.hpp"
#include "framework/transport/etcd_client.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace isthmus {

/// Who stands for the lead of a run.
struct candidate_facts {
  std::string run_id;
  std::string name;     // of the process, "coordinator-2"
  std::string address;  // where it will listen
  std::string key;      // its static public key, as text
  std::int64_t lease_seconds = 4;
};

/// The coordinator's log in etcd, and the lead of the run that goes with it.
///
/// /isthmus/RUN/leader is held by a lease; its value names the leader's process, address and public key. Whoever makes it leads, until the
/// lease ends. /isthmus/RUN/log/00000000 and on are the entries, each made by one transaction that demands that the entry is not there and
/// that the leader's key is the very one that we made. So of two at once, one writes (docs/rounds.md, section 8).
class etcd_log final : public coordinator_log {
public:
  /// Stands for the lead until it has it: looks every 300 ms. `told` hears what it waits for, each thing once; `given_up` is asked in
  /// between. Blocks. Errors: as of etcd_client, without those that pass (they are told and waited out); malformed, with the entry that
  /// cannot be read; timed_out: given up.
  static expected<std::unique_ptr<etcd_log>> lead(etcd_client client, candidate_facts us, const clock& time,
                                                  const std::function<bool()>& given_up, const std::function<void(std::string)>& told);
  ~etcd_log() override;
  etcd_log(const etcd_log&) = delete;
  etcd_log& operator=(const etcd_log&) = delete;

  /// Of our lead, larger than that of any before: the coordinator's incarnation.
  std::uint64_t term() const { return static_cast<std::uint64_t>(created_); }
  /// Called at most once, from a thread of ours, when we lead no longer: another does, or etcd was out of reach for as long as the lease
  /// lasts. Set it before anybody hears of us.
  void when_lost(std::function<void(error)> lost);
  /// Ends the lead, so that the next one need not wait for the lease to end.
  void resign();

private:
  etcd_log(etcd_client client, candidate_facts us, const clock& time);
  bool try_to_lead(std::string& waits_for, error& fatal);
  expected<void> read_all();
  void keep_the_lead();
  void lose(error why);
  bool is_over() const;
  expected<void> write(const coordinator_entry& entry) override;
  std::string place() const override { return "the log of " + us_.run_id + " in etcd"; }
  std::string key(const std::string& rest) const { return "/isthmus/" + us_.run_id + "/" + rest; }

  etcd_client client_;
  candidate_facts us_;
  const clock& time_;
  std::int64_t lease_ = 0, created_ = 0;

  mutable std::mutex mutex_;
  std::function<void(error)> when_lost_;
  std::optional<error> lost_;
  bool stopping_ = false;
  time_point renewed_{};  // when the last renewal that was answered was sent
  std::thread keeper_;
};

}  // namespace isthmus
