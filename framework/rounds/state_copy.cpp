#include "framework/rounds/state_copy.hpp"

#include "framework/rounds/parameter_group.hpp"

#include <algorithm>
#include <cstring>

namespace isthmus {

namespace {

constexpr std::size_t window_max = 16;  // pieces asked of one holder: its link is kept busy over the round trip

}  // namespace

state_copy::state_copy(std::size_t state_floats, std::size_t piece_floats, std::size_t failures)
    : piece_(piece_floats),
      values_(state_floats),
      here_((state_floats + piece_floats - 1) / piece_floats),
      one_at_a_time_(failures > 0),
      turn_(failures > 0 ? failures - 1 : 0) {
  ensure(state_floats > 0 && piece_floats > 0, "state_copy: an empty state");
}

void state_copy::forget() {
  here_.assign(here_.size(), false);
  here_count_ = 0;
  for (auto& [site, h] : holders_) h = {};
}

state_copy::questions state_copy::fetch(const std::optional<state_name>& wanted, const std::vector<site_id>& holders) {
  if (wanted_ != wanted) forget();
  wanted_ = wanted;
  order_ = holders;
  std::erase_if(holders_, [&](const auto& h) { return std::find(holders.begin(), holders.end(), h.first) == holders.end(); });
  for (const site_id site : holders) {
    holders_[site].asked.clear();  // an epoch may have ended: questions of the old one are not answered
    holders_[site].elsewhere = false;
  }
  return ask();
}

state_copy::taken state_copy::take(site_id from, const message::state_part& m, const shared_bytes& payload) {
  const state_name name{m.round, m.round == 0 ? hash128{} : hash_record(m.record)};
  const std::size_t piece = m.begin / piece_;
  const auto source = holders_.find(from);
  if (source == holders_.end()) return taken::useless;
  if (source->second.asked.erase(piece) > 0) source->second.silent = 0;  // what it offers unasked answers no question
  if (payload == nullptr || m.begin % piece_ != 0 || m.begin >= values_.size()) return taken::useless;
  const std::size_t floats = std::min(piece_, values_.size() - m.begin);
  if (payload->size() != floats * sizeof(float)) return taken::useless;
  if (!wanted_) wanted_ = name;
  if (*wanted_ != name || here_[piece]) return taken::useless;
  if (one_at_a_time_ && (order_.empty() || from != order_[turn_ % order_.size()])) return taken::useless;
  std::memcpy(values_.data() + m.begin, payload->data(), payload->size());
  if (here_count_ == 0) {
    facts_ = m;
    first_source_ = from;
  }
  here_[piece] = true;
  ++here_count_;
  source->second.gave = true;
  source->second.silent = 0;
  source->second.window = std::min(source->second.window + 1, window_max);
  return here_count_ == here_.size() ? taken::whole : taken::kept;
}

std::optional<std::size_t> state_copy::next_piece() const {
  for (std::size_t piece = 0; piece < here_.size(); ++piece) {
    if (here_[piece]) continue;
    const bool asked = std::any_of(holders_.begin(), holders_.end(), [&](const auto& h) { return h.second.asked.contains(piece); });
    if (!asked) return piece;
  }
  return std::nullopt;
}

state_copy::questions state_copy::ask() {
  questions out;
  std::vector<site_id> order = order_;
  if (one_at_a_time_ && !order.empty()) order = {order[turn_ % order.size()]};
  std::stable_sort(order.begin(), order.end(), [&](site_id a, site_id b) { return holders_[a].silent < holders_[b].silent; });
  const auto answers = [&](site_id site) { return !holders_[site].elsewhere && !holders_[site].slow(); };
  if (std::any_of(order.begin(), order.end(), answers)) std::erase_if(order, [&](site_id site) { return !answers(site); });
  if (!wanted_) {  // one answer tells what the others are then asked for
    const bool waits = std::any_of(holders_.begin(), holders_.end(), [](const auto& h) { return !h.second.asked.empty(); });
    if (waits || order.empty()) return out;
    holders_[order.front()].asked.insert(0);
    out.push_back({order.front(), {}, 0, true});
    return out;
  }
  for (std::size_t i = 0; i < window_max; ++i) {  // in turn, so that all have something to send
    for (const site_id site : order) {
      holder& h = holders_[site];
      const auto piece = h.elsewhere || h.asked.size() >= h.window ? std::nullopt : next_piece();
      if (!piece) continue;
      h.asked.insert(*piece);
      out.push_back({site, *wanted_, *piece * piece_, false});
    }
  }
  return out;
}

bool state_copy::nobody_has_it() const {
  const bool some = std::any_of(holders_.begin(), holders_.end(), [](const auto& h) { return h.second.elsewhere; });
  return some && std::all_of(holders_.begin(), holders_.end(), [](const auto& h) { return h.second.elsewhere || h.second.slow(); });
}

state_copy::questions state_copy::not_there(site_id from) {
  const auto source = holders_.find(from);
  if (source == holders_.end() || !wanted_) return {};
  source->second.asked.clear();
  source->second.silent = 0;
  source->second.elsewhere = true;
  if (one_at_a_time_) ++turn_;
  if (nobody_has_it()) {
    wanted_.reset();
    forget();
  }
  return ask();
}

state_copy::questions state_copy::again() {
  for (auto& [site, h] : holders_) {
    if (!h.asked.empty()) ++h.silent;
    if (!h.slow()) continue;
    h.asked.clear();
    h.window = 1;  // what it was asked for may yet come: over a slow link nothing should come many times
  }
  if (one_at_a_time_ && !order_.empty() && holders_[order_[turn_ % order_.size()]].slow()) ++turn_;
  if (wanted_ && nobody_has_it()) {
    wanted_.reset();
    forget();
  }
  for (auto& [site, h] : holders_) h.elsewhere = false;  // it may have come there by now
  return ask();
}

state_copy::questions state_copy::discard() {
  if (one_at_a_time_) ++turn_;
  one_at_a_time_ = true;
  wanted_.reset();
  forget();
  return ask();
}

}  // namespace isthmus
