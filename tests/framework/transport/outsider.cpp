#include "tests/framework/transport/outsider.hpp"

#include "framework/core/error.hpp"
#include "framework/transport/port_guard.hpp"

#include <malloc.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <utility>

namespace isthmus::testing {

namespace {

std::size_t entries_of(const char* folder) {
  using iterator = std::filesystem::directory_iterator;
  return static_cast<std::size_t>(std::distance(iterator(folder), iterator()));
}

}  // namespace

outsider::outsider(const std::string& from) : from_(*parse_address(from + ":0")) {}

outsider::call::call(const outsider& who, const std::string& to)
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  const auto there = *parse_address(to);
  const int on = 1;
  ensure(socket_ >= 0, "outsider: no socket");
  ::setsockopt(socket_, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const linger hard{1, 0};  // ends with a reset: 10,000 ports in TIME_WAIT would be the end of the outsider, not of us
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  ensure(::bind(socket_, who.from_.get(), who.from_.size) == 0, "outsider: bind");
  [[maybe_unused]] const int begun = ::connect(socket_, there.get(), there.size);
}

outsider::call::~call() { ::close(socket_); }

void outsider::call::say(std::span<const std::byte> bytes) const {
  [[maybe_unused]] const auto n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool outsider::call::is_connected() const {
  pollfd p{socket_, POLLOUT, 0};
  return ::poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) == 0 && (p.revents & POLLOUT) != 0;
}

std::size_t outsider::call::heard() {
  std::array<std::byte, 4096> chunk;
  for (ssize_t n = 0; (n = ::recv(socket_, chunk.data(), chunk.size(), MSG_DONTWAIT)) > 0;) heard_ += static_cast<std::size_t>(n);
  return heard_;
}

outsider::call& outsider::add(const std::string& to, std::size_t open_at_most) {
  while (calls.size() >= open_at_most) {
    heard_so_far += calls.front()->heard();
    calls.pop_front();
  }
  return *calls.emplace_back(std::make_unique<call>(*this, to));
}

std::size_t outsider::leave() {
  std::size_t heard = std::exchange(heard_so_far, 0);
  for (const auto& one : calls) heard += one->heard();
  calls.clear();
  return heard;
}

resources resources_now() {
  resources now;
  now.descriptors = entries_of("/proc/self/fd");
  now.threads = entries_of("/proc/self/task");
  const auto heap = ::mallinfo2();
  now.bytes_in_use = heap.uordblks + heap.hblkhd;
  return now;
}

std::vector<std::string> listening_addresses() {
  std::vector<std::string> found;
  for (const auto& one : listening_sockets()) found.push_back("127.0.0.1:" + std::to_string(one.port));
  return found;
}

}  // namespace isthmus::testing
