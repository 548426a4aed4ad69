#include "tests/framework/wire/random_messages.hpp"

#include "framework/core/error.hpp"

namespace isthmus::testing {

namespace {

hash128 random_hash(rng& r) { return {r.next(), r.next()}; }
std::uint32_t small(rng& r) { return static_cast<std::uint32_t>(r.next()); }
std::uint64_t positive(rng& r) { return 1 + r.below(1ULL << 62); }

std::string random_text(rng& r, std::size_t most) {
  static const char* const pieces[] = {"a", "Z", " ", "\n", "é", "→", "𝔘", "漢"};
  std::string text;
  for (std::size_t n = r.below(most / 4 + 1); n > 0; --n) text += pieces[r.below(8)];
  return text;
}

contributor random_contributor(rng& r, std::size_t longest) {
  contributor c{small(r), r.next(), r.next(), r.next(), {}, r.normal()};
  c.judged = static_cast<verdict>(r.below(verdicts));
  c.uncounted = r.below(c.tokens);
  c.clipped = r.normal();
  c.barred_until = r.next();
  c.rounds = r.next();
  c.strikes = small(r);
  c.audits_failed = small(r);
  std::uint64_t at = r.below(1000);
  for (std::size_t n = r.below(longest + 1); n > 0; --n) {
    const std::uint64_t begin = at + 1 + r.below(100), end = begin + 1 + r.below(1000);
    c.leases.push_back({7, begin, end});
    at = end;
  }
  return c;
}

std::vector<contributor> random_contributors(rng& r, std::size_t longest) {
  std::vector<contributor> all;
  for (std::size_t n = r.below(longest + 1), site = 0; n > 0; --n) {
    all.push_back(random_contributor(r, longest));
    all.back().site = static_cast<site_id>(site += 1 + r.below(1000));
  }
  return all;
}

round_record random_record(rng& r, std::size_t longest) {
  round_record record;
  record.group = small(r);
  record.round = positive(r);
  record.epoch = positive(r);
  record.home = small(r);
  record.contributors = random_contributors(r, longest);
  record.tokens_total = r.next();
  record.weight = r.uniform();
  record.mass = r.normal();
  record.delta_hash = random_hash(r);
  record.anchor_hash = random_hash(r);
  record.previous = random_hash(r);
  for (std::size_t n = r.below(longest + 1); n > 0; --n)
    record.audits.push_back({small(r), r.next(), 2 * r.uniform() - 1, r.below(2) == 1, r.next()});
  return record;
}

std::vector<held_record> random_held(rng& r, std::size_t longest) {
  std::vector<held_record> held;
  for (std::size_t n = r.below(longest + 1); n > 0; --n) held.push_back({small(r), r.next(), r.next(), random_hash(r), random_hash(r)});
  return held;
}

epoch_view random_view(rng& r, std::size_t longest) {
  epoch_view v;
  v.number = positive(r);
  for (std::size_t n = r.below(longest + 1), site = 0; n > 0; --n)
    v.members.push_back({static_cast<site_id>(site += 1 + r.below(9)), r.next(), r.below(2) == 1, small(r)});
  for (std::size_t n = r.below(longest + 1), group = 0; n > 0; --n)
    v.cuts.push_back(
        {static_cast<group_id>(group += 1 + r.below(9)), small(r), r.next(), r.next(), random_hash(r), random_hash(r), small(r)});
  v.reason = random_text(r, 1024);
  return v;
}

bool equal(const message::join& a, const message::join& b) { return a.incarnation == b.incarnation && a.held == b.held; }
bool equal(const message::beat& a, const message::beat& b) { return a.sequence == b.sequence && a.echo == b.echo; }
bool equal(const message::suspect& a, const message::suspect& b) {
  return a.peer == b.peer && a.incarnation == b.incarnation && a.reason == b.reason;
}
bool equal(const message::seal& a, const message::seal& b) { return a.epoch == b.epoch; }
bool equal(const message::sealed& a, const message::sealed& b) { return a.epoch == b.epoch && a.held == b.held; }
bool equal(const message::new_epoch& a, const message::new_epoch& b) { return a.view == b.view; }
bool equal(const message::freeze& a, const message::freeze& b) { return a.epoch == b.epoch; }
bool equal(const message::frozen& a, const message::frozen& b) { return a.epoch == b.epoch && a.held == b.held; }
bool equal(const message::synced& a, const message::synced& b) { return a.epoch == b.epoch; }
bool equal(const message::leave& a, const message::leave& b) { return a.reason == b.reason && a.finished == b.finished; }
bool equal(const message::report& a, const message::report& b) {
  return a.step == b.step && a.tokens == b.tokens && a.loss == b.loss && a.tokens_per_second == b.tokens_per_second;
}
bool equal(const message::stop_run& a, const message::stop_run& b) { return a.reason == b.reason && a.finished == b.finished; }
template <class T>
bool same_place(const T& a, const T& b) {
  return a.epoch == b.epoch && a.group == b.group && a.round == b.round;
}
bool equal(const message::contribution& a, const message::contribution& b) {
  return same_place(a, b) && a.from == b.from && a.frame_hash == b.frame_hash && a.base == b.base;
}
bool equal(const message::delta& a, const message::delta& b) { return a.record == b.record; }
bool equal(const message::state_part& a, const message::state_part& b) {
  return same_place(a, b) && a.begin == b.begin && a.record == b.record && a.watermarks == b.watermarks;
}
bool equal(const message::stored& a, const message::stored& b) { return same_place(a, b) && a.record_hash == b.record_hash; }
bool equal(const message::commit& a, const message::commit& b) { return same_place(a, b) && a.record_hash == b.record_hash; }
bool equal(const message::refused& a, const message::refused& b) { return same_place(a, b) && a.code == b.code && a.reason == b.reason; }
bool equal(const message::want_state& a, const message::want_state& b) {
  return same_place(a, b) && a.record_hash == b.record_hash && a.begin == b.begin && a.any == b.any;
}
bool equal(const message::want_record& a, const message::want_record& b) { return same_place(a, b); }
bool equal(const message::call& a, const message::call& b) { return same_place(a, b); }
bool equal(const message::pass& a, const message::pass& b) { return same_place(a, b); }
bool equal(const message::to_actor& a, const message::to_actor& b) { return a.name == b.name; }

}  // namespace

peer_message random_message(rng& r, std::size_t kind, std::size_t longest) {
  switch (kind) {
    case 0: return message::join{r.next(), random_held(r, longest)};
    case 1: return message::beat{r.next(), r.next()};
    case 2: return message::suspect{small(r), r.next(), random_text(r, 1024)};
    case 3: return message::seal{positive(r)};
    case 4: return message::sealed{positive(r), random_held(r, longest)};
    case 5: return message::new_epoch{random_view(r, longest)};
    case 6: return message::synced{positive(r)};
    case 7: return message::leave{random_text(r, 1024), r.below(2) == 1};
    case 8: return message::report{r.next(), r.next(), r.normal(), r.uniform()};
    case 9: return message::stop_run{random_text(r, 1024), r.below(2) == 1};
    case 10:
      return message::contribution{positive(r), small(r), positive(r), random_contributor(r, longest), random_hash(r), random_hash(r)};
    case 11: return message::delta{random_record(r, longest)};
    case 12:
      return message::state_part{positive(r), small(r), r.next(), r.next(), random_record(r, longest), random_contributors(r, longest)};
    case 13: return message::stored{positive(r), small(r), positive(r), random_hash(r)};
    case 14: return message::commit{positive(r), small(r), positive(r), random_hash(r)};
    case 15: return message::refused{r.next(), small(r), r.next(), small(r) % 10, random_text(r, 1024)};
    case 16: return message::want_state{r.next(), small(r), r.next(), random_hash(r), r.next(), r.below(2) == 1};
    case 17: return message::want_record{r.next(), small(r), positive(r)};
    case 18: return message::to_actor{"actor" + random_text(r, 100)};
    case 19: return message::freeze{positive(r)};
    case 20: return message::frozen{positive(r), random_held(r, longest)};
    case 21: return message::call{positive(r), small(r), positive(r)};
    case 22: return message::pass{positive(r), small(r), positive(r)};
    default: throw contract_error("random_message: no such kind");
  }
}

bool same(const peer_message& a, const peer_message& b) {
  if (a.index() != b.index()) return false;
  return std::visit([&](const auto& one) { return equal(one, std::get<std::decay_t<decltype(one)>>(b)); }, a);
}

}  // namespace isthmus::testing
