#include "framework/data/lease_book.hpp"

#include "framework/core/planted.hpp"
#include "framework/core/error.hpp"

#include <algorithm>
#include <set>

namespace isthmus {

lease_book::lease_book(std::uint32_t shard, std::uint64_t samples, std::uint32_t groups)
    : shard_(shard), samples_(samples), watermarks_(groups, 0), missed_(groups) {
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

std::vector<lease> lease_book::grant(std::uint64_t positions, step_number step) {
  ensure(step >= last_step_, "lease_book: steps must not fall");
  last_step_ = step;
  range_set granted = waiting_.take(positions);
  const std::uint64_t fresh = positions - granted.size();
  granted.add(next_, next_ + fresh);
  next_ += fresh;
  totals_.assigned += positions;
  totals_.outstanding += positions;
  const auto leases = as_leases(granted);
  for (const lease& l : leases) outstanding_.push_back({l.begin, l.end, step});
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
    if (is_planted(planted::retrain_partial_lease)) waiting_.add(l.begin, l.end);
  }
  totals_.partial += ranges.size();
  totals_.outstanding -= ranges.size();
}

lease_settlement lease_book::settle_by_groups(const range_set& ranges, const std::vector<range_set>& missed, bool site_returns) {
  std::set<std::uint64_t> edges;
  const auto add_edges = [&](const range_set& set) {
    for (const auto& [begin, end] : set.ranges()) edges.insert({begin, end});
  };
  add_edges(ranges);
  for (const range_set& m : missed) add_edges(m);
  lease_settlement result;
  range_set everywhere, nowhere;
  for (auto edge = edges.begin(); edge != edges.end() && std::next(edge) != edges.end(); ++edge) {
    const range_set piece = ranges.within(*edge, *std::next(edge));
    if (piece.empty()) continue;
    std::vector<group_id> missing;
    for (group_id g = 0; g < missed.size(); ++g)
      if (!missed[g].intersect(piece).empty()) missing.push_back(g);
    if (missing.empty())
      everywhere.add(piece);
    else if (missing.size() == missed.size())
      nowhere.add(piece);
    else
      settle_partial(piece, missing, result);
  }
  result.committed = settle_committed(everywhere);
  (site_returns ? result.returned : result.written_off) = site_returns ? settle_returned(nowhere) : settle_written_off(nowhere);
  return result;
}

void lease_book::reopen_committed(const range_set& ranges) {
  committed_.remove(ranges);
  totals_.committed -= ranges.size();
  totals_.outstanding += ranges.size();
}

void lease_book::reopen_partial(const std::vector<partial_lease>& entries) {
  for (const partial_lease& p : entries) {
    std::erase(partial_, p);
    totals_.partial -= p.range.end - p.range.begin;
    totals_.outstanding += p.range.end - p.range.begin;
  }
}

void lease_book::drop_entries(const range_set& ranges) {
  std::vector<grant_entry> left;
  for (const grant_entry& e : outstanding_) {
    range_set rest;
    rest.add(e.begin, e.end);
    rest.remove(ranges);
    for (const auto& [begin, end] : rest.ranges()) left.push_back({begin, end, e.step});
  }
  outstanding_ = std::move(left);
  for (range_set& m : missed_) m.remove(ranges);
}

lease_settlement lease_book::commit(group_id group, step_number watermark) {
  ensure(group < watermarks_.size(), "lease_book: unknown group");
  watermarks_[group] = std::max(watermarks_[group], watermark);
  const step_number lowest = lowest_watermark();
  range_set done;
  for (const grant_entry& e : outstanding_)
    if (e.step <= lowest) done.add(e.begin, e.end);
  const auto missed = missed_;
  drop_entries(done);
  return settle_by_groups(done, missed, true);
}

lease_settlement lease_book::veto(group_id group, step_number watermark, std::span<const lease> leases) {
  ensure(group < watermarks_.size(), "lease_book: unknown group");
  range_set vetoed;
  for (const lease& l : leases)
    if (l.shard == shard_) vetoed.add(l.begin, l.end);
  for (const grant_entry& e : outstanding_) missed_[group].add(vetoed.within(e.begin, e.end));
  return commit(group, watermark);
}

lease_settlement lease_book::crash() { return settle_outstanding(true); }
lease_settlement lease_book::write_off() { return settle_outstanding(false); }

lease_settlement lease_book::settle_outstanding(bool site_returns) {
  auto missed = missed_;
  range_set all;
  for (const grant_entry& e : outstanding_) {
    all.add(e.begin, e.end);
    for (group_id g = 0; g < watermarks_.size(); ++g)
      if (watermarks_[g] < e.step) missed[g].add(e.begin, e.end);
  }
  drop_entries(all);
  return settle_by_groups(all, missed, site_returns);
}

lease_settlement lease_book::roll_back(group_id group, step_number watermark, std::span<const lease> leases) {
  ensure(group < watermarks_.size(), "lease_book: unknown group");
  watermarks_[group] = std::min(watermarks_[group], watermark);
  range_set gone;
  for (const lease& l : leases)
    if (l.shard == shard_) gone.add(l.begin, l.end);

  for (const grant_entry& e : outstanding_) missed_[group].add(gone.within(e.begin, e.end));
  range_set lost = missed_[group];  // what no group has and none will
  for (const range_set& m : missed_) lost = lost.intersect(m);
  std::vector<range_set> missed(watermarks_.size(), lost);
  missed[group] = gone;
  missed[group].add(lost);
  drop_entries(lost);

  range_set reopened = committed_.intersect(gone);
  reopen_committed(reopened);
  std::vector<partial_lease> fewer;
  for (const partial_lease& p : partial_)
    if (!gone.within(p.range.begin, p.range.end).empty() && !std::binary_search(p.missed.begin(), p.missed.end(), group))
      fewer.push_back(p);
  reopen_partial(fewer);
  for (const partial_lease& p : fewer) {
    reopened.add(p.range.begin, p.range.end);
    for (const group_id g : p.missed) missed[g].add(p.range.begin, p.range.end);
  }
  reopened.add(lost);
  return settle_by_groups(reopened, missed, true);
}

lease_settlement lease_book::recover(std::span<const std::vector<lease>> named) {
  ensure(named.size() == watermarks_.size(), "lease_book: one list of leases a group");
  std::vector<range_set> held(named.size());  // by group: what its records have
  range_set any, everywhere;
  for (std::size_t g = 0; g < named.size(); ++g) {
    for (const lease& l : named[g])
      if (l.shard == shard_) held[g].add(l.begin, l.end);
    held[g].remove(written_off_);
    any.add(held[g]);
    everywhere = g == 0 ? held[g] : everywhere.intersect(held[g]);
  }

  range_set open;
  for (const grant_entry& e : outstanding_) open.add(e.begin, e.end);
  drop_entries(open);
  // What this state took for committed or partial and the records do not: of records that became void.
  range_set undone = committed_;
  undone.remove(everywhere);
  reopen_committed(undone);
  open.add(undone);
  std::vector<partial_lease> wrong;
  for (const partial_lease& p : partial_) {
    const auto fits = [&](group_id g) {
      const bool missed = std::binary_search(p.missed.begin(), p.missed.end(), g);
      return held[g].within(p.range.begin, p.range.end).size() == (missed ? 0 : p.range.end - p.range.begin);
    };
    for (group_id g = 0; g < held.size(); ++g)
      if (!fits(g)) {
        wrong.push_back(p);
        break;
      }
  }
  reopen_partial(wrong);
  for (const partial_lease& p : wrong) open.add(p.range.begin, p.range.end);

  // What the records know and this state does not was granted after it was saved.
  range_set fresh = any;
  fresh.remove(committed_);
  fresh.remove(partial_positions());
  if (is_planted(planted::forget_recorded_lease)) fresh = {};
  range_set later = fresh.intersect(waiting_);
  waiting_.remove(later);
  if (!fresh.empty() && fresh.ranges().back().end > next_) {
    later.add(next_, fresh.ranges().back().end);
    next_ = fresh.ranges().back().end;
  }
  totals_.assigned += later.size();
  totals_.outstanding += later.size();
  open.add(later);
  std::vector<range_set> missed(held.size(), open);
  for (std::size_t g = 0; g < held.size(); ++g) missed[g].remove(held[g]);
  return settle_by_groups(open, missed, true);
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
  if (sum != open.size() || sum != totals_.outstanding || missed_.size() != watermarks_.size()) return false;
  for (const range_set& m : missed_)
    if (m.intersect(open).size() != m.size()) return false;
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
