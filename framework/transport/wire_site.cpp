#include "framework/transport/wire_site.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr int progress_slice = 64;                                       // UCX's turns before the control sockets have theirs
constexpr duration bulk_failure_grace = std::chrono::milliseconds(100);  // a goodbye may be on its way on the other socket
constexpr std::size_t control_queue_bytes_max = 64U << 20;               // to a peer that does not read
constexpr duration ping_interval = std::chrono::seconds(1);
constexpr duration trim_interval = std::chrono::seconds(10);    // longer than the pauses of a busy link
constexpr std::uint32_t log_lines_max = 40;                     // in ten seconds
constexpr duration search_pause_max = std::chrono::seconds(1);  // between two turns through the addresses of one peer

unexpected system_failure(const std::string& what) { return fail(errc::environment, what + ": " + std::strerror(errno)); }

}  // namespace

wire_site::wire_site(ucx_transport_options options, const clock& time)
    : options_(std::move(options)),
      time_(time),
      limits_(options_.handshakes_burst, options_.handshakes_per_second),
      sealed_chunks_(options_.chunk_bytes + chunk_sealer::tag_bytes) {}

wire_site::~wire_site() {
  for (const auto& [id, s] : sessions_) close_bulk(*s);
  sessions_.clear();
  old_workers_.clear();
  for (const int descriptor : {listener_, epoll_, wake_})
    if (descriptor >= 0) ::close(descriptor);
}

expected<void> wire_site::open() {
  auto wanted = parse_address(options_.listen);
  if (!wanted) return wanted.failure();
  if (const auto ok = check_allowed(*wanted, reach()); !ok) return ok.failure();
  if (options_.keys)
    if (const auto ok = check_keys(*options_.keys, options_.hello.site); !ok) return ok.failure();
  listener_ = ::socket(wanted->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener_ < 0) return system_failure("no socket");
  const int on = 1;
  ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener_, wanted->get(), wanted->size) != 0 || ::listen(listener_, 512) != 0)
    return system_failure("cannot listen on " + wanted->text());
  listening_.size = sizeof listening_.storage;
  if (::getsockname(listener_, reinterpret_cast<sockaddr*>(&listening_.storage), &listening_.size) != 0)
    return system_failure("no address");

  if (!options_.bulk_over_tcp) {
    const auto device = device_of(*wanted);
    if (!device) return device.failure();
    auto ucx = ucx_context::make(*device, wanted->host(), options_.data_ports);
    if (!ucx) return ucx.failure();
    ucx_ = std::move(*ucx);
  }

  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (epoll_ < 0 || wake_ < 0) return system_failure("no epoll descriptor");
  for (const auto& [descriptor, tag] : {std::pair{listener_, listener_tag}, {wake_, wake_tag}}) {
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u64 = tag;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &e) != 0) return system_failure("epoll");
  }
  return {};
}

void wire_site::post(std::function<void()> command) {
  const std::lock_guard lock(commands_mutex_);
  commands_.push_back(std::move(command));
  const std::uint64_t one = 1;
  if (commands_.size() == 1) [[maybe_unused]]
    const auto n = ::write(wake_, &one, sizeof one);
}

void wire_site::run_commands() {
  std::vector<std::function<void()>> commands;
  {
    const std::lock_guard lock(commands_mutex_);
    commands.swap(commands_);
  }
  for (auto& command : commands) command();
}

link_counters wire_site::counters(site_id peer) const {
  const std::lock_guard lock(counters_mutex_);
  const auto found = counters_.find(peer);
  return found == counters_.end() ? link_counters{} : found->second;
}

void wire_site::run(transport_events events) {
  events_ = std::move(events);
  while (!stopping_ || !sessions_.empty()) {
    run_commands();
    bool busy = true;
    for (int i = 0; i < progress_slice && busy; ++i) busy = progress_bulk();
    check_timers();
    for (const auto& [id, s] : sessions_)
      if (s->at == stage::up && !s->dead) pump(*s);
    busy = flush_all() || busy;
    sweep();
    wait(busy);
  }
}

void wire_site::wait(bool busy) {
  int timeout_ms = 0;
  if (!busy && arm_bulk()) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(next_deadline() - time_.now()).count();
    timeout_ms = static_cast<int>(std::clamp<std::int64_t>(ms, 0, 10'000));
    if (stopping_ && sessions_.empty()) timeout_ms = 0;
  }
  std::array<epoll_event, 64> events;
  const int n = ::epoll_wait(epoll_, events.data(), events.size(), timeout_ms);
  for (int i = 0; i < n; ++i) {
    const epoll_event& e = events[static_cast<std::size_t>(i)];
    if (e.data.u64 == listener_tag) {
      accept_all();
    } else if (e.data.u64 == wake_tag) {
      std::uint64_t ignored = 0;
      [[maybe_unused]] const auto got = ::read(wake_, &ignored, sizeof ignored);
    } else if (session* s = find(e.data.u64)) {
      on_socket(*s, e.events);
    }
  }
}

time_point wire_site::next_deadline() const {
  time_point next = time_point::max();
  const auto at = [&](time_point t) { next = std::min(next, t); };
  for (const auto& old : old_workers_) at(old.deadline);
  for (const auto& [id, s] : sessions_) {
    if (s->at == stage::bulk) continue;
    if (s->at != stage::up) {
      at(s->bulk_failed ? *s->bulk_failed + bulk_failure_grace : s->deadline);
      continue;
    }
    at(s->next_ping);
    if (s->part_since) at(*s->part_since + options_.frame_timeout);
    if (s->bulk_failed) at(*s->bulk_failed + bulk_failure_grace);
    if (const auto since = s->outgoing->waits_since()) at(*since + options_.stall_timeout);
    if (const auto since = s->incoming->waits_since()) at(*since + 2 * options_.stall_timeout);
  }
  if (!stopping_) {
    if (accept_again_) at(*accept_again_);
    for (const auto& [peer, p] : peers_)
      if (p.next_dial) at(*p.next_dial);
  }
  return next == time_point::max() ? time_.now() + std::chrono::seconds(10) : next;
}

void wire_site::check_timers() {
  const time_point now = time_.now();
  const auto is_over = [&](const std::optional<time_point>& since, duration allowed) { return since && now - *since >= allowed; };
  for (const auto& [id, one] : sessions_) {
    session& s = *one;
    if (s.dead || s.at == stage::bulk) continue;
    if (s.at == stage::draining) {
      s.dead = now >= s.deadline;
    } else if (s.at != stage::up) {
      if (s.violation)
        broken(s, *s.violation);
      else if (is_over(s.bulk_failed, bulk_failure_grace))
        broken(s, {errc::disconnected, "the bulk path to " + name_of(s.peer) + " failed before it was up"});
      else if (now >= s.deadline)
        broken(s, {errc::timed_out, "no greeting within " + std::to_string(to_seconds(options_.greeting_timeout)) + " s"});
    } else if (s.violation) {
      end(s, *s.violation, true);
    } else if (is_over(s.bulk_failed, bulk_failure_grace)) {
      end(s, {errc::disconnected, "the bulk path to " + name_of(s.peer) + " failed"}, true);
    } else if (s.wire.queued_bytes() > control_queue_bytes_max) {
      end(s, {errc::timed_out, name_of(s.peer) + " does not read its control channel"}, false);
    } else if (is_over(s.part_since, options_.frame_timeout)) {
      end(s, {errc::timed_out, "half a control frame and then nothing"}, true);
    } else if (is_over(s.outgoing->waits_since(), options_.stall_timeout)) {
      end(s, {errc::timed_out, "no acknowledgement from " + name_of(s.peer) + " while data is under way"}, true);
    } else if (is_over(s.incoming->waits_since(), 2 * options_.stall_timeout)) {
      end(s, {errc::timed_out, "a bulk message from " + name_of(s.peer) + " was begun and never finished"}, true);
    } else if (now >= s.next_ping) {
      s.next_ping = now + ping_interval;
      const auto stamp = static_cast<std::uint64_t>(now.time_since_epoch().count());
      s.wire.write_frame(control_kind::ping, std::as_bytes(std::span(&stamp, 1)));
    }
  }
  if (now >= next_trim_) {
    sealed_chunks_.trim();
    next_trim_ = now + trim_interval;
  }
  if (stopping_) return;
  if (accept_again_ && now >= *accept_again_) listen_for_connections(true);
  std::vector<site_id> due;
  for (const auto& [peer, p] : peers_)
    if (p.next_dial && now >= *p.next_dial) due.push_back(peer);
  for (const site_id peer : due) dial(peer);
}

/// Whether a bulk connection has room again for chunks that wait.
bool wire_site::flush_all() {
  bool moved = false;
  for (const auto& [id, one] : sessions_) {
    session& s = *one;
    if (s.dead || s.at == stage::connecting) continue;
    const std::uint64_t before = s.wire.bytes_out();
    const auto ok = s.wire.flush();
    moved = moved || (s.at == stage::bulk && s.wire.bytes_out() != before);
    if (s.at == stage::up) count(s.peer, [&](link_counters& c) { c.control_bytes_out += s.wire.bytes_out() - before; });
    if (!ok) {
      broken(s, ok.error());
      continue;
    }
    if (s.at == stage::draining && !s.wire.wants_to_write()) s.wire.shut_down();
    const std::uint32_t wanted = EPOLLIN | (s.wire.wants_to_write() ? std::uint32_t{EPOLLOUT} : 0U);
    if (wanted == s.interest) continue;
    epoll_event e{};
    e.events = s.interest = wanted;
    e.data.u64 = id;
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, s.wire.socket(), &e);
  }
  return moved;
}

void wire_site::sweep() {
  std::erase_if(sessions_, [&](const auto& entry) {
    if (!entry.second->dead) return false;
    close_bulk(*entry.second);
    drop_carriers(*entry.second);
    return true;
  });
}

void wire_site::log(const std::string& line) {
  const time_point now = time_.now();
  if (now - log_window_ > std::chrono::seconds(10)) {
    if (log_left_out_ > 0) options_.log("transport: " + std::to_string(log_left_out_) + " more lines left out");
    log_window_ = now;
    log_lines_ = log_left_out_ = 0;
  }
  if (++log_lines_ > log_lines_max)
    ++log_left_out_;
  else
    options_.log("transport: " + line);
}

expected<std::vector<wire_site::dialled_address>> wire_site::addresses_in(const std::string& text) const {
  std::vector<dialled_address> out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const auto parsed = parse_address(text.substr(at, end - at));
    if (!parsed) return parsed.failure();
    if (const auto ok = check_allowed(*parsed, reach()); !ok) return ok.failure();
    out.push_back({*parsed, {}});
    at = end + 1;
  }
  return out;
}

void wire_site::keep(site_id peer, const std::string& address) {
  peer_state& p = peers_[peer];
  if (p.kept && p.address_text == address) {
    if (!p.addresses.empty() && p.session == 0 && p.next_dial) {
      p.attempts = 0;
      p.next_dial = time_.now();
    }
    return;
  }
  p.kept = true;
  p.address_text = address;
  p.addresses.clear();
  if (!we_dial(peer)) return;
  auto all = addresses_in(address);
  if (!all) {
    log(name_of(peer) + ": " + all.error().message);
    events_.down(peer, all.error());
    return;
  }
  p.addresses = std::move(*all);
  p.attempts = 0;
  p.turn = 0;
  if (p.session == 0) p.next_dial = time_.now();
}

void wire_site::schedule_dial(site_id peer, bool refused) {
  peer_state& p = peers_[peer];
  if (!p.kept || p.addresses.empty() || stopping_) return;
  ++p.turn;
  const bool all_tried = p.turn % p.addresses.size() == 0;
  const duration longest = p.addresses.size() > 1 ? std::min(options_.back_off_max, search_pause_max) : options_.back_off_max;
  duration wait = refused ? longest : std::min(longest, options_.back_off_min * (1U << std::min(p.attempts, 10U)));
  if (!all_tried) wait = options_.back_off_min;
  // Jitter, so that sites that lost the same peer do not come back in step: half of it drawn.
  rng draws(options_.hello.incarnation, options_.hello.site, p.attempts, draw::back_off);
  wait = wait / 2 + std::chrono::duration_cast<duration>(wait / 2 * draws.uniform());
  if (all_tried) ++p.attempts;
  p.next_dial = time_.now() + wait;
}

void wire_site::forget(site_id peer) {
  peers_[peer].kept = false;
  peers_[peer].next_dial.reset();
  close(peer, {errc::disconnected, "forgotten"});
}

void wire_site::close(site_id peer, error reason) {
  session* s = find(peers_[peer].session);
  if (s == nullptr) return;
  if (s->at == stage::up)
    end(*s, reason, true);
  else
    broken(*s, reason);
}

void wire_site::send_control(site_id peer, const shared_bytes& bytes) {
  if (session* s = up_session(peer)) s->wire.write_frame(control_kind::message, bytes->bytes());
}

void wire_site::send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload) {
  session* s = up_session(peer);
  if (s == nullptr) {
    events_.sent(peer, id, fail(errc::disconnected, "there is no link to " + name_of(peer)));
    return;
  }
  s->outgoing->push(id, std::move(header), std::move(payload));
  pump(*s);
}

void wire_site::stop() {
  stopping_ = true;
  events_ = {[](auto...) {}, [](auto...) {}, [](auto...) {}, [](auto...) {}, [](auto...) {}, [](auto...) {}};
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
  ::close(std::exchange(listener_, -1));
  for (const auto& [id, s] : sessions_) {
    if (s->at != stage::up) {
      s->dead = s->at != stage::draining;
      continue;
    }
    s->wire.write_frame(control_kind::goodbye, {});
    drain(*s);
  }
}

}  // namespace isthmus
