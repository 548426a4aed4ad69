#include "actors/site_state.hpp"

#include <utility>

namespace isthmus::actors {

void begin_save(site_actor* self, const save_boundary& at) {
  auto& s = self->state;
  s.last_save = s.last_save || at.last;
  s.saving.emplace();
  s.saving->at = at;
  s.saving->groups.resize(s.groups.size());
  s.saving->books.resize(s.groups.size());
  s.saving->missing = s.groups.size() + 1;
  for (const auto& group : s.groups) self->send(group, save_group{});
  self->send(s.shard, save_cursor{});
}

namespace {

void end_save(site_actor* self) {
  auto& s = self->state;
  if (--s.saving->missing > 0) return;
  const save_in_progress done = std::move(*s.saving);
  s.saving.reset();
  const save_copy copy{copy_site(*s.parts, *s.start, done.at.step, s.tokens, done.groups, done.books, done.cursor), done.at.round,
                       done.at.last};
  // A run that goes on from this checkpoint does not do its steps again: their rows are written before it is.
  const auto write = [self, copy] { self->send(self->state.checkpoint, copy); };
  self->request(s.metrics, caf::infinite, flush_rows{}).then(write, [write](const caf::error&) { write(); });
  self->send(s.trainer, boundary_saved{});
}

}  // namespace

void take_checkpoint(site_actor* self, const checkpoint_written& m) {
  auto& s = self->state;
  self->send(s.metrics, m);
  if (m.last && s.draining && !s.finished) self->send(s.shard, close_leases{false});
}

void take_group_saved(site_actor* self, const group_saved& m) {
  auto& saving = self->state.saving;
  if (!saving) return;
  saving->groups.at(m.group) = m.group_state;
  saving->books.at(m.group) = m.book;
  end_save(self);
}

void take_cursor(site_actor* self, const cursor& m) {
  if (!self->state.saving) return;
  self->state.saving->cursor = m.json;
  end_save(self);
}

}  // namespace isthmus::actors
