#include "framework/transport/bulk_sender.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

bulk_sender::bulk_sender(std::size_t chunk_bytes, std::size_t window_bytes) : chunk_bytes_(chunk_bytes), window_bytes_(window_bytes) {
  ensure(chunk_bytes > 0 && window_bytes >= chunk_bytes, "bulk_sender: the window must hold a chunk");
}

void bulk_sender::set_window(std::size_t bytes) {
  ensure(bytes >= chunk_bytes_, "bulk_sender: the window must hold a chunk");
  window_bytes_ = bytes;
}

void bulk_sender::push(std::uint64_t id, shared_bytes header, shared_bytes payload) {
  const std::uint64_t serial = next_serial_++;
  message& m = messages_[serial];
  m.id = id;
  m.header = std::move(header);
  m.payload = std::move(payload);
  waiting_.push_back(serial);
}

std::optional<bulk_sender::chunk> bulk_sender::next(time_point now) {
  if (waiting_.empty()) return std::nullopt;
  const std::uint64_t serial = waiting_.front();
  message& m = messages_.at(serial);
  const std::size_t bytes = std::min<std::uint64_t>(chunk_bytes_, m.payload->size() - m.sent);
  if (in_flight_ + bytes > window_bytes_) return std::nullopt;

  if (chunks_under_way_ == 0) last_progress_ = now;
  if (!m.begun) m.first_sent = now;
  m.begun = true;
  chunk c{serial, m.sent, bytes, m.header, m.payload};
  m.under_way.emplace(m.sent, bytes);
  m.sent += bytes;
  in_flight_ += bytes;
  ++chunks_under_way_;
  if (m.all_sent()) waiting_.pop_front();
  return c;
}

expected<std::optional<bulk_sender::settled>> bulk_sender::acknowledge(std::uint64_t transfer, std::uint64_t offset, time_point now) {
  const auto bad = [&] {
    return fail(errc::malformed, "acknowledgement of chunk " + std::to_string(offset) + " of transfer " + std::to_string(transfer) +
                                     ", which is not under way");
  };
  const auto found = messages_.find(transfer);
  if (found == messages_.end()) return bad();
  message& m = found->second;
  const auto sent = m.under_way.find(offset);
  if (sent == m.under_way.end()) return bad();
  in_flight_ -= sent->second;
  --chunks_under_way_;
  last_progress_ = now;
  m.under_way.erase(sent);
  if (!m.all_sent() || !m.under_way.empty()) return std::optional<settled>();
  const settled done{m.id, m.payload->size(), now - m.first_sent};
  messages_.erase(found);
  return std::optional(done);
}

std::vector<std::uint64_t> bulk_sender::abandon() {
  std::vector<std::uint64_t> ids;
  for (const auto& [serial, m] : messages_) ids.push_back(m.id);
  messages_.clear();
  waiting_.clear();
  in_flight_ = chunks_under_way_ = 0;
  return ids;
}

std::optional<time_point> bulk_sender::waits_since() const {
  if (chunks_under_way_ == 0) return std::nullopt;
  return last_progress_;
}

}  // namespace isthmus
