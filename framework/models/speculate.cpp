#include "framework/models/speculate.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

namespace {

std::int32_t most_likely(std::span<const float> logits, std::int64_t row, std::int64_t vocabulary) {
  return sample(logits.subspan(static_cast<std::size_t>(row * vocabulary), static_cast<std::size_t>(vocabulary)), {.temperature = 0}, 0);
}

/// The text so far, what the state has not read of it, and what may follow.
class speculation {
public:
  speculation(hybrid_model& model, std::span<const std::int32_t> prompt, const generate_options& options,
              const std::function<bool(std::int32_t)>& on_token)
      : model_(model), options_(options), on_token_(on_token), state_(model.start()), unread_(prompt.begin(), prompt.end()) {}

  bool ended() const { return ended_; }
  speculated_text&& result() { return std::move(text_); }

  /// Reads what is unread and, on trial, what was proposed; tells the tokens that follow.
  void step() {
    const auto unread = std::ssize(unread_), proposed = std::ssize(proposed_);
    std::vector<std::int32_t> ids = unread_;
    ids.insert(ids.end(), proposed_.begin(), proposed_.end());
    state_transaction trial(state_);
    const auto logits = model_.advance(state_, ids, proposed + 1);
    ++text_.passes;
    const std::int64_t vocabulary = model_.config().vocabulary;
    std::int64_t accepted = 0;
    std::int32_t next = most_likely(logits, 0, vocabulary);
    tell(next);
    while (!ended_ && accepted < proposed && proposed_[static_cast<std::size_t>(accepted)] == next) {
      next = most_likely(logits, ++accepted, vocabulary);
      tell(next);
    }
    if (ended_) return;
    propose(unread - 1 + accepted);
    settle(trial, unread, accepted, proposed, std::move(ids));
    unread_.push_back(next);
    // Where a state was restored again and again, a pass without proposals comes to its end.
    if (std::ssize(unread_) > model_.config().medusa_heads + 1) proposed_.clear();
  }

private:
  void tell(std::int32_t id) {
    text_.ids.push_back(id);
    ended_ = (on_token_ && !on_token_(id)) || id == options_.stop_id || std::ssize(text_.ids) >= options_.tokens_max;
  }
  /// What the heads say after that row of the last pass; no more than there may be.
  void propose(std::int64_t row) {
    const auto left = options_.tokens_max - std::ssize(text_.ids) - 1, vocabulary = model_.config().vocabulary;
    const auto logits = model_.head_logits(row);
    proposed_.clear();
    for (std::int64_t k = 0; k < std::min(model_.config().medusa_heads, left); ++k) proposed_.push_back(most_likely(logits, k, vocabulary));
  }
  /// The state keeps what was accepted, or all of it stays unread.
  void settle(state_transaction& trial, std::int64_t unread, std::int64_t accepted, std::int64_t proposed, std::vector<std::int32_t> ids) {
    unread_.clear();
    if (accepted == proposed) return trial.commit();
    if (trial.commit_first(unread + accepted)) return;
    trial.abort();
    ids.resize(static_cast<std::size_t>(unread + accepted));
    unread_ = std::move(ids);
  }

  hybrid_model& model_;
  const generate_options& options_;
  const std::function<bool(std::int32_t)>& on_token_;
  sequence_state state_;
  std::vector<std::int32_t> unread_, proposed_;
  speculated_text text_;
  bool ended_ = false;
};

}  // namespace

speculated_text generate_by_heads(hybrid_model& model, std::span<const std::int32_t> prompt, const generate_options& options,
                                  const std::function<bool(std::int32_t)>& on_token) {
  ensure(!prompt.empty(), "generate_by_heads: an empty prompt");
  ensure(model.config().medusa_heads > 0, "generate_by_heads: a model without heads");
  if (options.tokens_max <= 0) return {};
  speculation text(model, prompt, options, on_token);
  while (!text.ended()) text.step();
  return text.result();
}

}  // namespace isthmus
