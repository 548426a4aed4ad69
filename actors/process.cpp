#include "actors/process.hpp"

#include "actors/messages.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/transport/ucx_transport.hpp"
#include "framework/wire/wire.hpp"

#include <caf/atom.hpp>
#include <caf/send.hpp>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace isthmus::actors {

void say(const std::string& who, const std::string& text) { std::fprintf(stderr, "%s: %s\n", who.c_str(), text.c_str()); }

expected<std::unique_ptr<transport>> open_wire(const recipe& plan, const std::string& run_id, site_id self, incarnation_number incarnation,
                                               const std::string& listen, std::shared_ptr<const link_keys> keys,
                                               const isthmus::clock& time) {
  ucx_transport_options options;
  options.hello = {run_id, wire::version, recipe_hash(plan), self, incarnation};
  options.keys = std::move(keys);
  options.listen = listen;
  options.allow_test_network = std::getenv("ISTHMUS_TEST_NETWORK") != nullptr;
  options.data_ports = plan.links.data_ports;
  options.bulk_over_tcp = plan.links.bulk == "tcp" || (self != coordinator_id && plan.sites.at(self).nat);
  for (site_id site = 0; site < plan.sites.size(); ++site)
    if (plan.sites[site].nat) options.outward.insert(site);
  options.endpoints = static_cast<int>(plan.links.endpoints);
  options.chunk_bytes = static_cast<std::size_t>(plan.links.chunk_bytes);
  options.window_bytes = static_cast<std::size_t>(plan.links.window_bytes);
  options.log = [self](const std::string& line) { say(self == coordinator_id ? "coordinator" : "site " + std::to_string(self), line); };
  return make_ucx_transport(std::move(options), time);
}

sigset_t block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGINT, SIGPIPE}) sigaddset(&set, s);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return set;
}

void end_with(const caf::actor& root, const std::string& who, ending& end) {
  root->attach_functor([who, &end](const caf::error& why) {
    if (end.done) return;
    say(who, "its supervisor failed: " + caf::to_string(why));
    end.done = true;
  });
}

int wait_for_end(const std::string& who, const sigset_t& signals, const ending& end, const caf::actor& root, std::int64_t devices) {
  int asked = 0;
  while (!end.done) {
    const timespec wait{0, 100'000'000};
    const int s = sigtimedwait(&signals, nullptr, &wait);
    if (s == SIGUSR1) {
      say(who, "checkpoint asked for");
      caf::anon_send(root, save_now{});
    } else if (s == SIGUSR2 && devices > 0) {
      say(who, "a rehearsal: the last device fails");
      caf::anon_send(root, fail_device{static_cast<std::uint32_t>(devices - 1)});
    } else if (s == SIGTERM && ++asked == 1) {
      say(who, "stopping: the period is finished and saved first; a second signal stops at once");
      caf::anon_send(root, drain{"asked to stop"});
    } else if (s == SIGTERM) {
      say(who, "stopped at once; the last checkpoint is kept");
      std::_Exit(exit_stopped);
    }
  }
  return end.code;
}

actor_config::actor_config() {
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", std::size_t{2});
}

}  // namespace isthmus::actors
