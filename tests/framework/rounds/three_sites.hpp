#pragma once

#include "framework/rounds/parameter_group.hpp"
#include "tests/framework/rounds/cluster.hpp"

#include <array>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace isthmus::testing {

/// One group at three sites, site 0 its home, and the messages between them: delivered at once, unless `keeps` holds one back.
struct three_sites {
  static constexpr std::int64_t size = 8;

  explicit three_sites(const std::function<void(group_settings&)>& adjust = [](group_settings&) {})
      : at{make(0, adjust), make(1, adjust), make(2, adjust)} {}

  std::array<parameter_group, 3> at;
  std::function<bool(site_id to, const envelope&)> keeps = [](site_id, const envelope&) { return false; };
  std::uint64_t states_asked = 0, calls_sent = 0;
  std::vector<std::pair<site_id, time_point>> wakes;  // asked for
  std::vector<site_id> called;                        // sites that heard a call
  std::vector<group_effect::closed_without> closed_without;
  time_point now{std::chrono::seconds(1)};

  void play(site_id from, const group_actions& actions) {
    for (const auto& action : actions) {
      if (const auto* w = std::get_if<group_effect::wake_at>(&action)) wakes.emplace_back(from, w->when);
      if (std::holds_alternative<group_effect::called>(action)) called.push_back(from);
      if (const auto* c = std::get_if<group_effect::closed_without>(&action)) closed_without.push_back(*c);
      const auto* sent = std::get_if<group_effect::send>(&action);
      if (sent == nullptr) continue;
      if (std::holds_alternative<message::want_state>(sent->what.body)) ++states_asked;
      if (std::holds_alternative<message::call>(sent->what.body)) ++calls_sent;
      if (!keeps(sent->to, sent->what)) play(sent->to, at[sent->to].receive(from, 1, sent->what, now));
    }
  }
  void enter(site_id site, epoch_number number, const group_cut& cut) {
    play(site, at[site].enter_epoch({number, {{0, 1}, {1, 1}, {2, 1}}, {cut}, "test"}, now));
  }
  void begin() {
    const group_cut beginning{0, 0, 0, 0, {}, at[0].held().anchor_hash, 0};
    for (site_id site = 0; site < 3; ++site) enter(site, 1, beginning);
  }
  void contribute(site_id site, round_number round) {
    const std::vector<float> values(size, 0.5F);
    contributor meta{site, 1, round, 1, {{0, 8 * round + site, 8 * round + site + 1}}, 0};
    play(site, at[site].local_contribution(round, make_shared_bytes(std::as_bytes(std::span(values))), meta, now));
  }
  void pass(site_id site) { play(site, at[site].pass(now)); }
  void tick_all(duration later) {
    now += later;
    for (site_id site = 0; site < 3; ++site) play(site, at[site].tick(now));
  }

private:
  static parameter_group make(site_id site, const std::function<void(group_settings&)>& adjust) {
    group_settings s;
    s.self = site;
    s.incarnation = 1;
    s.shape = {0, 0, size, {{0, size}}};
    const auto exact = std::make_shared<test_codec>(0.0F);
    s.codecs.steady = s.codecs.warm_up = {exact, exact, false};
    adjust(s);
    return parameter_group(s, std::vector<float>(size, 1.0F));
  }
};

}  // namespace isthmus::testing
