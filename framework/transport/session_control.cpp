#include "framework/transport/wire_site.hpp"

#include "framework/transport/byte_io.hpp"
#include "framework/wire/wire.hpp"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr duration drain_time = std::chrono::seconds(1);
constexpr duration search_patience = std::chrono::seconds(2);  // with one of them: who was stopped takes calls and says nothing
constexpr int user_timeout_ms = 20'000;                        // unacknowledged control bytes; heartbeats decide long before
constexpr int reads_in_a_row = 8;                              // of 64 KiB, before others have their turn
constexpr std::size_t bulk_frame_bytes_max = 2 + 2 * bulk_header_bytes_max + chunk_bytes_most + chunk_sealer::tag_bytes;
constexpr std::size_t handshake_frame_bytes_max = 4 + 1 + handshake_bytes_max;

std::uint64_t random_number() {
  std::uint64_t number = 0;
  ensure(::getrandom(&number, sizeof number, 0) == sizeof number, "getrandom");
  return number;
}

void set_options(int socket) {
  const int on = 1, timeout = user_timeout_ms;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

/// Asking again cannot change it.
bool is_final(errc code) {
  return code == errc::wrong_run || code == errc::wrong_version || code == errc::wrong_recipe || code == errc::stale_incarnation;
}

}  // namespace

wire_site::session* wire_site::find(std::uint64_t id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() || found->second->dead ? nullptr : found->second.get();
}

wire_site::session* wire_site::up_session(site_id peer) {
  const auto found = peers_.find(peer);
  session* s = found == peers_.end() ? nullptr : find(found->second.session);
  return s != nullptr && s->at == stage::up ? s : nullptr;
}

bool wire_site::we_dial(site_id peer) const {
  const site_id self = options_.hello.site;
  const bool we_must = options_.outward.contains(self), they_must = options_.outward.contains(peer);
  if (we_must != they_must && peer != coordinator_id && self != coordinator_id) return we_must;
  return self != coordinator_id && (peer == coordinator_id || self > peer);
}

wire_site::session& wire_site::add_session(int socket, const socket_address& remote) {
  set_options(socket);
  auto made = std::make_unique<session>(socket);
  session& s = *made;
  s.id = next_session_++;
  s.remote = remote;
  s.deadline = time_.now() + options_.greeting_timeout;
  s.token = random_number();
  s.at = options_.keys ? stage::shaking : stage::greeting;
  s.interest = EPOLLIN;
  epoll_event e{};
  e.events = s.interest;
  e.data.u64 = s.id;
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &e);
  sessions_.emplace(s.id, std::move(made));
  return s;
}

void wire_site::dial(site_id peer) {
  peer_state& p = peers_[peer];
  p.next_dial.reset();
  if (!p.kept || p.addresses.empty() || p.session != 0) return;
  dialled_address& next = p.next();
  const auto socket = connect_socket(next.where);
  if (!socket) {
    const std::string trouble = name_of(peer) + " at " + next.where.text() + ": " + socket.error().message;
    if (std::exchange(next.trouble, trouble) != trouble) log(trouble);
    return schedule_dial(peer, false);
  }
  session& s = add_session(*socket, next.where);
  s.dialled = true;
  s.peer = peer;
  p.session = s.id;
  s.at = stage::connecting;
  if (ucx_ && !p.ucx_fails)
    if (const auto ok = make_worker(s); !ok) return broken(s, ok.error());
  await_connection(s);
}

/// One that connects: the loop hears of it. Errors: disconnected.
expected<int> wire_site::connect_socket(const socket_address& to) {
  const int socket = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket >= 0 && (::connect(socket, to.get(), to.size) == 0 || errno == EINPROGRESS)) return socket;
  const std::string why = std::strerror(errno);
  if (socket >= 0) ::close(socket);
  return fail(errc::disconnected, "cannot connect: " + why);
}

void wire_site::await_connection(session& s) {
  epoll_event e{};
  e.events = s.interest = EPOLLOUT;
  e.data.u64 = s.id;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, s.wire.socket(), &e);
}

void wire_site::on_socket(session& s, std::uint32_t events) {
  if (s.at == stage::connecting) return on_connected(s);
  if (s.at == stage::draining) {
    for (int i = 0; i < reads_in_a_row; ++i) {
      const auto more = s.wire.fill();
      if (!more) s.dead = true;
      if (!more || !*more) return;
      s.wire.discard();
    }
    return;
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_frames(s);
}

void wire_site::on_connected(session& s) {
  int status = 0;
  socklen_t size = sizeof status;
  ::getsockopt(s.wire.socket(), SOL_SOCKET, SO_ERROR, &status, &size);
  if (status != 0) return broken(s, {errc::disconnected, std::string("cannot connect: ") + std::strerror(status)});
  const bool one_of_several = peers_[s.peer].addresses.size() > 1;
  // Its worker and those of other links may have taken long to make.
  s.deadline = time_.now() + (one_of_several ? std::min(options_.greeting_timeout, search_patience) : options_.greeting_timeout);
  open_conversation(s);
}

void wire_site::read_frames(session& s) {
  for (int i = 0; i < reads_in_a_row; ++i) {
    const std::uint64_t before = s.wire.bytes_in();
    const bool answered = s.at != stage::shaking;
    const auto more = answered ? s.wire.fill() : s.wire.fill(handshake_frame_bytes_max);
    if (s.at == stage::up) count(s.peer, [&](link_counters& c) { c.control_bytes_in += s.wire.bytes_in() - before; });
    bool any = false;
    while (!s.dead && s.at != stage::draining) {
      const auto frame = s.wire.read_frame(s.at == stage::bulk      ? bulk_frame_bytes_max
                                           : s.at == stage::up      ? wire::control_bytes_max
                                           : s.at == stage::shaking ? handshake_bytes_max
                                                                    : greeting_bytes_max);
      if (!frame && frame.error().code == errc::checksum_mismatch) count(s.peer, [](link_counters& c) { ++c.forged; });
      if (!frame) return broken(s, frame.error());
      if (!*frame) break;
      any = true;
      on_frame(s, **frame);
    }
    if (s.dead || s.at == stage::draining) return;
    if (!more && !answered && s.dialled)
      return broken(s, {errc::disconnected,
                        "it ended the connection instead of answering our handshake: it has another key, run or roster, or links that are "
                        "not sealed; its log says more"});
    if (!more) return broken(s, more.error());
    if (!s.wire.holds_part())
      s.part_since.reset();
    else if (any || !s.part_since)
      s.part_since = time_.now();
    if (!*more) return;
  }
}

void wire_site::on_frame(session& s, const control_frame& f) {
  if (s.at == stage::up) return on_admitted_frame(s, f);
  if (s.at == stage::bulk && f.kind == control_kind::bulk) return on_chunk(s, f.body);
  if (s.at == stage::greeting && f.kind == control_kind::bulk && !s.dialled) return on_claim(s, f.body);
  if (s.at == stage::shaking) return on_handshake(s, f);
  if (f.kind == control_kind::greeting && s.at == stage::greeting) return on_greeting(s, f.body);
  if (f.kind == control_kind::acknowledge && s.at == stage::welcomed) return on_acknowledge(s, f.body);
  if (f.kind == control_kind::ready && s.at == stage::welcomed && !s.peer_ready) {
    s.peer_ready = true;
    return s.probes_owed == 0 ? admit(s) : void();
  }
  if (f.kind == control_kind::refusal && (s.dialled || s.at == stage::welcomed)) {
    const error why = read_reason(f.body);
    return broken(s, {why.code, "refused by " + name_of(s.peer) + ": " + why.message}, by::peer);
  }
  refuse(s, {errc::malformed, "a control frame of kind " + std::to_string(static_cast<int>(f.kind)) + " before admission"});
}

void wire_site::on_admitted_frame(session& s, const control_frame& f) {
  switch (f.kind) {
    case control_kind::message: return events_.control(s.peer, make_shared_bytes(f.body));
    case control_kind::acknowledge: return on_acknowledge(s, f.body);
    case control_kind::ping:
      if (f.body.size() != 8) break;
      s.wire.write_frame(control_kind::pong, f.body);
      return;
    case control_kind::pong: {
      byte_reader in(f.body);
      const duration taken = time_.now() - time_point(duration(static_cast<std::int64_t>(in.number<std::uint64_t>())));
      if (!in.exhausted() || taken.count() < 0 || taken > std::chrono::hours(1)) break;
      return count(s.peer, [&](link_counters& c) {
        c.round_trip_seconds = c.round_trip_seconds == 0 ? to_seconds(taken) : 0.875 * c.round_trip_seconds + 0.125 * to_seconds(taken);
      });
    }
    case control_kind::goodbye: return end(s, {errc::disconnected, name_of(s.peer) + " said goodbye"}, false);
    case control_kind::closing:
      return end(s, {errc::disconnected, "closed by " + name_of(s.peer) + ": " + read_reason(f.body).message}, false);
    default: break;
  }
  end(s, {errc::malformed, "a control frame of kind " + std::to_string(static_cast<int>(f.kind)) + " that has no place here"}, true);
}

void wire_site::greet(session& s) {
  greeting g;
  g.hello = options_.hello;
  g.to = s.peer;
  g.link_token = s.token;
  if (s.bulk) g.worker_address.assign(s.bulk->address().begin(), s.bulk->address().end());
  s.wire.write_frame(control_kind::greeting, write_greeting(g));
}

void wire_site::on_greeting(session& s, std::span<const std::byte> body) {
  const auto theirs = read_greeting(body, options_.hello.version);
  if (!theirs) return refuse(s, theirs.error());
  if (const auto ok = accept_greeting(s, *theirs); !ok) return refuse(s, ok.error());
  s.peer = theirs->hello.site;
  s.incarnation = theirs->hello.incarnation;
  s.peer_token = theirs->link_token;
  const bool over_tcp = goes_over_tcp(s, *theirs);
  if (!s.dialled) {
    if (!over_tcp)
      if (const auto ok = make_worker(s); !ok) return refuse(s, ok.error());
    greet(s);
  }
  s.outgoing = std::make_unique<bulk_sender>(options_.chunk_bytes, options_.window_bytes);
  s.incoming = std::make_unique<bulk_receiver>(options_.transfer_bytes_max, options_.incoming_bytes_max);
  s.at = stage::welcomed;
  if (over_tcp)
    open_bulk_connections(s);
  else
    open_bulk(s, theirs->worker_address);
}

expected<void> wire_site::accept_greeting(session& s, const greeting& theirs) {
  if (const auto ok = check_greeting(options_.hello, theirs); !ok) return ok;
  if (!goes_over_tcp(s, theirs))
    if (const auto ok = ucx_->check_address(theirs.worker_address, s.remote.host()); !ok) return ok;
  const site_id peer = theirs.hello.site;
  if (!s.dialled && options_.keys && peer != s.peer)
    return fail(errc::refused, "the greeting is of " + name_of(peer) + ", the key of " + name_of(s.peer));
  if (s.dialled && peer != s.peer) return fail(errc::refused, "dialled " + name_of(s.peer) + " and reached " + name_of(peer));
  if (!s.dialled && we_dial(peer))
    return fail(errc::refused, name_of(options_.hello.site) + " dials " + name_of(peer) + ", not the other way");
  const auto found = peers_.find(peer);
  // Whoever belongs to the run may call the coordinator; a site answers the peers it was told to keep.
  if (options_.hello.site != coordinator_id && (found == peers_.end() || !found->second.kept))
    return fail(errc::refused, name_of(options_.hello.site) + " does not expect " + name_of(peer) + " yet");
  if (found != peers_.end() && theirs.hello.incarnation < found->second.incarnation_seen)
    return fail(errc::stale_incarnation, name_of(peer) + " comes with incarnation " + std::to_string(theirs.hello.incarnation) + ", but " +
                                             std::to_string(found->second.incarnation_seen) +
                                             " was here already: this process was replaced");
  return {};
}

void wire_site::refuse(session& s, const error& why) {
  if (s.carries != 0) return carrier_broke(s, why);
  const bool silently = is_stranger(s);  // it hears nothing from us
  if (!silently) s.wire.write_frame(control_kind::refusal, write_reason(why));
  const std::uint64_t id = s.id;
  if (s.dialled)
    dial_failed(s, why, by::us);
  else
    log_refused(s, why, "refused");
  if (silently)
    s.dead = true;
  else if (session* still = find(id))
    drain(*still);
}

void wire_site::broken(session& s, const error& why, by whom) {
  if (s.carries != 0) return carrier_broke(s, why);
  if (s.at == stage::up) return end(s, why, false);
  if (s.at != stage::draining) {
    if (s.dialled)
      dial_failed(s, why, whom);
    else
      log_refused(s, why, "closed before admission");
  }
  s.dead = true;
}

void wire_site::dial_failed(session& s, const error& why, by whom) {
  peer_state& p = peers_[s.peer];
  if (p.session == s.id) p.session = 0;
  const std::string trouble = name_of(s.peer) + " at " + s.remote.text() + ": " + std::string(describe(why.code)) + ": " + why.message;
  if (!p.addresses.empty() && std::exchange(p.next().trouble, trouble) != trouble) log(trouble);
  schedule_dial(s.peer, is_final(why.code));
  const bool of_us = whom == by::peer || why.code != errc::stale_incarnation;  // else it is the peer that was replaced
  if (is_final(why.code) && of_us) events_.refused(s.peer, why);
}

void wire_site::admit(session& s) {
  peer_state& p = peers_[s.peer];
  if (s.incarnation < p.incarnation_seen)  // a newer one was admitted between its greeting and now
    return refuse(s, {errc::stale_incarnation, name_of(s.peer) + " was replaced by incarnation " + std::to_string(p.incarnation_seen)});
  if (session* older = find(p.session); older != nullptr && older != &s)
    end(*older, {errc::disconnected, "replaced by a newer connection of " + name_of(s.peer)}, true);
  p.session = s.id;
  p.incarnation_seen = s.incarnation;
  p.attempts = 0;
  p.next_dial.reset();
  for (auto& address : p.addresses) address.trouble.clear();
  s.at = stage::up;
  s.next_ping = time_.now();
  if (s.bulk) guard_data_port(s);
  count(s.peer, [&](link_counters& c) {
    c.reconnects += c.control_bytes_in > 0 ? 1 : 0;
    c.control_bytes_in += s.wire.bytes_in();
    c.control_bytes_out += s.wire.bytes_out();
    c.bytes_in_flight = 0;
  });
  events_.up(s.peer, s.incarnation);
  for (auto& whole : std::exchange(s.early, {})) events_.bulk(s.peer, std::move(whole.header), std::move(whole.payload));
}

void wire_site::end(session& s, const error& reason, bool tell_peer) {
  if (s.at != stage::up) return;
  peer_state& p = peers_[s.peer];
  if (p.session == s.id) p.session = 0;
  if (tell_peer) s.wire.write_frame(control_kind::closing, write_reason(reason));
  drain(s);
  close_bulk(s);
  drop_carriers(s);
  if (!tell_peer) s.dead = true;
  count(s.peer, [](link_counters& c) { c.bytes_in_flight = 0; });
  for (const std::uint64_t id : s.outgoing->abandon()) events_.sent(s.peer, id, fail(reason.code, reason.message));
  if (we_dial(s.peer)) schedule_dial(s.peer, false);
  events_.down(s.peer, reason);
}

void wire_site::drain(session& s) {
  s.at = stage::draining;
  s.part_since.reset();
  s.deadline = time_.now() + drain_time;
}

}  // namespace isthmus
