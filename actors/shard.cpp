#include "actors/shard.hpp"

#include "actors/messages.hpp"

#include <map>

namespace isthmus::actors {

namespace {

constexpr const char* no_group_has_them = "vetoed, or their records are void: no group has them";  // where such return

struct shard_state {
  std::optional<shard_settings> settings;
  std::optional<batch_reader> reader;
};
using shard_actor = caf::stateful_actor<shard_state>;

rows_leased lease_rows(shard_settings& s, const batch_reader& reader, const want_rows& m) {
  auto leases = s.book.grant(static_cast<std::uint64_t>(m.rows), m.step);
  s.granted(leases, m.step);
  auto ids = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(m.rows * (s.context + 1)));
  reader.fill(leases, *ids);
  return {m.ticket, std::move(leases), std::move(ids), m.rows};
}

caf::behavior shard(shard_actor* self, std::shared_ptr<shard_settings> given) {
  end_with_reason(self);
  self->state.settings = std::move(*given);
  auto& s = *self->state.settings;
  self->state.reader.emplace(s.tokens->train, s.context, s.seed, s.book.shard());
  return {
      [=](const want_rows& m) { return lease_rows(*self->state.settings, *self->state.reader, m); },
      [=](const watermark_moved& m) {
        auto& settings = *self->state.settings;
        if (auto settled = settings.book.commit(m.group, m.watermark); !settled.empty()) settings.settled(settled, no_group_has_them);
      },
      [=](const leases_vetoed& m) {
        auto& settings = *self->state.settings;
        if (auto settled = settings.book.veto(m.group, m.watermark, m.leases); !settled.empty())
          settings.settled(settled, no_group_has_them);
      },
      [=](const leases_voided& m) {
        auto& settings = *self->state.settings;
        if (auto settled = settings.book.roll_back(m.group, m.watermark, m.leases); !settled.empty())
          settings.settled(settled, "their records are void");
      },
      [=](const recover_leases& m) {
        auto& settings = *self->state.settings;
        if (auto settled = settings.book.recover(m.named); !settled.empty())
          settings.settled(settled, "not in any record when the site came back");
        return leases_recovered{};
      },
      [=](const close_leases& m) {
        auto& settings = *self->state.settings;
        if (m.for_good)
          if (auto settled = settings.book.write_off(); !settled.empty())
            settings.settled(settled, "the run ended before a record named them");
        return leases_closed{m.for_good, settings.book.totals().outstanding};
      },
      [=](const save_cursor&) { return cursor{self->state.settings->book.to_json()}; },
  };
}

}  // namespace

caf::actor spawn_shard(caf::event_based_actor* owner, shard_settings settings) {
  return owner->spawn<caf::linked>(shard, std::make_shared<shard_settings>(std::move(settings)));
}

}  // namespace isthmus::actors
