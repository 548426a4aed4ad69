#include "tests/framework/transport/middleman.hpp"

#include "framework/core/error.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace isthmus::testing {

middleman::middleman(const std::string& to, meddle change) : change_(std::move(change)), to_(*parse_address(to)) {
  own_ = *parse_address("127.0.0.1:0");
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  ensure(::bind(listener_, own_.get(), own_.size) == 0 && ::listen(listener_, 4) == 0, "middleman: listen");
  own_.size = sizeof own_.storage;
  ensure(::getsockname(listener_, reinterpret_cast<sockaddr*>(&own_.storage), &own_.size) == 0, "middleman: address");
  thread_ = std::thread([this] { work(); });
}

middleman::~middleman() {
  ended_ = true;
  thread_.join();
  ::close(listener_);
}

std::vector<std::byte> middleman::said(from side) {
  const std::lock_guard lock(mutex_);
  return said_[side == from::caller ? 0 : 1];
}

void middleman::work() {
  while (!ended_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (::poll(&waiting, 1, 10) <= 0) continue;
    const int inward = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (inward < 0) continue;
    hand_on(inward);
    ::close(inward);
    ++connections_;
  }
}

void middleman::hand_on(int inward) {
  const int outward = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool open = ::connect(outward, to_.get(), to_.size) == 0;
  {
    const std::lock_guard lock(mutex_);
    said_[0].clear();
    said_[1].clear();
  }
  cut_ = false;
  std::array<pollfd, 2> sockets{pollfd{inward, POLLIN, 0}, pollfd{outward, POLLIN, 0}};
  std::array<std::byte, 4096> chunk;
  while (open && !ended_ && !cut_) {
    if (::poll(sockets.data(), sockets.size(), 10) <= 0) continue;
    for (std::size_t i = 0; i < 2 && open; ++i) {
      if (sockets[i].revents == 0) continue;
      const auto n = ::recv(sockets[i].fd, chunk.data(), chunk.size(), 0);
      open = n > 0;
      if (!open) break;
      passing one{connections_, i == 0 ? from::caller : from::called, 0, {chunk.begin(), chunk.begin() + n}};
      {
        const std::lock_guard lock(mutex_);
        one.offset = said_[i].size();
        said_[i].insert(said_[i].end(), one.bytes.begin(), one.bytes.end());
      }
      change_(one);
      [[maybe_unused]] const auto sent = ::send(sockets[1 - i].fd, one.bytes.data(), one.bytes.size(), MSG_NOSIGNAL);
    }
  }
  ::close(outward);
}

}  // namespace isthmus::testing
