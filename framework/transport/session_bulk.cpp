#include "framework/transport/wire_site.hpp"

#include "framework/transport/byte_io.hpp"
#include "framework/transport/chunk_header.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>

namespace isthmus {

namespace {
constexpr duration old_worker_time = std::chrono::seconds(2);
constexpr std::uint64_t endpoints_max = 16;
constexpr std::size_t window_chunks_min = 8;
}  // namespace

expected<void> wire_site::make_worker(session& s) {
  auto worker = ucx_worker::make(*ucx_, [this, id = s.id](auto header, auto bytes) { return receive_chunk(id, header, bytes); });
  if (!worker) return worker.failure();
  s.bulk = std::move(*worker);
  epoll_event e{};
  e.events = EPOLLIN;  // only to wake up; data.u64 0 names nothing
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, s.bulk->event_fd(), &e);
  return {};
}

/// UCX answers whoever reaches its port, and keeps who says nothing for ever: once a link is up, only the peer's host may. Not before: UCX
/// may call by an address of the host that we do not know, and waits for an answer with all that this thread does.
void wire_site::guard_data_port(const session& s) {
  const auto local = *parse_address(s.remote.storage.ss_family == AF_INET6 ? "[::1]:0" : "127.0.0.1:0");
  std::vector<std::span<const std::byte>> hosts{s.remote.host()};
  if (s.remote.is_loopback()) hosts.push_back(local.host());  // what the kernel calls from whatever address of 127.0.0.0/8 is called
  const auto guarded = s.bulk->admit_only(hosts);
  if (!guarded && !std::exchange(told_of_open_ports_, true))
    log("data ports of links are open to every host that reaches them: " + guarded.error().message);
}

bool wire_site::open_bulk(session& s, std::span<const std::byte> peer_address) {
  for (int i = 0; i < options_.endpoints; ++i) {
    const auto endpoint = s.bulk->connect(peer_address);
    if (!endpoint) {
      peers_[s.peer].ucx_fails = true;
      broken(s, endpoint.error());
      return false;
    }
    s.endpoints.push_back(*endpoint);
    // Transfer 0 is a probe: once it is acknowledged the endpoint is known to work.
    s.bulk->send(*endpoint, chunk_front(s, {s.peer_token, 0, 0, 0, chunk_bytes_min, {}}), nullptr, {});
    ++s.probes_owed;
  }
  return true;
}

void wire_site::close_bulk(session& s) {
  if (!s.bulk) return;
  if (s.endpoints.empty()) return s.bulk.reset();  // it was never spoken with
  s.bulk->close_all();
  old_workers_.push_back({std::move(s.bulk), time_.now() + old_worker_time});
  s.endpoints.clear();
}

bool wire_site::progress_bulk() {
  bool any = false;
  for (const auto& [id, s] : sessions_) {
    // UCX answers a peer's endpoints from inside progress(), and aborts the process when the worker goes before its answer: a peer that
    // may yet be refused is not answered.
    if (!s->bulk || s->endpoints.empty()) continue;
    any = s->bulk->progress() || any;
    if (s->bulk && s->bulk->has_failed() && !s->bulk_failed) s->bulk_failed = time_.now();
  }
  const time_point now = time_.now();
  std::erase_if(old_workers_, [&](old_worker& old) {
    any = old.worker->progress() || any;
    return old.worker->is_idle() || now >= old.deadline;
  });
  return any;
}

bool wire_site::arm_bulk() {
  bool armed = true;
  for (const auto& [id, s] : sessions_)
    if (s->bulk && !s->endpoints.empty() && !s->bulk->arm()) armed = false;
  for (const auto& old : old_workers_)
    if (!old.worker->arm()) armed = false;
  return armed;
}

void wire_site::pump(session& s) {
  if (s.bulk_failed || (s.endpoints.empty() && s.carriers.empty())) return;
  for (session* carrier = nullptr; !s.over_tcp || (carrier = roomiest_carrier(s)) != nullptr;) {
    const auto c = s.outgoing->next(time_.now());
    if (!c) return;
    auto header =
        chunk_front(s, {s.peer_token, c->transfer, c->payload->size(), c->offset, static_cast<std::uint32_t>(options_.chunk_bytes),
                        c->offset == 0 ? c->header->bytes() : std::span<const std::byte>()});
    count(s.peer, [&](link_counters& k) {
      k.bulk_bytes_out += header.size() + c->bytes + (s.sealer ? chunk_sealer::tag_bytes : 0);
      k.payload_bytes_out += c->bytes;
      k.bytes_in_flight = s.outgoing->bytes_in_flight();
    });
    const auto data = c->payload->bytes().subspan(c->offset, c->bytes);
    if (s.over_tcp)
      write_chunk(*carrier, header, s, data);
    else if (s.sealer)
      send_sealed(s, std::move(header), data);
    else
      s.bulk->send(s.endpoints[s.next_endpoint++ % s.endpoints.size()], std::move(header), c->payload, data);
  }
}

std::vector<std::byte> wire_site::chunk_front(session& s, const chunk_header& h) {
  auto header = write_chunk_header(h);
  return s.sealer ? s.sealer->header(header) : header;
}

/// One pass from the message's memory to what is sent.
void wire_site::send_sealed(session& s, std::vector<std::byte> header, std::span<const std::byte> data) {
  const std::size_t bytes = data.size() + chunk_sealer::tag_bytes;
  const auto sealed = sealed_chunks_.take(bytes);
  const auto out = sealed->bytes().first(bytes);
  s.sealer->data(header, data, out);
  s.bulk->send(s.endpoints[s.next_endpoint++ % s.endpoints.size()], std::move(header), sealed, out);
}

/// The header of a chunk as its sender wrote it; none when there is something wrong with it.
std::optional<std::vector<std::byte>> wire_site::open_front(session& s, std::span<const std::byte> header) {
  auto opened = s.opener->header(header);
  if (!opened) forged(s, "the header of a chunk");
  return opened;
}

/// Only what opens comes to a message's memory.
bool wire_site::open_data(std::uint64_t session_id, std::span<const std::byte> header, std::span<const std::byte> data, std::byte* to) {
  session* s = find(session_id);
  if (s == nullptr || s->violation) return false;
  if (s->opener->data(header, data, to)) return true;
  forged(*s, "a chunk");
  return false;
}

void wire_site::forged(session& s, const std::string& what) {
  s.violation = error{errc::checksum_mismatch, what + " of " + name_of(s.peer) + " does not open: forged, or changed on its way"};
  count(s.peer, [](link_counters& c) { ++c.forged; });
}

std::optional<ucx_worker::place> wire_site::receive_chunk(std::uint64_t session_id, std::span<const std::byte> header, std::size_t bytes) {
  session* s = find(session_id);
  if (s == nullptr || s->violation || (s->at != stage::up && s->at != stage::welcomed)) return std::nullopt;  // of a link that has ended
  const auto opened = s->opener ? open_front(*s, header) : std::nullopt;
  if (s->violation) return std::nullopt;
  const auto h = read_chunk_header(opened ? std::span<const std::byte>(*opened) : header);
  if (!h || h->link_token != s->token) {
    s->violation = h ? error{errc::refused, "chunk: its token is not the one of this link"} : h.error();
    return std::nullopt;
  }
  if (h->transfer == 0) {
    const std::uint64_t number = s->opener ? chunk_opener::number(header) : 0;
    if (s->opener && (number >= endpoints_max || (s->probes_heard >> number & 1U) != 0)) {
      s->violation = error{errc::malformed, "chunk: a probe that came twice, or after others"};
      return std::nullopt;
    }
    s->probes_heard |= std::uint32_t{1} << number;
    byte_writer acknowledgement;
    acknowledgement.number(std::uint64_t{0});
    acknowledgement.number(std::uint64_t{0});
    s->wire.write_frame(control_kind::acknowledge, acknowledgement.bytes());
    return std::nullopt;
  }
  const std::size_t expected_bytes = h->length() + (s->opener ? chunk_sealer::tag_bytes : 0);
  if (bytes != expected_bytes) {
    s->violation =
        error{errc::malformed, "chunk: " + std::to_string(bytes) + " bytes where its header names " + std::to_string(expected_bytes)};
    return std::nullopt;
  }
  const auto place = s->incoming->begin(*h, time_.now());
  if (!place) {
    s->violation = place.error();
    return std::nullopt;
  }
  const std::size_t wire_bytes = header.size() + bytes;
  ucx_worker::place into{place->to,
                         place->owner,
                         [this, id = s->id, transfer = h->transfer, offset = h->offset, wire_bytes, payload = h->length()](bool ok) {
                           chunk_arrived(id, transfer, offset, wire_bytes, payload, ok);
                         },
                         {}};
  if (s->opener)
    into.open = [this, id = s->id, front = std::vector(header.begin(), header.end()), to = place->to](std::span<const std::byte> data) {
      return open_data(id, front, data, to);
    };
  return into;
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
  auto whole = s->incoming->finish(transfer, time_.now());
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
  if (!in.exhausted()) return broken(s, {errc::malformed, "acknowledgement: it is not 16 bytes long"});
  if (transfer == 0 && offset == 0 && s.probes_owed > 0) {
    if (--s.probes_owed > 0) return;
    s.wire.write_frame(control_kind::ready, {});
    if (s.peer_ready) admit(s);
    return;
  }
  const auto settled = s.outgoing->acknowledge(transfer, offset, time_.now());
  if (!settled) return broken(s, settled.error());
  count(s.peer, [&](link_counters& c) {
    c.bytes_in_flight = s.outgoing->bytes_in_flight();
    if (!*settled || (*settled)->bytes == 0) return;
    const double rate = static_cast<double>((*settled)->bytes) / std::max(1e-9, to_seconds((*settled)->took));
    c.send_bytes_per_second = c.send_bytes_per_second == 0 ? rate : 0.75 * c.send_bytes_per_second + 0.25 * rate;
  });
  if (!*settled) return;
  fit_window(s);
  events_.sent(s.peer, (*settled)->id, {});
}

/// Twice what the path holds, by measured rate and round trip, and some chunks that are on their way through either process: no more than
/// that waits in front of a narrow place. A window that was too small for the path doubles with each message.
void wire_site::fit_window(session& s) {
  const link_counters c = counters(s.peer);
  if (c.send_bytes_per_second <= 0 || c.round_trip_seconds <= 0) return;
  const double path = 2 * c.send_bytes_per_second * c.round_trip_seconds, most = static_cast<double>(options_.window_bytes);
  const double least = static_cast<double>(window_chunks_min * options_.chunk_bytes);
  s.outgoing->set_window(static_cast<std::size_t>(std::min(most, path + least)));
}

}  // namespace isthmus
