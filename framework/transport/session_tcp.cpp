#include "framework/transport/wire_site.hpp"

#include "framework/transport/byte_io.hpp"
#include "framework/transport/chunk_header.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t queued_bytes_max = 256U << 10;  // in front of the next chunk of a bulk connection

}  // namespace

/// Whether bulk data of the link go over TCP connections of our own: what either end says, and what is left where UCX cannot reach the
/// peer's host.
bool wire_site::goes_over_tcp(const session& s, const greeting& theirs) const {
  if (!ucx_ || theirs.worker_address.empty()) return true;
  if (s.dialled) return !s.bulk;
  const auto peer = peers_.find(theirs.hello.site);
  if (peer != peers_.end() && peer->second.ucx_fails) return true;
  return !ucx_->check_host(theirs.worker_address, s.remote.host());
}

/// The dialling end opens as many connections as it would endpoints, each with a handshake of its own, and says whose they are.
bool wire_site::open_bulk_connections(session& s) {
  s.over_tcp = true;
  s.bulk.reset();
  s.probes_owed = 1;  // of the dialled end, until it hears how many there are
  if (!s.dialled) return true;
  s.probes_owed = static_cast<std::size_t>(options_.endpoints);
  const socket_address to = s.remote;
  const std::uint64_t owner = s.id;
  for (int i = 0; i < options_.endpoints; ++i) {
    const auto socket = connect_socket(to);
    if (!socket) {
      broken(s, socket.error());
      return false;
    }
    session& made = add_session(*socket, to);
    made.dialled = true;
    made.peer = s.peer;
    made.carries = owner;
    made.at = stage::connecting;
    await_connection(made);
  }
  return true;
}

/// A bulk connection has shown its key, or needs none: whose is it?
void wire_site::claim_link(session& s) {
  const session* owner = find(s.carries);
  if (owner == nullptr) return broken(s, {errc::disconnected, "its link has ended"});
  byte_writer claim;
  claim.number(owner->peer_token);
  claim.number(static_cast<std::uint8_t>(options_.endpoints));
  s.wire.write_frame(control_kind::bulk, claim.bytes());
  attach(s, *find(s.carries));
}

void wire_site::on_claim(session& s, std::span<const std::byte> body) {
  byte_reader in(body);
  const auto token = in.number<std::uint64_t>();
  const auto connections = in.number<std::uint8_t>();
  if (!in.exhausted() || connections < 1 || connections > 16) return refuse(s, {errc::malformed, "a bulk connection's claim is 9 bytes"});
  const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& entry) {
    const session& o = *entry.second;
    return o.token == token && !o.dead && !o.dialled && o.over_tcp && (o.at == stage::welcomed || o.at == stage::up) &&
           (!options_.keys || o.peer == s.peer);
  });
  if (found == sessions_.end()) return refuse(s, {errc::refused, "a bulk connection of a link that is not there"});
  session& owner = *found->second;
  if (owner.carriers.size() >= connections) return refuse(s, {errc::malformed, "more bulk connections than were named"});
  if (owner.carriers.empty()) owner.probes_owed = connections;
  s.peer = owner.peer;
  s.carries = owner.id;
  attach(s, owner);
}

/// From here on only chunks travel on it, sealed by themselves. A probe shows that it works.
void wire_site::attach(session& s, session& owner) {
  s.at = stage::bulk;
  s.part_since.reset();
  owner.carriers.push_back(s.id);
  write_chunk(s, chunk_front(owner, {owner.peer_token, 0, 0, 0, chunk_bytes_min, {}}), owner, std::nullopt);
}

/// Without data it is a probe; no data at all is something else than an empty message's.
void wire_site::write_chunk(session& carrier, const std::vector<std::byte>& header, session& owner,
                            std::optional<std::span<const std::byte>> chunk) {
  const bool sealed = owner.sealer != nullptr && chunk;
  const std::size_t tag = sealed ? chunk_sealer::tag_bytes : 0;
  const auto data = chunk.value_or(std::span<const std::byte>());
  const auto body = carrier.wire.reserve_open_frame(control_kind::bulk, 2 + header.size() + data.size() + tag);
  const auto out = body.subspan(write_bulk_front(header, body));
  if (sealed)
    owner.sealer->data(header, data, out);
  else
    std::copy(data.begin(), data.end(), out.begin());
}

void wire_site::on_chunk(session& s, std::span<const std::byte> body) {
  const std::uint64_t id = s.carries;
  if (find(id) == nullptr) {
    s.dead = true;
    return;
  }
  const auto frame = read_bulk_frame(body);
  if (!frame) return broken(s, frame.error());
  const auto place = receive_chunk(id, frame->header, frame->data.size());
  if (!place) return;
  bool ok = true;
  if (place->open)
    ok = place->open(frame->data);
  else
    std::copy(frame->data.begin(), frame->data.end(), place->to);
  place->done(ok);
}

/// The connection with the least to send takes the next chunk; none while all have enough.
wire_site::session* wire_site::roomiest_carrier(session& s) {
  session* best = nullptr;
  for (const std::uint64_t id : s.carriers)
    if (session* c = find(id); c != nullptr && (best == nullptr || c->wire.queued_bytes() < best->wire.queued_bytes())) best = c;
  return best != nullptr && best->wire.queued_bytes() <= queued_bytes_max ? best : nullptr;
}

void wire_site::carrier_broke(session& s, const error& why) {
  s.dead = true;
  session* owner = find(s.carries);
  if (owner == nullptr || owner->bulk_failed) return;
  if (owner->at == stage::up) {
    owner->bulk_failed = time_.now();  // a goodbye may be on its way on the other connection
  } else if (owner->at != stage::draining) {
    broken(*owner, {why.code, "bulk connection: " + why.message});
  }
}

void wire_site::drop_carriers(session& s) {
  for (const std::uint64_t id : std::exchange(s.carriers, {}))
    if (session* c = find(id)) c->dead = true;
}

}  // namespace isthmus
