#pragma once

#include "framework/core/expected.hpp"
#include "framework/emulator/space.hpp"
#include "framework/sim/steered_network.hpp"
#include "framework/transport/transport.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace isthmus::emulator {

/// What a process's own transport does to one of its links.
struct link_state {
  bool cut_out = false, cut_in = false;    // nothing leaves, nothing arrives; no link comes up
  bool held_out = false, held_in = false;  // what leaves waits; no link comes up
  sim::path_fault worse;                   // of what leaves
  bool silent() const { return cut_out || cut_in || held_out || held_in; }
  bool operator==(const link_state&) const = default;
};

/// A command to a process of a rehearsal, one line of text: what its launcher writes and the process reads.
struct steering_command {
  enum class kind { slow, link, reset, tear };
  kind what = kind::slow;
  double factor = 1;         // of slow: a step takes so many times as long
  site_id peer = 0;          // of link, reset
  link_state link;           // of link: as it is from now on
  std::string text() const;  // with its line's end
};
/// Errors: malformed.
expected<steering_command> parse_command(std::string_view line);

/// The end of a steering channel in the process that is steered. A thread reads commands until the other end is closed.
class steering {
public:
  /// fd: a stream socket or pipe, taken over. deserted: called when the other end is closed, from the thread; may be empty.
  explicit steering(int fd, std::function<void()> deserted = {});
  ~steering();
  double slowness() const { return slowness_; }
  /// A transport over that one whose links heed commands, also those that came before. Must not outlive this.
  std::unique_ptr<transport> over(std::unique_ptr<transport> wire, std::uint64_t seed);

private:
  void read();
  void heed(const steering_command& command);

  descriptor fd_, wake_;
  std::function<void()> deserted_;
  std::atomic<double> slowness_{1};
  std::mutex mutex_;
  class steered_transport* wire_ = nullptr;
  std::map<site_id, link_state> links_;  // as commanded
  std::thread thread_;
};

/// The other end, in the launcher: links whose faults are played by the processes at both ends of each. Needs no privilege; what is
/// below frames (acknowledgements, the handshake of a link) is left in peace.
class process_links final : public sim::steered_network {
public:
  /// tell: a line to the steering channel of a site's process; does nothing while there is none.
  explicit process_links(std::function<void(site_id site, const std::string& line)> tell) : tell_(std::move(tell)) {}
  /// What a process that starts must be told, so that faults that last are its, too.
  std::vector<std::string> standing(site_id site) const;

  void cut(site_id from, site_id to) override {
    change(from, to, [](way_state& w) { ++w.cuts; });
  }
  void heal(site_id from, site_id to) override {
    change(from, to, [](way_state& w) { --w.cuts; });
  }
  void hold(site_id from, site_id to) override {
    change(from, to, [](way_state& w) { ++w.holds; });
  }
  void release(site_id from, site_id to) override {
    change(from, to, [](way_state& w) { --w.holds; });
  }
  void worsen(site_id a, site_id b, const sim::path_fault& fault) override;
  void mend(site_id a, site_id b, const sim::path_fault& fault) override;
  void reset(site_id a, site_id b) override;
  void tear_next(site_id from) override;
  void corrupt_next(site_id from, site_id to) override { reset(to, from); }  // all that is seen of it

private:
  struct way_state {
    int cuts = 0, holds = 0;
    std::vector<sim::path_fault> faults;
  };
  void change(site_id from, site_id to, const std::function<void(way_state&)>& how);
  steering_command state_of(site_id at, site_id peer) const;

  std::function<void(site_id, const std::string&)> tell_;
  std::map<std::pair<site_id, site_id>, way_state> ways_;
};

}  // namespace isthmus::emulator
