#include "framework/sim/world.hpp"

#include "framework/core/error.hpp"

#include <string>

namespace isthmus::sim {

void world::at(time_point when, std::function<void()> what) { due_.emplace(std::pair(std::max(when, now_), ++sequence_), std::move(what)); }

std::optional<time_point> world::next_due() const {
  if (due_.empty()) return std::nullopt;
  return due_.begin()->first.first;
}

void world::advance_to(time_point when) {
  ensure(when >= now_, "sim::world: time runs backwards");
  now_ = when;
}

bool world::run_due() {
  if (due_.empty() || due_.begin()->first.first > now_) return false;
  auto what = std::move(due_.begin()->second);
  due_.erase(due_.begin());
  what();
  return true;
}

void world::note(std::string_view line) {
  std::string text = std::to_string(now_.time_since_epoch().count());
  text.append(" ").append(line);
  digest_ = hash_chain(digest_, hash_bytes(std::as_bytes(std::span(text.data(), text.size()))));
}

}  // namespace isthmus::sim
