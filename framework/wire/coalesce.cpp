#include "framework/wire/wire.hpp"

#include <algorithm>
#include <tuple>

namespace isthmus::wire {

std::vector<lease> coalesced(std::vector<lease> leases) {
  std::erase_if(leases, [](const lease& l) { return l.begin >= l.end; });
  std::sort(leases.begin(), leases.end(),
            [](const lease& a, const lease& b) { return std::tie(a.shard, a.begin, a.end) < std::tie(b.shard, b.begin, b.end); });
  std::vector<lease> merged;
  for (const lease& l : leases) {
    // Only ranges that touch: an overlap is a sample counted twice, which the ledger must see.
    if (!merged.empty() && merged.back().shard == l.shard && merged.back().end == l.begin)
      merged.back().end = l.end;
    else
      merged.push_back(l);
  }
  return merged;
}

}  // namespace isthmus::wire
