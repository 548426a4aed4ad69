#include "framework/transport/wire_site.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr int accepts_in_a_row = 32;
constexpr duration accept_pause = std::chrono::milliseconds(500);

}  // namespace

void wire_site::accept_all() {
  if (stopping_) return;
  for (int i = 0; i < accepts_in_a_row; ++i) {
    socket_address from;
    from.size = sizeof from.storage;
    const int socket = ::accept4(listener_, reinterpret_cast<sockaddr*>(&from.storage), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) pause_accepting(errno);
      return;
    }
    accept_trouble_ = 0;
    make_room();
    add_session(socket, from);
  }
}

/// Whoever waits in the listener's queue keeps it readable: without a pause we would look and fail as fast as we can.
void wire_site::pause_accepting(int trouble) {
  if (std::exchange(accept_trouble_, trouble) != trouble)
    log(std::string("no connection can be accepted: ") + std::strerror(trouble) +
        (trouble == EMFILE || trouble == ENFILE ? "; raise the limit (ulimit -n)" : ""));
  listen_for_connections(false);
  accept_again_ = time_.now() + accept_pause;
}

void wire_site::listen_for_connections(bool wanted) {
  epoll_event e{};
  e.events = wanted ? std::uint32_t{EPOLLIN} : 0U;
  e.data.u64 = listener_tag;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, listener_, &e);
  accept_again_.reset();
}

/// The address that holds the most connections gives way with its oldest, so that a crowd from one keeps nobody out who calls from another;
/// where there are strangers they do, so that they keep nobody out who has shown a key.
void wire_site::make_room() {
  struct crowd {
    std::size_t connections = 0;
    session* oldest = nullptr;
  };
  std::map<std::pair<bool, std::string>, crowd> crowds;  // by whether they are strangers, and address
  std::size_t unadmitted = 0;
  for (const auto& [id, s] : sessions_)
    if (!s->dead && !s->dialled && s->at != stage::up && s->at != stage::bulk) ++unadmitted;
  if (unadmitted < options_.unadmitted_max) return;
  for (const auto& [id, s] : sessions_) {
    if (s->dead || s->dialled || s->at == stage::up || s->at == stage::bulk) continue;
    crowd& c = crowds[{is_stranger(*s), call_limits::caller_of(s->remote.host())}];
    ++c.connections;
    if (c.oldest == nullptr) c.oldest = s.get();
  }
  const auto largest = std::max_element(crowds.begin(), crowds.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.first, a.second.connections) < std::pair(b.first.first, b.second.connections);
  });
  session& gives_way = *largest->second.oldest;
  log_refused(gives_way,
              {errc::refused, "more than " + std::to_string(options_.unadmitted_max) + " connections have not said who they are"},
              "closed");
  gives_way.dead = true;
}

}  // namespace isthmus
