#include "framework/transport/call_limits.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

namespace {

/// Keeps a map within its bound.
template <class Map, class Time>
void make_room(Map& map, Time time_of) {
  if (map.size() < call_limits::addresses_max) return;
  map.erase(std::min_element(map.begin(), map.end(), [&](const auto& a, const auto& b) { return time_of(a.second) < time_of(b.second); }));
}

}  // namespace

std::string call_limits::caller_of(std::span<const std::byte> host) {
  const auto part = host.first(std::min<std::size_t>(host.size(), 8));
  return {reinterpret_cast<const char*>(part.data()), part.size()};
}

bool call_limits::may_shake(std::span<const std::byte> host, time_point now) {
  const auto key = caller_of(host);
  auto found = addresses_.find(key);
  if (found == addresses_.end()) {
    make_room(addresses_, [](const allowance& a) { return a.heard; });
    found = addresses_.emplace(key, allowance{burst_, now}).first;
  }
  allowance& a = found->second;
  a.left = std::min(burst_, a.left + per_second_ * to_seconds(now - a.heard));
  a.heard = now;
  if (a.left < 1) return false;
  a.left -= 1;
  return true;
}

void call_limits::shook(std::span<const std::byte> host) {
  const auto found = addresses_.find(caller_of(host));
  if (found != addresses_.end()) found->second.left = std::min(burst_, found->second.left + 1);
}

std::optional<std::string> call_limits::line(const std::string& who, errc kind, const std::string& text, time_point now) {
  const std::pair key(who, kind);
  auto found = told_.find(key);
  if (found == told_.end()) {
    make_room(told_, [](const told& t) { return t.at; });
    told_.emplace(key, told{now, 0});
    return text;
  }
  told& t = found->second;
  if (now - t.at < log_every) {
    ++t.left_out;
    return std::nullopt;
  }
  t.at = now;
  const std::uint64_t left_out = std::exchange(t.left_out, 0);
  return left_out == 0 ? text : text + " (and " + std::to_string(left_out) + " times more in the last minutes)";
}

}  // namespace isthmus
