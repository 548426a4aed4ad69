#include "framework/transport/wire_site.hpp"

#include "framework/transport/byte_io.hpp"
#include "framework/transport/chunk_header.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

bool wire_site::open_bulk(session& s) {
  for (int i = 0; i < options_.endpoints; ++i) {
    const auto endpoint = worker_->connect(s.peer_address);
    if (!endpoint) {
      broken(s, endpoint.error());
      return false;
    }
    s.endpoints.push_back(*endpoint);
    by_endpoint_[*endpoint] = s.id;
  }
  return true;
}

void wire_site::close_bulk(session& s) {
  for (const auto endpoint : std::exchange(s.endpoints, {})) {
    by_endpoint_.erase(endpoint);
    worker_->close(endpoint);
  }
  by_token_.erase(s.token);
}

void wire_site::pump(session& s) {
  if (s.bulk_failed || s.endpoints.empty()) return;
  while (auto c = s.outgoing.next(time_.now())) {
    const auto header = write_chunk_header({s.peer_token, c->transfer, c->payload->size(), c->offset,
                                            static_cast<std::uint32_t>(options_.chunk_bytes),
                                            c->offset == 0 ? c->header->bytes() : std::span<const std::byte>()});
    count(s.peer, [&](link_counters& k) {
      k.bulk_bytes_out += header.size() + c->bytes;
      k.payload_bytes_out += c->bytes;
      k.bytes_in_flight = s.outgoing.bytes_in_flight();
    });
    const auto data = c->payload->bytes().subspan(c->offset, c->bytes);
    worker_->send(s.endpoints[s.next_endpoint++ % s.endpoints.size()], header, c->payload, data);
  }
}

std::optional<ucx_worker::place> wire_site::receive_chunk(std::span<const std::byte> header, std::size_t bytes) {
  const auto h = read_chunk_header(header);
  if (!h) return std::nullopt;  // whose it is cannot be told; a link that loses chunks so comes to its stall deadline
  const auto owner = by_token_.find(h->link_token);
  session* s = owner == by_token_.end() ? nullptr : find(owner->second);
  if (s == nullptr || s->violation || (s->at != stage::up && s->at != stage::welcomed)) return std::nullopt;  // of a link that has ended
  if (bytes != h->length()) {
    s->violation = error{errc::malformed, "chunk: " + std::to_string(bytes) + " bytes where its header names " + std::to_string(h->length())};
    return std::nullopt;
  }
  const auto place = s->incoming.begin(*h, time_.now());
  if (!place) {
    s->violation = place.error();
    return std::nullopt;
  }
  const std::size_t wire_bytes = header.size() + bytes;
  return ucx_worker::place{place->to, place->owner,
                           [this, id = s->id, transfer = h->transfer, offset = h->offset, wire_bytes, bytes](bool ok) {
                             chunk_arrived(id, transfer, offset, wire_bytes, bytes, ok);
                           }};
}

void wire_site::chunk_arrived(std::uint64_t session_id, std::uint64_t transfer, std::uint64_t offset, std::size_t wire_bytes,
                              std::size_t payload_bytes, bool ok) {
  session* s = find(session_id);
  if (s == nullptr || (s->at != stage::up && s->at != stage::welcomed)) return;
  if (!ok) {
    if (!s->bulk_failed) s->bulk_failed = time_.now();
    return;
  }
  count(s->peer, [&](link_counters& c) {
    c.bulk_bytes_in += wire_bytes;
    c.payload_bytes_in += payload_bytes;
  });
  byte_writer acknowledgement;
  acknowledgement.number(transfer);
  acknowledgement.number(offset);
  s->wire.write_frame(control_kind::acknowledge, acknowledgement.bytes());
  auto whole = s->incoming.finish(transfer, time_.now());
  if (!whole) return;
  if (s->at == stage::up)
    events_.bulk(s->peer, std::move(whole->header), std::move(whole->payload));
  else
    s->early.push_back(std::move(*whole));
}

void wire_site::on_acknowledge(session& s, std::span<const std::byte> body) {
  byte_reader in(body);
  const auto transfer = in.number<std::uint64_t>();
  const auto offset = in.number<std::uint64_t>();
  if (!in.exhausted()) return end(s, {errc::malformed, "acknowledgement: it is not 16 bytes long"}, true);
  const auto settled = s.outgoing.acknowledge(transfer, offset, time_.now());
  if (!settled) return end(s, settled.error(), true);
  count(s.peer, [&](link_counters& c) {
    c.bytes_in_flight = s.outgoing.bytes_in_flight();
    if (!*settled || (*settled)->bytes == 0) return;
    const double rate = static_cast<double>((*settled)->bytes) / std::max(1e-9, to_seconds((*settled)->took));
    c.send_bytes_per_second = c.send_bytes_per_second == 0 ? rate : 0.75 * c.send_bytes_per_second + 0.25 * rate;
  });
  if (*settled) events_.sent(s.peer, (*settled)->id, {});
}

void wire_site::take_failed_endpoints() {
  for (const auto endpoint : worker_->take_failed()) {
    const auto found = by_endpoint_.find(endpoint);
    session* s = found == by_endpoint_.end() ? nullptr : find(found->second);
    if (s != nullptr && !s->bulk_failed) s->bulk_failed = time_.now();
  }
}

}  // namespace isthmus
