#include "framework/core/error.hpp"
#include "framework/models/network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

// Where the activations of a pass lie, and which layers are computed twice so that they lie in less (Chen et al. 2016, arXiv:1604.06174).
namespace isthmus {

template <class Act>
void hybrid_network<Act>::place_norm(norm& n, arena& memory) const {
  const std::int64_t rows = batch_ * length_;
  if (config_.norm == norm_kind::layer_norm) n.mean = memory.take<real>(rows);
  n.rstd = memory.take<real>(rows);
  n.y = memory.take<Act>(rows * config_.d_model);
}

template <class Act>
void hybrid_network<Act>::place_ends(arena& memory) {
  const std::int64_t count = batch_ * length_ * config_.d_model;
  place_norm(encoder_->embedded, memory);
  place_norm(encoder_->head_norm, memory);
  encoder_->sum = memory.take<real>(count);
  encoder_->activated = memory.take<real>(count);
  encoder_->dense_out = memory.take<Act>(count);
}

namespace {

/// As much of `memory` as `count` takes of an arena.
template <class Count>
arena region_of(arena& memory, Count&& count) {
  arena region;
  count(region);
  std::byte* place = memory.take<std::byte>(static_cast<std::int64_t>(region.most_used()));
  return place ? arena({place, region.most_used()}) : arena();
}

}  // namespace

/// Takes the memory of all activations of a pass of batch_ x length_ from `memory`.
template <class Act>
void hybrid_network<Act>::place_in(arena& memory) {
  const std::int64_t rows = batch_ * length_, d = config_.d_model;
  inputs_ = memory.take<std::int32_t>(rows);
  targets_ = memory.take<std::int32_t>(rows);
  if (config_.document_mark >= 0) first_keys_ = memory.take<std::int32_t>(rows);
  x_out_ = memory.take<real>(rows * d);
  d_x_ = memory.take<real>(rows * d);
  losses_ = memory.take<real>(rows);
  branch_ = memory.take<Act>(rows * d);
  d_branch_ = memory.take<Act>(rows * d);
  d_norm_ = memory.take<Act>(rows * d);
  encoder_ ? place_ends(memory) : place_norm(final_norm_, memory);
  medusa_.place(rows, memory);
  arena nothing;
  // What all layers share inside a call, and what those that are computed again keep for so long.
  arena shared = region_of(memory, [&](arena& region) {
    for (auto& b : blocks_) {
      region.rewind(0);
      b.mix->place(batch_, length_, nothing, region);
    }
  });
  arena again = region_of(memory, [&](arena& region) {
    for (auto& b : blocks_) {
      if (!b.recomputed) continue;
      region.rewind(0);
      if (!encoder_) place_norm(b.before, region);
      b.mix->place(batch_, length_, region, nothing);
    }
  });
  for (auto& b : blocks_) {
    b.x = memory.take<real>(rows * d);
    shared.rewind(0);
    again.rewind(0);
    arena& kept = b.recomputed ? again : memory;
    place_norm(b.before, encoder_ ? memory : kept);  // an encoder's are what the next block reads
    b.mix->place(batch_, length_, kept, shared);
  }
}

template <class Act>
void hybrid_network<Act>::place(std::int64_t batch, std::int64_t length) {
  if (batch == batch_ && length == length_) return;
  batch_ = batch;
  length_ = length;
  arena counting;
  place_in(counting);
  if (!memory_ || memory_->size() < counting.most_used()) {
    memory_.reset();
    memory_ = std::make_unique<buffer>(counting.most_used());
  }
  arena memory(memory_->bytes());
  place_in(memory);
}

/// Of a pass of that shape; leaves nothing placed.
template <class Act>
std::int64_t hybrid_network<Act>::bytes_of_pass(std::int64_t batch, std::int64_t length) {
  batch_ = batch;
  length_ = length;
  arena counting;
  place_in(counting);
  batch_ = length_ = 0;
  return static_cast<std::int64_t>(counting.most_used());
}

/// Chooses blocks to compute again until a pass keeps to the limit; false when all of them do not suffice.
template <class Act>
bool hybrid_network<Act>::recompute_to_fit(std::int64_t batch, std::int64_t length, bool backward) {
  const std::int64_t limit = config_.activation_mib << 20;
  for (auto& b : blocks_) b.recomputed = !backward;  // without a backward pass nobody wants what a layer keeps
  if (limit == 0 || bytes_of_pass(batch, length) <= limit) return true;
  std::vector<std::pair<double, block*>> order;  // bytes kept a weight, each of which costs a multiplication a token
  for (auto& b : blocks_) {
    arena kept, nothing;
    batch_ = batch, length_ = length;
    b.mix->place(batch, length, kept, nothing);
    order.emplace_back(static_cast<double>(kept.used()) / static_cast<double>(std::max<std::int64_t>(1, b.weights)), &b);
  }
  std::ranges::stable_sort(order, std::greater<>(), [](const auto& o) { return o.first; });
  for (auto& [worth, b] : order) {
    b->recomputed = true;
    if (bytes_of_pass(batch, length) <= limit) return true;
  }
  return false;
}

template <class Act>
void hybrid_network<Act>::make_plan(std::int64_t rows, std::int64_t context, bool backward) {
  constexpr std::int64_t tokens_enough = 256;  // fewer make products slow
  std::int64_t at_once = std::clamp<std::int64_t>(tokens_at_once_ / context, 1, rows);
  const std::int64_t limit = config_.activation_mib << 20;
  for (auto& b : blocks_) b.recomputed = !backward;
  while (limit > 0 && at_once > 1 && at_once / 2 * context >= tokens_enough && bytes_of_pass(at_once, context) > limit) at_once /= 2;
  while (!recompute_to_fit(at_once, context, backward)) {
    if (at_once == 1) {
      const std::int64_t needed = (bytes_of_pass(1, context) >> 20) + 1;
      throw activation_limit_error(
          fmt::format("model.activation_mib = {} is too little: a row of {} tokens takes {} MiB with every layer computed twice",
                      config_.activation_mib, context, needed),
          needed);
    }
    at_once /= 2;
  }
  auto& made = plans_[backward];
  made = {rows, context, {.rows_at_once = at_once, .recomputed = {}, .bytes = bytes_of_pass(at_once, context)}};
  for (const auto& b : blocks_) made.plan.recomputed.push_back(b.recomputed);
}

/// Makes a plan, unless there is one, and goes by it.
template <class Act>
const activation_plan& hybrid_network<Act>::follow_plan(std::int64_t rows, std::int64_t context, bool backward) {
  const auto& made = plans_[backward];
  if (rows != made.rows || context != made.context) make_plan(rows, context, backward);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].recomputed == made.plan.recomputed[i]) continue;
    blocks_[i].recomputed = made.plan.recomputed[i];
    batch_ = length_ = 0;  // it lies elsewhere now
  }
  return made.plan;
}

template <class Act>
activation_plan hybrid_network<Act>::plan(std::int64_t rows, std::int64_t context) {
  return follow_plan(rows, context, d_embedding_ != nullptr);
}

#define ISTHMUS_FOR(Act)                                                                              \
  template void hybrid_network<Act>::place(std::int64_t, std::int64_t);                               \
  template const activation_plan& hybrid_network<Act>::follow_plan(std::int64_t, std::int64_t, bool); \
  template activation_plan hybrid_network<Act>::plan(std::int64_t, std::int64_t);
ISTHMUS_FOR(float)
ISTHMUS_FOR(kernels::bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus
