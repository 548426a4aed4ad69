#include "actors/site_state.hpp"
#include "framework/core/exit_code.hpp"

#include <chrono>
#include <utility>

namespace isthmus::actors {

void begin_save(site_actor* self, const save_boundary& at) {
  auto& s = self->state;
  if (at.last) s.last_save = at.step;
  s.saving.emplace();
  s.saving->at = at;
  s.saving->groups.resize(s.groups.size());
  s.saving->books.resize(s.groups.size());
  s.saving->missing = s.groups.size() + 1;
  for (const auto& group : s.groups) self->send(group, save_group{});
  self->send(s.shard, save_cursor{});
}

namespace {

constexpr auto rows_written_within = std::chrono::seconds(10);

void write_copy(site_actor* self, save_copy copy) {
  auto& s = self->state;
  s.writing.push_back(std::move(copy));
  self->send(s.checkpoint, s.writing.back());
}

void end_save(site_actor* self) {
  auto& s = self->state;
  if (--s.saving->missing > 0) return;
  const save_in_progress done = std::move(*s.saving);
  s.saving.reset();
  const save_copy copy{copy_site(*s.parts, *s.start, s.copy_memory, done.at.step, s.tokens, done.groups, done.books, done.cursor),
                       done.at.round, done.at.last};
  // A run that goes on from this checkpoint does not do its steps again: their rows are written before it is, if that can be.
  self->request(s.metrics, rows_written_within, flush_rows{})
      .then([self, copy] { write_copy(self, copy); },
            [self, copy](const caf::error& why) {
              tell(self, "rows_missing",
                   "the rows before a checkpoint are not written (" + caf::to_string(why) + "); it is saved all the same");
              write_copy(self, copy);
            });
  self->send(s.trainer, boundary_saved{});
}

}  // namespace

void take_checkpoint(site_actor* self, const checkpoint_written& m) {
  auto& s = self->state;
  if (!s.writing.empty()) s.writing.pop_front();
  self->send(s.metrics, m);
  if (!m.last || m.step != s.last_save) return;
  if (!m.error.empty()) return end(self, exit_environment, "the last checkpoint is not written: " + m.error);
  s.last_saved = true;
  if (s.closing || !s.draining) return finish_when_saved(self);
  self->send(s.shard, close_leases{false});
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
