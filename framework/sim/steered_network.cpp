#include "framework/sim/steered_network.hpp"

#include "framework/sim/fault_plan.hpp"

namespace isthmus::sim {

std::function<void()> hurt_link(steered_network& net, const planned_fault& f, site_id peer) {
  const site_id site = f.site;
  switch (f.kind) {
    case fault_kind::cut:
      net.cut(site, peer), net.cut(peer, site);
      return [&net, site, peer] { net.heal(site, peer), net.heal(peer, site); };
    case fault_kind::cut_out: net.cut(site, peer); return [&net, site, peer] { net.heal(site, peer); };
    case fault_kind::clog:
      net.hold(site, peer), net.hold(peer, site);
      return [&net, site, peer] { net.release(site, peer), net.release(peer, site); };
    case fault_kind::reset: net.reset(site, peer); return {};
    case fault_kind::corrupt: net.corrupt_next(site, peer); return {};
    default: break;
  }
  path_fault hurt;
  if (f.kind == fault_kind::delay) hurt.delay = from_seconds(f.trigger.amount);
  if (f.kind == fault_kind::jitter) hurt.jitter = from_seconds(f.trigger.amount);
  if (f.kind == fault_kind::reorder) hurt.reorder = from_seconds(f.trigger.amount);
  if (f.kind == fault_kind::loss) hurt.loss = f.trigger.amount;
  if (f.kind == fault_kind::duplicate) hurt.duplicate = f.trigger.amount;
  if (f.kind == fault_kind::rate) hurt.bytes_per_second = f.trigger.amount;
  net.worsen(site, peer, hurt);
  return [&net, site, peer, hurt] { net.mend(site, peer, hurt); };
}

}  // namespace isthmus::sim
