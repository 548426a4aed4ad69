#include "framework/rounds/contribution_book.hpp"

#include "framework/core/planted.hpp"

#include "framework/rounds/ledger.hpp"
#include "framework/rounds/watermarks.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace isthmus {

namespace {

double norm(std::span<const float> values) { return std::sqrt(measure(values, 0).squares); }

}  // namespace

contribution_book::contribution_book(contribution_settings settings)
    : settings_(std::move(settings)), residual_(static_cast<std::size_t>(settings_.shape.size)) {
  ensure(settings_.codecs.steady.up != nullptr && settings_.reference_tokens > 0, "contribution_book: needs a codec and reference tokens");
}

expected<contribution_mass> contribution_book::absorb(std::span<const float> start, std::span<const float> working, std::uint64_t tokens,
                                                      float decay) {
  return form_contribution(settings_.shape, {tokens, settings_.reference_tokens, decay}, start, working, residual_.span(),
                           settings_.shape.id);
}

void contribution_book::roll_over(step_number step, std::uint64_t tokens, std::span<const lease> leases) {
  step_ = std::max(step_, step);
  tokens_ += tokens;
  leases_ = joined(leases_, leases);
}

expected<formed_contribution> contribution_book::form(round_number round, std::span<const float> start, std::span<const float> working,
                                                      step_number step, std::uint64_t tokens, std::span<const lease> leases) {
  ensure(!frame_, "contribution_book: a contribution is in flight");
  auto mass = absorb(start, working, tokens, settings_.residual_decay);
  if (!mass) return mass.failure();
  roll_over(step, tokens, leases);
  frame_codec_ = settings_.codecs.of(round).up;
  frame_ = make_shared_bytes(frame_codec_->encode(settings_.shape, residual_.span()));
  measure_residual();
  meta_ = {settings_.self, settings_.incarnation, step_, std::exchange(tokens_, 0), std::exchange(leases_, {}), mass->value - left_.probe};
  return formed_contribution{frame_, meta_,
                             ledger::mass({"formed", settings_.shape.id, round, mass->change, mass->decayed, meta_.mass, left_.probe,
                                           std::sqrt(mass->squares), 0, meta_.step, meta_.tokens})};
}

expected<std::string> contribution_book::keep_late(round_number round, std::span<const float> start, std::span<const float> working,
                                                   step_number step, std::uint64_t tokens, std::span<const lease> leases) {
  auto mass = absorb(start, working, tokens, 1.0F);
  if (!mass) return mass.failure();
  roll_over(step, tokens, leases);
  left_ = {mass->value, mass->squares};
  return line("late", round, *mass, 0);
}

std::string contribution_book::vetoed(round_number round, step_number step, std::uint64_t tokens) const {
  ledger::mass_line m;
  m.event = "vetoed";
  m.group = settings_.shape.id;
  m.round = round;
  m.residual = probe(residual_.span(), settings_.shape.id);
  m.norm = norm(residual_.span());
  m.step = step;
  m.tokens = tokens_ + tokens;
  return ledger::mass(m);
}

std::string contribution_book::counted(round_number round) {
  ensure(frame_ != nullptr, "contribution_book: nothing is in flight");
  frame_.reset();
  committed_step_ = meta_.step;
  return line("counted", round, {}, meta_.mass);
}

std::string contribution_book::discarded(round_number round) {
  ensure(frame_ != nullptr, "contribution_book: nothing is in flight");
  if (is_planted(planted::return_vetoed_mass)) return lost(round);
  frame_.reset();
  committed_step_ = meta_.step;
  return line("discarded", round, {}, meta_.mass);
}

std::string contribution_book::lost(round_number round) {
  ensure(frame_ != nullptr, "contribution_book: nothing is in flight");
  const bool forgotten = is_planted(planted::forget_late_residual);
  const auto added = forgotten ? expected<void>{} : frame_codec_->add_to(settings_.shape, frame_->bytes(), residual_.span());
  ensure(added.has_value(), "contribution_book: our own frame cannot be decoded");
  frame_.reset();
  measure_residual();
  roll_over(meta_.step, meta_.tokens, meta_.leases);
  return line("lost", round, {}, meta_.mass);
}

std::string contribution_book::add(round_number round, std::span<const float> values) {
  ensure(values.size() == residual_.size(), "contribution_book: an aggregator residual of another size");
  const double mass = probe(values, settings_.shape.id);
  std::transform(values.begin(), values.end(), residual_.data(), residual_.data(), std::plus<float>());
  measure_residual();
  return line("added", round, {}, mass);
}

contribution_snapshot contribution_book::snapshot(round_number round) const {
  contribution_snapshot s;
  s.residual.assign(residual_.data(), residual_.data() + residual_.size());
  s.round = round;
  s.step = committed_step_;
  s.tokens = tokens_;
  s.leases = leases_;
  if (frame_) {
    ensure(frame_codec_->add_to(settings_.shape, frame_->bytes(), s.residual).has_value(),
           "contribution_book: our own frame cannot be decoded");
    s.tokens += meta_.tokens;
    s.leases = joined(s.leases, meta_.leases);
  }
  s.mass = probe(s.residual, settings_.shape.id);
  return s;
}

std::string contribution_book::restore(const contribution_snapshot* saved, step_number watermark, round_number round) {
  ensure(!frame_, "contribution_book: restored while a contribution is in flight");
  const bool newest = saved != nullptr && ((saved->step == watermark && saved->tokens == 0) || is_planted(planted::restore_old_residual));
  const bool usable = newest && saved->residual.size() == residual_.size();
  ledger::mass_line m;
  m.event = "restored";
  m.group = settings_.shape.id;
  m.round = round;
  if (usable) {
    std::copy(saved->residual.begin(), saved->residual.end(), residual_.data());
  } else {
    std::fill_n(residual_.data(), residual_.size(), 0.0F);
    if (saved != nullptr) m.written_off = norm(saved->residual);
  }
  step_ = committed_step_ = watermark;
  tokens_ = 0;
  leases_.clear();
  measure_residual();
  m.residual = left_.probe;
  m.norm = std::sqrt(left_.squares);
  m.step = step_;
  m.tokens = tokens_;
  return ledger::mass(m);
}

void contribution_book::measure_residual() { left_ = measure(residual_.span(), settings_.shape.id); }

std::string contribution_book::line(const char* event, round_number round, const contribution_mass& mass, double other) const {
  ledger::mass_line m;
  m.event = event;
  m.group = settings_.shape.id;
  m.round = round;
  m.change = mass.change;
  m.decayed = mass.decayed;
  m.frame = other;
  m.residual = left_.probe;
  m.norm = std::sqrt(left_.squares);
  m.step = step_;
  m.tokens = tokens_;
  return ledger::mass(m);
}

}  // namespace isthmus
