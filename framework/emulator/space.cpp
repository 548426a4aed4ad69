#include "framework/emulator/space.hpp"

#include "framework/emulator/packet.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <thread>

namespace isthmus::emulator {

namespace {

constexpr const char* device_name = "isthmus0";
constexpr int mtu = 1500;
constexpr std::uint32_t netmask = 0xffff0000;

unexpected failed(const std::string& what) { return fail(errc::environment, what + ": " + std::strerror(errno)); }

ifreq named(const char* device) {
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  return request;
}

ifreq with_address(std::uint32_t address) {
  ifreq request = named(device_name);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(address);
  std::memcpy(&request.ifr_addr, &where, sizeof where);
  return request;
}

bool bring_up(int socket, const char* device) {
  ifreq request = named(device);
  if (::ioctl(socket, SIOCGIFFLAGS, &request) != 0) return false;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP | IFF_RUNNING);
  return ::ioctl(socket, SIOCSIFFLAGS, &request) == 0;
}

/// Leaves this thread in a namespace of its own.
expected<network_space> make_here(std::uint32_t address) {
  if (::unshare(CLONE_NEWNET) != 0) return failed("cannot make a network namespace");
  network_space made{descriptor(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)),
                     descriptor(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK))};
  if (made.space.get() < 0) return failed("cannot open a network namespace");
  if (made.tun.get() < 0) return failed("cannot open /dev/net/tun");
  ifreq tun = named(device_name);
  tun.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (::ioctl(made.tun.get(), TUNSETIFF, &tun) != 0) return failed("cannot make a TUN device");
  const descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq own = with_address(address), mask = with_address(netmask), size = named(device_name);
  size.ifr_mtu = mtu;
  const bool set = ::ioctl(socket.get(), SIOCSIFADDR, &own) == 0 && ::ioctl(socket.get(), SIOCSIFNETMASK, &mask) == 0 &&
                   ::ioctl(socket.get(), SIOCSIFMTU, &size) == 0 && bring_up(socket.get(), device_name) && bring_up(socket.get(), "lo");
  if (!set) return failed("cannot set up a TUN device");
  return made;
}

bool write_text(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good();
}

}  // namespace

expected<network_space> make_space(std::uint32_t address) {
  std::optional<expected<network_space>> made;
  std::thread([&] { made = make_here(address); }).join();  // a thread that ends there: this one stays where it is
  return std::move(*made);
}

expected<void> enter_space(int space) {
  if (::setns(space, CLONE_NEWNET) != 0) return failed("cannot enter the network namespace");
  if (::unshare(CLONE_NEWNS) != 0) return failed("cannot make a mount namespace");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return failed("cannot keep mounts to this process");
  if (::mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0) return failed("cannot mount /sys");  // it shows the devices of its namespace
  return {};
}

expected<void> become_root_somewhere() {
  const auto user = ::geteuid();
  const auto group = ::getegid();
  if (user == 0) return {};
  if (::unshare(CLONE_NEWUSER) != 0) return failed("cannot make a user namespace");
  const bool mapped = write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/uid_map", "0 " + std::to_string(user) + " 1") &&
                      write_text("/proc/self/gid_map", "0 " + std::to_string(group) + " 1");
  if (!mapped) return failed("cannot become root of a user namespace");
  return {};
}

}  // namespace isthmus::emulator
