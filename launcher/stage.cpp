#include "launcher/stage.hpp"

#include "launcher/run_folder.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace isthmus::launcher {

namespace {
constexpr int control_port = 7000;  // everybody's own: each has a namespace to itself
}

expected<std::unique_ptr<stage>> stage::build(const recipe& plan, bool in_spaces) {
  std::unique_ptr<stage> made(new stage);
  if (!in_spaces) {
    auto picked = pick_addresses(plan);
    if (!picked) return picked.failure();
    made->addresses_ = std::move(*picked);
    return made;
  }
  std::vector<site_id> members{coordinator_id};
  for (site_id site = 0; site < plan.sites.size(); ++site) members.push_back(site);
  auto spaces = emulator::tun_network::make(members, static_cast<std::uint64_t>(plan.run.seed));
  if (!spaces) return spaces.failure();
  made->spaces_ = std::move(*spaces);
  for (const auto site : members) made->addresses_[site] = fmt::format("{}:{}", emulator::tun_network::host_of(site), control_port);
  return made;
}

sim::steered_network& stage::links() {
  if (spaces_) return *spaces_;
  return frames_;
}

expected<stage::door> stage::open_door(site_id site) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(errc::environment, fmt::format("cannot make a socket pair: {}", std::strerror(errno)));
  steering_.insert_or_assign(site, descriptor(ends[0]));
  doors_.insert_or_assign(site, descriptor(ends[1]));
  door made{{"--steering", std::to_string(ends[1])}, {ends[1]}};
  if (spaces_) {
    const int space = spaces_->space_of(site);
    made.arguments.insert(made.arguments.end(), {"--space", std::to_string(space)});
    made.kept.push_back(space);
  }
  if (const auto slowed = slowness_.find(site); slowed != slowness_.end()) slow(site, slowed->second);
  for (const auto& line : frames_.standing(site)) tell(site, line);
  return made;
}

void stage::slow(site_id site, double factor) {
  slowness_[site] = factor;
  emulator::steering_command c;
  c.factor = factor;
  tell(site, c.text());
}

void stage::tell(site_id site, const std::string& line) {
  const auto found = steering_.find(site);
  if (found == steering_.end()) return;
  // Nobody reads any more, or a stopped process has not read for very long: it is told all that stands when it starts again.
  if (::send(found->second.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {}
}

}  // namespace isthmus::launcher
