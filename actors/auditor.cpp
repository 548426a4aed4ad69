#include "actors/auditor.hpp"

#include "actors/messages.hpp"
#include "framework/data/sample_order.hpp"
#include "framework/optim/adamw.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

namespace isthmus::actors {

/// The rest of the audit under way.
struct more_audit {
  std::uint64_t number;
};

}  // namespace isthmus::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(isthmus::actors::more_audit)

namespace isthmus::actors {

namespace {

constexpr std::size_t anchors_kept = 3;  // of each group
constexpr std::size_t waiting_max = 2;

struct known_anchor {
  round_number round = 0;
  std::uint64_t tokens_total = 0;
  std::shared_ptr<const float_array> values;
};

/// A contribution to be trained again, from these anchors of all groups.
struct audit_job {
  audit_contribution what;
  caf::actor asker;
  std::vector<known_anchor> start;
  std::vector<std::uint64_t> positions;  // of the samples, in order; from `next` on they are still to come
  std::size_t next = 0;
  std::int64_t rows_of_step = 0, rows_left = 0;  // of the step under way
};

struct auditor_state {
  std::optional<auditor_settings> settings;
  caf::actor metrics;
  std::shared_ptr<float_array> weights, gradients;
  std::unique_ptr<learner> model;
  std::map<group_id, std::deque<known_anchor>> anchors;
  std::deque<audit_job> jobs;  // the first one is under way
  std::uint64_t number = 0;    // of that one
  std::uint64_t steps = 0;     // of all audits
};
using auditor_actor = caf::stateful_actor<auditor_state>;

/// Of every group that one which its site began from, as near as we know: groups' rounds go on side by side.
std::optional<std::vector<known_anchor>> start_of(const auditor_state& s, group_id group, round_number round) {
  std::vector<known_anchor> start;
  for (group_id g = 0; g < s.settings->shapes.size(); ++g) {
    const auto known = s.anchors.find(g);
    if (known == s.anchors.end() || known->second.empty()) return std::nullopt;
    const known_anchor* best = &known->second.front();
    for (const auto& anchor : known->second)
      if (anchor.round + 1 <= round) best = &anchor;
    if (g == group && best->round + 1 != round) return std::nullopt;
    start.push_back(*best);
  }
  return start;
}

/// Why that contribution cannot be trained again here; empty: it can.
std::string reason_against(const auditor_settings& s, const contributor& from) {
  if (!s.texts.contains(from.site)) return "its text is not here";
  std::uint64_t rows = 0;
  for (const lease& l : from.leases) {
    if (l.shard != from.site) return "it names samples of another site's text";
    rows += l.end - l.begin;
    if (rows > static_cast<std::uint64_t>(s.steps_max * s.rows_per_step)) return "it is of too many steps";
  }
  return rows == 0 ? "it names no samples" : "";
}

void begin(auditor_actor* self) {
  auto& s = self->state;
  if (s.jobs.empty()) return;
  const auto& job = s.jobs.front();
  for (group_id g = 0; g < job.start.size(); ++g)
    std::ranges::copy(job.start[g].values->span(), s.weights->span().begin() + s.settings->shapes[g].offset);
  std::ranges::fill(s.gradients->span(), 0.0F);
  std::ranges::fill(s.settings->arithmetic.first_moment, 0.0F);
  self->send(self, more_audit{++s.number});
}

/// What the group's part of the weights has become beside what came, then the next one.
void finish(auditor_actor* self) {
  auto& s = self->state;
  const audit_job job = std::move(s.jobs.front());
  s.jobs.pop_front();
  const group_shape& shape = s.settings->shapes[job.what.group];
  const auto now = std::as_const(*s.weights).span().subspan(static_cast<std::size_t>(shape.offset), static_cast<std::size_t>(shape.size));
  const auto start = job.start[job.what.group].values->span();
  std::vector<float> trained(start.size()), sent(start.size());
  for (std::size_t i = 0; i < trained.size(); ++i) trained[i] = start[i] - now[i];
  const auto decoded = s.settings->codecs.of(job.what.round).up->add_to(shape, job.what.frame->bytes(), sent);
  ensure(decoded.has_value(), "auditor: a frame that its home could read");
  self->send(job.asker, contribution_audited{job.what.from.site, job.what.round, audit_cosine(sent, trained)});
  begin(self);
}

/// The optimizer's step behind its last rows.
void update(auditor_state& s, audit_job& job) {
  auto& a = s.settings->arithmetic;
  const auto gradients = s.gradients->span();
  const double squares = a.squared_norm(*s.model, gradients);
  const std::uint64_t done =
      job.start[job.what.group].tokens_total + job.next * static_cast<std::uint64_t>(s.settings->context) * s.settings->sites;
  const double rate = s.settings->learning_rate.learning_rate(static_cast<std::int64_t>(done));
  a.update(*s.model, {s.weights->span(), gradients, 0, static_cast<std::int64_t>(gradients.size()), rate,
                      static_cast<double>(clip_scale(squares, s.settings->clip_norm)), ++s.steps});
}

/// The gradient of the next rows of a step.
void accumulate(auditor_state& s, audit_job& job) {
  const auto& settings = *s.settings;
  const std::int64_t rows = rows_of_slice(job.rows_left, settings.context, settings.tokens_per_slice);
  const batch_reader reader(settings.texts.at(job.what.from.site)->train, settings.context, settings.seed, job.what.from.site);
  const auto width = static_cast<std::size_t>(settings.context + 1);
  std::vector<token_id> ids(static_cast<std::size_t>(rows) * width);
  for (auto row = std::span(ids); !row.empty(); row = row.subspan(width)) reader.fill_row(job.positions[job.next++], row.first(width));
  s.model->weights_changed();
  s.model->accumulate({ids, rows, settings.context}, 1.0 / static_cast<double>(job.rows_of_step * settings.context));
  job.rows_left -= rows;
}

/// A slice of work.
void go_on(auditor_actor* self) {
  auto& s = self->state;
  auto& job = s.jobs.front();
  if (job.rows_left == 0) {
    if (job.next == job.positions.size()) return finish(self);
    job.rows_of_step = job.rows_left = std::min(s.settings->rows_per_step, static_cast<std::int64_t>(job.positions.size() - job.next));
  }
  accumulate(s, job);
  if (job.rows_left > 0) return self->send(self, more_audit{s.number});
  update(s, job);
  if (s.settings->gradient_takes)
    self->delayed_send(self, s.settings->gradient_takes(), more_audit{s.number});
  else
    self->send(self, more_audit{s.number});
}

void take(auditor_actor* self, const audit_contribution& m) {
  auto& s = self->state;
  std::string why = reason_against(*s.settings, m.from);
  auto start = start_of(s, m.group, m.round);
  if (why.empty() && !start) why = "the anchor that it began from is not here any more";
  if (why.empty() && s.jobs.size() > waiting_max) why = "other audits are not through";
  if (!why.empty())
    return self->send(s.metrics, event_line{"not_audited", "round " + std::to_string(m.round) + " of group " + std::to_string(m.group) +
                                                               ", the contribution of site " + std::to_string(m.from.site) + ": " + why});
  audit_job job{m, caf::actor_cast<caf::actor>(self->current_sender()), std::move(*start), {}};
  for (const lease& l : m.from.leases)
    for (auto at = l.begin; at < l.end; ++at) job.positions.push_back(at);
  s.jobs.push_back(std::move(job));
  if (s.jobs.size() == 1) begin(self);
}

caf::behavior auditor(auditor_actor* self, std::shared_ptr<auditor_settings> given, caf::actor metrics) {
  end_with_reason(self);
  auto& state = self->state;
  state.settings = std::move(*given);
  state.metrics = std::move(metrics);
  const auto floats = static_cast<std::size_t>(state.settings->arithmetic.layout.size);
  state.weights = std::make_shared<float_array>(floats);
  state.gradients = std::make_shared<float_array>(floats);
  state.settings->arithmetic.initialise(state.weights->span());  // the gaps between tensors are nobody's anchor
  state.model = state.settings->arithmetic.make_learner(0, state.weights, state.gradients);
  return {
      [=](const anchor_moved& m) {
        auto& known = self->state.anchors[m.group];
        while (!known.empty() && known.back().round >= m.round) known.pop_back();  // rounds that are void
        known.push_back({m.round, m.tokens_total, m.values});
        if (known.size() > anchors_kept) known.pop_front();
      },
      [=](const audit_contribution& m) { take(self, m); },
      [=](const more_audit& m) {
        if (m.number == self->state.number && !self->state.jobs.empty()) go_on(self);
      },
      [=](const metrics_restarted& m) { self->state.metrics = m.handle; },
  };
}

}  // namespace

caf::actor spawn_auditor(caf::event_based_actor* owner, tier where, auditor_settings settings, caf::actor metrics) {
  auto given = std::make_shared<auditor_settings>(std::move(settings));
  return where == tier::real ? owner->spawn<caf::linked + caf::detached>(auditor, std::move(given), std::move(metrics))
                             : owner->spawn<caf::linked>(auditor, std::move(given), std::move(metrics));
}

}  // namespace isthmus::actors
