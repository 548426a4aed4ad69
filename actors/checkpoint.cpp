#include "actors/messages.hpp"
#include "actors/services.hpp"
#include "framework/core/rare.hpp"
#include "framework/rounds/ledger.hpp"

namespace isthmus::actors {

namespace {

rare_site dies_before_the_name("a save ends between its ledger line and its name", 0.1);
rare_site dies_behind_the_name("a save ends between its name and its ledger line", 0.1);

struct checkpoint_state {
  static constexpr const char* name = "checkpoint";
  std::shared_ptr<const site_parts> parts;
  std::optional<checkpoint_store> store;
  std::function<void(const std::string&)> write_ledger;
};
using checkpoint_actor = caf::stateful_actor<checkpoint_state>;

checkpoint_written save(checkpoint_actor* self, const save_copy& m) {
  auto& s = self->state;
  const time_point began = self->clock().now();
  checkpoint_written done{m.round, m.copy->facts.step, "", 0, 0, "", m.last};
  const auto announce = [&](const std::string& folder, const hash128& manifest) {
    s.write_ledger(ledger::checkpoint(folder, "saving", manifest));
    if (dies_before_the_name()) throw contract_error("a rehearsed crash before a checkpoint has its name");
  };
  auto saved = s.store->save(m.copy->facts, parts_of(*m.copy), announce);
  done.seconds = to_seconds(self->clock().now() - began);
  if (!saved) {
    done.error = saved.error().message;
    return done;
  }
  if (dies_behind_the_name()) throw contract_error("a rehearsed crash behind a checkpoint's name");
  done.folder = saved->folder;
  done.bytes = saved->bytes;
  s.write_ledger(ledger::checkpoint(saved->folder, "durable", saved->manifest));
  for (const auto& gone : saved->removed) s.write_ledger(ledger::checkpoint(gone.folder, "removed", gone.manifest));
  return done;
}

caf::behavior checkpoint(checkpoint_actor* self, std::shared_ptr<const site_parts> parts, const std::string& last,
                         std::function<void(const std::string&)> write) {
  end_with_reason(self);
  auto& s = self->state;
  s.parts = std::move(parts);
  s.write_ledger = std::move(write);
  s.store.emplace(s.parts->disk, checkpoint_folder(s.parts->self), static_cast<std::size_t>(s.parts->plan.checkpoint.keep));
  s.store->number_above(last);
  return {[=](const save_copy& m) { return save(self, m); }};
}

}  // namespace

caf::actor spawn_checkpoint(caf::event_based_actor* owner, std::shared_ptr<const site_parts> parts, const std::string& last_checkpoint,
                            std::function<void(const std::string& line)> write_ledger) {
  return parts->where == tier::real ? owner->spawn<caf::linked + caf::detached>(checkpoint, parts, last_checkpoint, std::move(write_ledger))
                                    : owner->spawn<caf::linked>(checkpoint, parts, last_checkpoint, std::move(write_ledger));
}

}  // namespace isthmus::actors
