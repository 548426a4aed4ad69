#include "framework/data/lease_book.hpp"

#include "framework/core/error.hpp"

#include <algorithm>
#include <set>

namespace isthmus {

lease_book::lease_book(std::uint32_t shard, std::uint64_t samples, std::uint32_t groups)
    : shard_(shard), samples_(samples), watermarks_(groups, 0) {
  ensure(samples > 0 && groups > 0, "lease_book: needs samples and groups");
}

step_number lease_book::lowest_watermark() const { return *std::min_element(watermarks_.begin(), watermarks_.end()); }
step_number lease_book::highest_watermark() const { return *std::max_element(watermarks_.begin(), watermarks_.end()); }

std::vector<lease> lease_book::as_leases(const range_set& ranges) const {
  std::vector<lease> leases;
  for (auto [begin, end] : ranges.ranges()) {
    for (; begin < end; begin = leases.back().end) leases.push_back({shard_, begin, std::min(end, (begin / samples_ + 1) * samples_)});
  }
  return leases;
}

std::vector<lease> lease_book::grant(std::uint64_t positions, std::uint32_t device, step_number step) {
  ensure(step >= last_step_, "lease_book: steps must not fall");
  last_step_ = step;
  range_set granted = waiting_.take(positions);
  const std::uint64_t fresh = positions - granted.size();
  granted.add(next_, next_ + fresh);
  next_ += fresh;
  totals_.assigned += positions;
  totals_.outstanding += positions;
  const auto leases = as_leases(granted);
  for (const lease& l : leases) outstanding_.push_back({l.begin, l.end, device, step});
  return leases;
}

std::vector<lease> lease_book::granted(step_number after, step_number upto) const {
  range_set ranges;
  for (const auto& e : outstanding_)
    if (e.step > after && e.step <= upto) ranges.add(e.begin, e.end);
  return as_leases(ranges);
}

// The four ways for outstanding positions to settle. The caller takes them out of outstanding_.
std::vector<lease> lease_book::settle_committed(const range_set& ranges) {
  committed_.add(ranges);
  totals_.committed += ranges.size();
  totals_.outstanding -= ranges.size();
  return as_leases(ranges);
}

std::vector<lease> lease_book::settle_returned(const range_set& ranges) {
  waiting_.add(ranges);
  totals_.returned += ranges.size();
  totals_.outstanding -= ranges.size();
  return as_leases(ranges);
}

std::vector<lease> lease_book::settle_written_off(const range_set& ranges) {
  written_off_.add(ranges);
  totals_.written_off += ranges.size();
  totals_.outstanding -= ranges.size();
  return as_leases(ranges);
}

void lease_book::settle_partial(const range_set& ranges, const std::vector<group_id>& missed, lease_settlement& into) {
  for (const lease& l : as_leases(ranges)) {
    partial_.push_back({l, missed});
    into.partial.push_back({l, missed});
  }
  totals_.partial += ranges.size();
  totals_.outstanding -= ranges.size();
}

lease_settlement lease_book::give_back(std::uint32_t device, step_number from) {
  range_set back;
  std::erase_if(outstanding_, [&](const grant_entry& e) {
    const bool returns = e.device == device && e.step >= from;
    if (returns) back.add(e.begin, e.end);
    return returns;
  });
  lease_settlement result;
  result.returned = settle_returned(back);
  return result;
}

lease_settlement lease_book::commit(group_id group, step_number watermark) {
  ensure(group < watermarks_.size(), "lease_book: unknown group");
  watermarks_[group] = std::max(watermarks_[group], watermark);
  const step_number lowest = lowest_watermark();
  range_set done;
  std::erase_if(outstanding_, [&](const grant_entry& e) {
    if (e.step <= lowest) done.add(e.begin, e.end);
    return e.step <= lowest;
  });
  lease_settlement result;
  result.committed = settle_committed(done);
  return result;
}

lease_settlement lease_book::crash() { return settle_outstanding(true); }
lease_settlement lease_book::write_off() { return settle_outstanding(false); }

lease_settlement lease_book::settle_outstanding(bool site_returns) {
  lease_settlement result;
  range_set lost;
  const step_number highest = highest_watermark();
  for (const grant_entry& e : outstanding_) {
    range_set one;
    one.add(e.begin, e.end);
    std::vector<group_id> missed;
    for (group_id g = 0; g < watermarks_.size(); ++g)
      if (watermarks_[g] < e.step) missed.push_back(g);
    if (e.step > highest)
      lost.add(one);
    else
      settle_partial(one, missed, result);
  }
  outstanding_.clear();
  std::sort(result.partial.begin(), result.partial.end(), [](const auto& a, const auto& b) { return a.range.begin < b.range.begin; });
  (site_returns ? result.returned : result.written_off) = site_returns ? settle_returned(lost) : settle_written_off(lost);
  return result;
}

lease_settlement lease_book::recover(std::span<const std::vector<lease>> named) {
  ensure(named.size() == watermarks_.size(), "lease_book: one list of leases a group");
  std::vector<range_set> held(named.size());  // by group: what its records hold of the positions that are not settled
  range_set any;
  for (std::size_t g = 0; g < named.size(); ++g) {
    for (const grant_entry& e : outstanding_)
      if (e.step <= watermarks_[g]) held[g].add(e.begin, e.end);
    for (const lease& l : named[g])
      if (l.shard == shard_) held[g].add(l.begin, l.end);
    for (const range_set* settled : {&committed_, &written_off_}) held[g].remove(*settled);
    held[g].remove(partial_positions());
    any.add(held[g]);
  }

  // What the records know and this state does not was granted after it was saved: enter it as outstanding.
  range_set open;
  for (const grant_entry& e : outstanding_) open.add(e.begin, e.end);
  range_set later = any.intersect(waiting_);
  waiting_.remove(later);
  if (!any.empty() && any.ranges().back().end > next_) {
    later.add(next_, any.ranges().back().end);
    next_ = any.ranges().back().end;
  }
  totals_.assigned += later.size();
  totals_.outstanding += later.size();
  open.add(later);
  outstanding_.clear();

  std::set<std::uint64_t> edges;
  for (const range_set& h : held)
    for (const auto& [begin, end] : h.ranges()) edges.insert({begin, end});
  lease_settlement result;
  range_set all = any;
  for (auto edge = edges.begin(); edge != edges.end() && std::next(edge) != edges.end(); ++edge) {
    const range_set piece = any.within(*edge, *std::next(edge));
    std::vector<group_id> missed;
    for (group_id g = 0; g < held.size(); ++g)
      if (held[g].intersect(piece).empty()) missed.push_back(g);
    if (piece.empty() || missed.empty()) continue;
    settle_partial(piece, missed, result);
    all.remove(piece);
  }
  result.committed = settle_committed(all);
  open.remove(any);
  result.returned = settle_returned(open);
  return result;
}

range_set lease_book::partial_positions() const {
  range_set positions;
  for (const partial_lease& p : partial_) positions.add(p.range.begin, p.range.end);
  return positions;
}

bool lease_book::balanced() const {
  range_set open;
  std::uint64_t sum = 0;
  for (const grant_entry& e : outstanding_) {
    open.add(e.begin, e.end);
    sum += e.end - e.begin;
  }
  if (sum != open.size() || sum != totals_.outstanding) return false;
  const range_set partial = partial_positions();
  range_set all = open;
  for (const range_set* part : {&waiting_, &committed_, &written_off_, &partial}) {
    all.add(*part);
    sum += part->size();
  }
  const bool covered = sum == next_ && all.size() == next_ && (next_ == 0 || all.ranges().back().end == next_);
  const bool counted =
      totals_.committed == committed_.size() && totals_.partial == partial.size() && totals_.written_off == written_off_.size();
  return covered && counted &&
         totals_.assigned == totals_.committed + totals_.partial + totals_.returned + totals_.written_off + totals_.outstanding;
}

}  // namespace isthmus
