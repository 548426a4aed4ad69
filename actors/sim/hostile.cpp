#include "actors/sim/hostile.hpp"

#include "actors/sim/cluster.hpp"
#include "framework/codecs/frame.hpp"
#include "framework/core/hash.hpp"
#include "framework/wire/frame.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus::actors {

void hostile_hand::before(const optimizer_slice& s) {
  const auto weights = s.weights.subspan(static_cast<std::size_t>(s.begin), static_cast<std::size_t>(s.end - s.begin));
  start_[s.begin].assign(weights.begin(), weights.end());
}

void hostile_hand::after(const optimizer_slice& s) {
  const auto& start = start_[s.begin];
  const auto weights = s.weights.subspan(static_cast<std::size_t>(s.begin), start.size());
  auto& first = first_[s.begin];
  if (first.empty())
    for (std::size_t i = 0; i < start.size(); ++i) first.push_back(weights[i] - start[i]);
  rng draws(seed_, static_cast<std::uint64_t>(s.begin), s.step, draw::fault);
  float largest = 0;
  for (std::size_t i = 0; i < start.size(); ++i) largest = std::max(largest, std::abs(weights[i] - start[i]));
  for (std::size_t i = 0; i < start.size(); ++i) {
    const float change = weights[i] - start[i];
    float wrong = change;
    if (kind_ == fault_kind::sign_flip) wrong = -change;
    if (kind_ == fault_kind::scale) wrong = amount_ * change;
    if (kind_ == fault_kind::noise) wrong = largest * static_cast<float>(static_cast<int>(draws.below(3)) - 1);
    if (kind_ == fault_kind::replay) wrong = first[i];
    weights[i] = start[i] + wrong;
  }
}

std::pair<shared_bytes, shared_bytes> without_numbers(const std::string& run, const shared_bytes& header, const shared_bytes& payload) {
  const std::pair as_it_is{header, payload};
  const auto frame = wire::read_frame(header->bytes());
  if (!frame) return as_it_is;
  const wire::framer frames(run, frame->from);
  auto what = frames.unpack_bulk(frame->from, header->bytes(), payload);
  auto* contribution = what ? std::get_if<message::contribution>(&what->body) : nullptr;
  if (contribution == nullptr || what->payload->size() <= frame_header_bytes) return as_it_is;
  std::vector<std::byte> bytes(what->payload->bytes().begin(), what->payload->bytes().end());
  std::fill(bytes.begin() + frame_header_bytes, bytes.end(), std::byte{0xff});  // of a float: NaN
  what->payload = make_shared_bytes(bytes);
  contribution->frame_hash = hash_bytes(bytes);
  auto packed = frames.pack(*what);
  return {packed.header, packed.payload};
}

void cluster::corrupt_site(site_id site, std::optional<fault_kind> how, double amount) {
  hostile_.erase(site);
  net.rewrite_bulk(site, {});
  if (how == fault_kind::nan_frames)
    net.rewrite_bulk(site, [](shared_bytes header, shared_bytes payload) { return without_numbers("run", header, payload); });
  else if (how)
    hostile_[site] = std::make_unique<hostile_hand>(*how, amount, options_.seed);
}

}  // namespace isthmus::actors
