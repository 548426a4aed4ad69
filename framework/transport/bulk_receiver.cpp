#include "framework/transport/bulk_receiver.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

expected<bulk_receiver::message*> bulk_receiver::message_of(const chunk_header& h) {
  if (const auto found = messages_.find(h.transfer); found != messages_.end()) {
    message& m = found->second;
    if (m.payload->size() != h.total_bytes || m.chunk_bytes != h.chunk_bytes)
      return fail(errc::malformed, "chunk: transfer " + std::to_string(h.transfer) + " changed its size under way");
    return &m;
  }
  if (h.transfer == 0 || h.transfer + unfinished_max <= highest_ || finished_.contains(h.transfer))
    return fail(errc::malformed, "chunk: transfer " + std::to_string(h.transfer) + " is over");
  if (h.total_bytes > transfer_bytes_max_)
    return fail(errc::too_large, "chunk: a payload of " + std::to_string(h.total_bytes) + " bytes; at most " +
                                     std::to_string(transfer_bytes_max_) + " are allowed");
  if (messages_.size() >= unfinished_max || h.total_bytes > incoming_bytes_max_ - incoming_bytes_)
    return fail(errc::too_large,
                "chunk: more unfinished payloads than the " + std::to_string(incoming_bytes_max_) + " bytes allowed to a peer");

  message m;
  m.payload = std::make_shared<buffer>(h.total_bytes);
  m.chunk_bytes = h.chunk_bytes;
  m.missing = std::max<std::uint64_t>(1, (h.total_bytes + h.chunk_bytes - 1) / h.chunk_bytes);
  m.begun.resize(m.missing);
  incoming_bytes_ += h.total_bytes;
  highest_ = std::max(highest_, h.transfer);
  return &messages_.emplace(h.transfer, std::move(m)).first->second;
}

expected<bulk_receiver::place> bulk_receiver::begin(const chunk_header& h, time_point now) {
  if (messages_.empty()) last_progress_ = now;
  const auto m = message_of(h);
  if (!m) return m.failure();
  message& one = **m;
  const std::size_t index = h.offset / h.chunk_bytes;
  if (one.begun[index]) return fail(errc::malformed, "chunk: offset " + std::to_string(h.offset) + " of a transfer came twice");
  one.begun[index] = true;
  if (h.offset == 0) one.header = make_shared_bytes(h.message_header);
  return place{one.payload->data() + h.offset, one.payload};
}

std::optional<bulk_receiver::arrived> bulk_receiver::finish(std::uint64_t transfer, time_point now) {
  const auto found = messages_.find(transfer);
  ensure(found != messages_.end(), "bulk_receiver: finish without begin");
  last_progress_ = now;
  message& m = found->second;
  if (--m.missing > 0) return std::nullopt;
  arrived whole{std::move(m.header), std::move(m.payload)};
  incoming_bytes_ -= whole.payload->size();
  messages_.erase(found);
  finished_.insert(transfer);
  while (!finished_.empty() && *finished_.begin() + unfinished_max <= highest_) finished_.erase(finished_.begin());
  return whole;
}

std::optional<time_point> bulk_receiver::waits_since() const {
  if (messages_.empty()) return std::nullopt;
  return last_progress_;
}

}  // namespace isthmus
