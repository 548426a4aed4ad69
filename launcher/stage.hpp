#pragma once

#include "framework/core/expected.hpp"
#include "framework/emulator/steering.hpp"
#include "framework/emulator/tun_network.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/messages.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// Where the processes of a rehearsal with real ones live, and what a fault needs to reach them. Either each site and the coordinator has
/// a network namespace of its own, joined by the emulator; or all share this machine's loopback device, and their own transports do to
/// frames what a fault does to a link, which needs no privilege.
class stage {
public:
  /// in_spaces: network namespaces. Errors: environment.
  static expected<std::unique_ptr<stage>> build(const recipe& plan, bool in_spaces);

  /// Of every site and the coordinator.
  const std::map<site_id, std::string>& addresses() const { return addresses_; }
  /// What a process of the site is started with; call for each start.
  struct door {
    std::vector<std::string> arguments;
    std::vector<int> kept;
  };
  expected<door> open_door(site_id site);
  sim::steered_network& links();
  bool in_spaces() const { return spaces_ != nullptr; }
  /// Of the emulator between namespaces.
  emulator::packet_counters packets() const { return spaces_ ? spaces_->counters() : emulator::packet_counters{}; }
  /// A step of the site takes so many times as long, from now on, also of its processes to come.
  void slow(site_id site, double factor);

private:
  stage() : frames_([this](site_id site, const std::string& line) { tell(site, line); }) {}
  void tell(site_id site, const std::string& line);

  std::map<site_id, std::string> addresses_;
  std::map<site_id, descriptor> steering_, doors_;  // our end, and the one that its process was given last
  std::map<site_id, double> slowness_;
  std::unique_ptr<emulator::tun_network> spaces_;
  emulator::process_links frames_;
};

}  // namespace isthmus::launcher
