// An actor of your own at every site, which talks to its counterparts through the site's supervisor: each measures the temperature of
// its site's room, and all learn the lowest, although two of them cannot hear each other: the third passes it on.
// docs/custom_actor.md explains it from the beginning. Exit code 1: they did not come to agree.
#include "actors/messages.hpp"
#include "actors/sim/cluster.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <vector>

using namespace isthmus;
using namespace std::chrono_literals;

namespace {

/// Messages between sites carry bytes. These are the decimal digits of a number; a stranger may have sent anything.
shared_bytes to_bytes(int number) {
  const auto text = std::to_string(number);
  return make_shared_bytes(std::as_bytes(std::span(text.data(), text.size())));
}
expected<int> to_number(const shared_bytes& bytes) {
  const auto* text = reinterpret_cast<const char*>(bytes->data());
  int number = 0;
  const auto [end, status] = std::from_chars(text, text + bytes->size(), number);
  if (status != std::errc() || end != text + bytes->size()) return fail(errc::malformed, "thermometer: a message is no number");
  return number;
}

/// What the actor knows. It ends with the actor.
struct thermometer_state {
  int coldest = 0;
};

/// A message of our own, which never leaves the process: time to tell the others.
struct gossip_now {};

}  // namespace

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(gossip_now)

namespace {

/// `seen` is where this program looks afterwards; `supervisor` is the root of the site.
caf::behavior thermometer(caf::stateful_actor<thermometer_state>* self, site_id here, std::uint32_t sites, int measured,
                          caf::actor supervisor, std::vector<int>* seen) {
  const auto learn = [=](int value) { seen->at(here) = self->state.coldest = value; };
  learn(measured);
  self->delayed_send(self, 500ms, gossip_now{});
  return {[=](const actors::from_actor& m) {
            const auto told = to_number(m.payload);
            if (!told) return;  // counted or logged in a real program; never trusted
            if (*told < self->state.coldest) learn(*told);
          },
          // At most once: what is sent while a link is down is lost. So it is said again and again.
          [=](const gossip_now&) {
            for (site_id other = 0; other < sites; ++other)
              if (other != here) self->send(supervisor, actors::send_to_actor{other, "thermometer", to_bytes(self->state.coldest)});
            self->delayed_send(self, 500ms, gossip_now{});
          }};
}

int play() {
  constexpr std::uint32_t sites = 3;
  const std::vector<int> measured{21, -4, 17};
  std::vector<int> seen(sites);
  std::vector<caf::actor> thermometers;

  actors::cluster run({.seed = 7, .sites = sites});
  run.start_all();
  run.net.cut_both(1, 2);  // the coldest and the last site do not hear each other
  for (site_id site = 0; site < sites; ++site) {
    thermometers.push_back(run.system().spawn(thermometer, site, sites, measured.at(site), run.root(site), &seen));
    caf::anon_send(run.root(site), actors::register_actor{"thermometer", thermometers.back()});
  }
  const auto agreed = [&] { return std::ranges::all_of(seen, [](int value) { return value == -4; }); };
  const bool good = run.run_until(agreed, 60s);
  for (site_id site = 0; site < sites; ++site)
    fmt::print("site {} measured {:3} and knows of {:3}\n", site, measured.at(site), seen.at(site));
  fmt::print("after {:.1f} s of virtual time, beside {} rounds of training\n", to_seconds(run.world.now().time_since_epoch()),
             run.last_round());

  for (const auto& one : thermometers) caf::anon_send_exit(one, caf::exit_reason::user_shutdown);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main() {
  try {
    return play();
  } catch (const std::exception& e) {  // of the simulation: the recipe, say
    fmt::print(stderr, "custom_actor: {}\n", e.what());
    return EXIT_FAILURE;
  }
}
