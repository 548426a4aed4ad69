#include "bench/federation.hpp"

#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"
#include "kernels/select.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace isthmus::bench {

namespace {

constexpr float inflation = 1000, loudness = 3;
constexpr double weight_limit = 1e6;

adamw_options inner_options() {
  adamw_options o;
  o.beta1 = 0.5F;
  o.beta2 = 0.999F;
  o.weight_decay = 0.05F;
  return o;
}

double length(std::span<const float> values) {
  double squares = 0;
  for (const float x : values) squares += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(squares);
}

/// Sums of four uniform numbers, near enough to normal, of that length in all.
void fill_noise(std::span<float> values, double wanted, rng& draws) {
  for (float& x : values) x = static_cast<float>(draws.uniform() + draws.uniform() + draws.uniform() + draws.uniform() - 2);
  const auto scale = static_cast<float>(wanted / length(values));
  for (float& x : values) x *= scale;
}

}  // namespace

federation::federation(const federation_settings& settings, std::span<const token_shard> shards, kernels::team& team)
    : s_(settings),
      shards_(shards),
      model_(settings.model, kernels::default_backend(), team, settings.tokens_per_step),
      shape_(cut_groups(model_.layout(), 1).front()),
      auditor_(model_.layout(), inner_options()),
      sites_(settings.sites) {
  ensure(shards.size() == s_.sites, "federation: one shard a site");
  const auto reference = static_cast<std::uint64_t>(s_.tokens_per_step * s_.inner_steps);
  initial_weights(s_.model, s_.seed, model_.weights());
  const auto initial =
      std::as_const(model_).weights().subspan(static_cast<std::size_t>(shape_.offset), static_cast<std::size_t>(shape_.size));
  epoch_view view;
  view.number = 1;
  for (site_id id = 0; id < s_.sites; ++id) {
    view.members.push_back({id, 1, false, 0});
    group_settings g;
    g.self = id;
    g.incarnation = 1;
    g.shape = shape_;
    g.codecs.steady = *make_codec_pair("none");
    g.outer = {outer_kind::nesterov, s_.outer_rate, s_.outer_momentum};
    g.reference_tokens = static_cast<double>(reference);
    g.quorum = s_.sites;
    g.guarding = s_.guarding;
    g.auditing = {s_.audit_rate, s_.audit_cosine, {}, s_.seed};
    for (site_id other = 0; other < s_.sites; ++other) g.auditing.sites.push_back(other);
    site& here = sites_[id];
    here.group = std::make_unique<parameter_group>(g, initial);
    here.book = std::make_unique<contribution_book>(contribution_settings{id, 1, shape_, g.codecs, reference, 1.0F});
    here.optimizer = std::make_unique<adamw>(model_.layout(), inner_options());
    here.reader = std::make_unique<batch_reader>(shards_[id].train, s_.context, s_.seed, id);
  }
  const auto held = sites_[0].group->held();
  view.cuts.push_back({held.group, s_.sites - 1, 0, 0, {}, held.anchor_hash, s_.sites - 1});
  for (site_id id = 0; id < s_.sites; ++id) perform(id, sites_[id].group->enter_epoch(view, now_));
}

std::int64_t federation::rounds_planned() const { return s_.tokens / (s_.sites * s_.tokens_per_step * s_.inner_steps); }

attack_kind federation::attack_of(site_id id) const {
  if (id >= s_.hostile) return attack_kind::none;
  if (s_.attack != attack_kind::mixed) return s_.attack;
  constexpr attack_kind kinds[] = {attack_kind::sign_flip, attack_kind::scale, attack_kind::noise, attack_kind::replay};
  return kinds[id % std::size(kinds)];
}

/// The group's part of the model's weights: the site's while it has its turn.
std::span<float> federation::working() {
  return model_.weights().subspan(static_cast<std::size_t>(shape_.offset), static_cast<std::size_t>(shape_.size));
}

double federation::rate_of_step(std::int64_t step_of_round) const {
  const auto decay = static_cast<std::int64_t>(s_.decay_share * static_cast<double>(s_.tokens));
  const rate_schedule rates{s_.learning_rate, s_.learning_rate * 0.05, s_.tokens / 20, s_.tokens, decay};
  return rates.learning_rate(s_.sites * s_.tokens_per_step * (round_ * s_.inner_steps + step_of_round));
}

/// One inner step of the model on these rows.
void federation::step(adamw& optimizer, std::span<const token_id> ids, std::int64_t step_of_round) {
  model_.weights_changed();
  model_.accumulate({ids, s_.tokens_per_step / s_.context, s_.context}, 1.0 / static_cast<double>(s_.tokens_per_step));
  optimizer.step(model_.backend(), model_.stream(), model_.weights(), model_.gradients(), rate_of_step(step_of_round));
}

/// H inner steps from the anchor.
void federation::train(site_id id) {
  site& here = sites_[id];
  std::ranges::copy(here.group->anchor(), working().begin());
  const auto rows = static_cast<std::uint64_t>(s_.tokens_per_step / s_.context);
  std::vector<token_id> ids(static_cast<std::size_t>(s_.tokens_per_step + s_.tokens_per_step / s_.context));
  const std::int64_t steps = attack_of(id) == attack_kind::lazy ? 1 : s_.inner_steps;
  for (std::int64_t h = 0; h < steps; ++h) {
    const lease range{id, here.position + static_cast<std::uint64_t>(h) * rows, here.position + static_cast<std::uint64_t>(h + 1) * rows};
    here.reader->fill({&range, 1}, ids);
    step(*here.optimizer, ids, h);
  }
}

/// As the home's auditor: trains what the contribution names again, from where its site began. How large gradients are it knows from the
/// audits before; where the last ones pointed is forgotten.
void federation::audit(const group_effect::audit& drawn) {
  const site_id id = drawn.meta.site;
  std::ranges::copy(start_, working().begin());
  std::ranges::fill(auditor_.first(), 0.0F);
  const auto rows = static_cast<std::uint64_t>(s_.tokens_per_step / s_.context);
  std::vector<token_id> ids(static_cast<std::size_t>(s_.tokens_per_step + s_.tokens_per_step / s_.context));
  const lease& all = drawn.meta.leases.front();
  for (std::uint64_t at = all.begin, h = 0; at < all.end; at += rows, ++h) {
    const lease range{id, at, at + rows};
    sites_[id].reader->fill({&range, 1}, ids);
    step(auditor_, ids, static_cast<std::int64_t>(h));
  }
  std::vector<float> sent(start_.size()), trained(start_.size());
  ensure((*make_codec_pair("none")).up->add_to(shape_, drawn.frame->bytes(), sent).has_value(), "federation: a frame that was committed");
  for (std::size_t i = 0; i < trained.size(); ++i) trained[i] = start_[i] - working()[i];
  const double cosine = audit_cosine(sent, trained);
  (attack_of(id) == attack_kind::none ? cosines_honest_ : cosines_hostile_).push_back(cosine);
  sites_.back().group->audited(id, drawn.round, cosine);
}

/// In place of what training made. Noise and replay need no training behind the first round, which tells them how long a change is.
void federation::spoil(site_id id, std::span<const float> anchor, std::span<float> working) {
  site& here = sites_[id];
  if (here.first_change.empty())
    for (std::size_t i = 0; i < anchor.size(); ++i) here.first_change.push_back(working[i] - anchor[i]);
  rng draws(s_.seed, id, static_cast<std::uint64_t>(round_), draw::fault);
  std::vector<float> noise;
  const attack_kind kind = attack_of(id);
  if (kind == attack_kind::noise) {
    noise.resize(anchor.size());
    fill_noise(noise, static_cast<double>(loudness) * length(here.first_change), draws);
  }
  for (std::size_t i = 0; i < anchor.size(); ++i) {
    if (kind == attack_kind::sign_flip) working[i] = anchor[i] - (working[i] - anchor[i]);
    if (kind == attack_kind::scale) working[i] = anchor[i] + inflation * (working[i] - anchor[i]);
    if (kind == attack_kind::noise) working[i] = anchor[i] + noise[i];
    if (kind == attack_kind::replay) working[i] = anchor[i] + here.first_change[i];
    if (kind == attack_kind::lazy) working[i] = anchor[i] + static_cast<float>(s_.inner_steps) * (working[i] - anchor[i]);
  }
}

void federation::perform(site_id id, const group_actions& actions) {
  for (const auto& action : actions) {
    if (const auto* send = std::get_if<group_effect::send>(&action)) wire_.push_back({id, send->to, send->what});
    if (const auto* drawn = std::get_if<group_effect::audit>(&action)) drawn_.push_back(*drawn);
    if (const auto* applied = std::get_if<group_effect::applied>(&action)) {
      ensure(applied->mine, "federation: a round without a site");
      applied->vetoed ? sites_[id].book->discarded(applied->record.round) : sites_[id].book->counted(applied->record.round);
      if (applied->vetoed) ++(attack_of(id) != attack_kind::none ? vetoed_hostile_ : vetoed_honest_);
    }
    ensure(!std::holds_alternative<group_effect::frame_lost>(action) && !std::holds_alternative<group_effect::diverged>(action),
           "federation: a round went wrong");
  }
}

bool federation::round() {
  now_ += std::chrono::seconds(1);
  start_.assign(sites_[0].group->anchor().begin(), sites_[0].group->anchor().end());
  const auto tokens = static_cast<std::uint64_t>(s_.tokens_per_step * s_.inner_steps);
  for (site_id id = 0; id < s_.sites; ++id) {
    site& here = sites_[id];
    const attack_kind kind = attack_of(id);
    const bool trains = (kind != attack_kind::noise && kind != attack_kind::replay) || round_ == 0;
    if (trains) train(id);
    if (kind != attack_kind::none) spoil(id, here.group->anchor(), working());
    here.step += static_cast<step_number>(s_.inner_steps);
    const lease range{id, here.position, here.position + tokens / static_cast<std::uint64_t>(s_.context)};
    here.position = range.end;
    auto formed = here.book->form(here.group->round() + 1, here.group->anchor(), working(), here.step, tokens, {&range, 1});
    if (!formed) return false;
    perform(id, here.group->local_contribution(here.group->round() + 1, formed->frame, formed->meta, now_));
  }
  while (!wire_.empty()) {
    const parcel p = std::move(wire_.front());
    wire_.pop_front();
    perform(p.to, sites_[p.to].group->receive(p.from, 1, p.what, now_));
  }
  for (const auto& drawn : std::exchange(drawn_, {})) audit(drawn);
  ++round_;
  for (const site& here : sites_) {
    ensure(here.group->round() == static_cast<round_number>(round_), "federation: a round did not commit");
    ensure(here.group->record() == sites_[0].group->record(), "federation: records differ");
  }
  return length(sites_[0].group->anchor()) < weight_limit;
}

double federation::held_out_loss(std::int64_t tokens) {
  std::ranges::copy(sites_[0].group->anchor(), model_.weights().begin() + shape_.offset);
  model_.weights_changed();
  double loss = 0;
  std::int64_t counted = 0;
  for (site_id id = 0; id < s_.sites; ++id) {
    const batch_reader held_out(shards_[id].held_out, s_.context, s_.seed, id);
    const auto rows = std::min<std::int64_t>(static_cast<std::int64_t>(held_out.samples()), tokens / s_.sites / s_.context);
    std::vector<token_id> ids(static_cast<std::size_t>(rows * (s_.context + 1)));
    held_out.fill_evenly(ids);
    loss += model_.evaluate({ids, rows, s_.context});
    counted += rows * s_.context;
  }
  return loss / static_cast<double>(counted);
}

}  // namespace isthmus::bench
