#include "framework/models/sequence_state.hpp"

namespace isthmus {

namespace {

template <class Wanted>
std::size_t count_bytes(const std::vector<layer_state>& layers, Wanted wanted) {
  std::size_t bytes = 0;
  for (const auto& layer : layers)
    for (const auto& part : layer)
      if (wanted(part)) bytes += part.bytes.size();
  return bytes;
}

}  // namespace

std::size_t bytes_of(const sequence_state& state) {
  return count_bytes(state.layers, [](const state_part&) { return true; });
}

std::size_t bytes_of(const sequence_state& state, state_kind kind) {
  return count_bytes(state.layers, [kind](const state_part& part) { return part.kind == kind; });
}

void drop_unseen(sequence_state& state) {
  if (state.on_trial.is) return;
  for (auto& layer : state.layers)
    for (auto& part : layer) part.drop_unseen(state.position);
}

state_transaction::state_transaction(sequence_state& state)
    : state_(&state), position_(state.position), within_another_(state.on_trial.is) {
  state.on_trial.is = true;
  for (const auto& layer : state.layers) {
    layer_state& kept = fixed_.emplace_back();
    for (const auto& part : layer) kept.push_back(part.row_bytes == 0 ? part : state_part{part.kind, part.row_bytes, {}});
  }
}

state_transaction::~state_transaction() { abort(); }

void state_transaction::commit() {
  if (state_ == nullptr) return;
  state_->on_trial.is = within_another_;
  drop_unseen(*state_);
  state_ = nullptr;
  fixed_.clear();
}

bool state_transaction::commit_first(std::int64_t tokens) {
  if (state_ == nullptr || bytes() > 0) return false;
  state_->position = position_ + tokens;
  for (auto& layer : state_->layers)
    for (auto& part : layer) part.bytes.resize(static_cast<std::size_t>(state_->position - part.first) * part.row_bytes);
  commit();
  return true;
}

void state_transaction::abort() {
  if (state_ == nullptr) return;
  state_->position = position_;
  for (std::size_t l = 0; l < fixed_.size(); ++l) {
    for (std::size_t i = 0; i < fixed_[l].size(); ++i) {
      auto& part = state_->layers[l][i];
      if (part.row_bytes == 0)
        part.bytes.swap(fixed_[l][i].bytes);
      else
        part.bytes.resize(static_cast<std::size_t>(position_ - part.first) * part.row_bytes);
    }
  }
  commit();
}

std::size_t state_transaction::bytes() const {
  return count_bytes(fixed_, [](const state_part&) { return true; });
}

}  // namespace isthmus
