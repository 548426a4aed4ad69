#pragma once

#include "framework/core/expected.hpp"
#include "framework/transport/port_guard.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

struct ucp_context;
struct ucp_worker;

namespace isthmus {

/// UCX on one network device, and what a worker's address looks like there. UCX's own types stay in the .cpp.
class ucx_context {
public:
  /// `host`: our IP address on the device; data_ports: "first-last" that workers listen on, empty: any. Errors: environment.
  static expected<std::unique_ptr<ucx_context>> make(const std::string& device, std::span<const std::byte> host,
                                                     const std::string& data_ports = {});
  ~ucx_context();
  ucx_context(const ucx_context&) = delete;
  ucx_context& operator=(const ucx_context&) = delete;

  /// UCX trusts the bytes of a worker address and aborts on bad ones. So a peer's must look like ours but for what differs from worker
  /// to worker (its id, its port) and for the IP address, which must be `peer_host`. Errors: malformed.
  expected<void> check_address(std::span<const std::byte> peer_address, std::span<const std::byte> peer_host) const;

  /// Whether the address names that host, as far as addresses of this device name one.
  bool check_host(std::span<const std::byte> peer_address, std::span<const std::byte> peer_host) const;

private:
  friend class ucx_worker;
  ucx_context() = default;
  expected<void> learn_address_form(std::span<const std::byte> host);

  ucp_context* context_ = nullptr;
  std::vector<std::byte> form_;               // the address of one worker
  std::vector<bool> may_differ_;              // by byte of it
  std::size_t host_at_ = 0, host_bytes_ = 0;  // where our IP address stands in it, if it does
};

/// A UCX worker for active messages with one peer, without a listener: endpoints are made from worker addresses that travel some other
/// way. Messages are copied into UCX's own segments ("eager"), never sent by rendezvous or from our memory: UCX 1.13 runs into
/// assertions when a connection breaks with such a transfer under way. For the same reason each link has a worker of its own, whose
/// endpoints pair up with the other end's whatever became of links before. Not thread-safe: one thread owns it.
class ucx_worker {
public:
  using endpoint_id = std::uint64_t;

  /// Where to put the data of a message that arrives; `done(true)` runs from progress() once it is there, `done(false)` when it never
  /// will be. `owner` keeps the memory until then.
  struct place {
    std::byte* to = nullptr;
    std::shared_ptr<void> owner;
    std::function<void(bool ok)> done;
    /// Given: brings the data, which lies in UCX's memory, to its place itself, and says whether it was good. Not given: it is copied.
    std::function<bool(std::span<const std::byte> data)> open;
  };
  /// None drops the message. Runs inside UCX: it must not call back into the worker.
  using receive_handler = std::function<std::optional<place>(std::span<const std::byte> header, std::size_t bytes)>;

  /// Borrows the context. Errors: environment.
  static expected<std::unique_ptr<ucx_worker>> make(const ucx_context& context, receive_handler receive);
  /// Waits, for two seconds at most, until it is idle.
  ~ucx_worker();
  ucx_worker(const ucx_worker&) = delete;
  ucx_worker& operator=(const ucx_worker&) = delete;

  /// UCX listens on a port of its own for this worker: from now on the kernel lets only these hosts reach it, as in admit_hosts().
  /// Errors: environment.
  expected<void> admit_only(std::span<const std::span<const std::byte>> hosts) const;

  std::span<const std::byte> address() const { return address_; }
  /// Readable when progress() has work, once arm() has said true.
  int event_fd() const { return event_fd_; }
  /// False when there is work at once.
  bool arm();
  /// True when something was done.
  bool progress();

  /// Only with an address that was checked. Errors: environment.
  expected<endpoint_id> connect(std::span<const std::byte> peer_address);
  /// header and owner live until UCX is through with them. A failure shows in has_failed().
  void send(endpoint_id to, std::vector<std::byte> header, std::shared_ptr<const void> owner, std::span<const std::byte> data);
  /// All endpoints, by force, at once; what was under way is cancelled. Go on with progress() until is_idle().
  void close_all();
  /// UCX holds no buffer and no endpoint of ours any more: the worker may go.
  bool is_idle() const { return endpoints_.empty() && closing_.empty() && outstanding_ == 0 && finished_.empty(); }
  /// Some endpoint has failed: the link is of no use.
  bool has_failed() const { return failed_; }

private:
  struct endpoint;
  struct send_context;
  struct receive_context;
  struct callbacks;
  struct closing;
  ucx_worker() = default;
  expected<void> open(const ucx_context& context);
  void find_listeners(const std::vector<listening_socket>& before);
  void run_finished();

  receive_handler receive_;
  ucp_worker* worker_ = nullptr;
  int event_fd_ = -1;
  std::vector<int> listeners_;  // UCX's sockets of this worker
  std::vector<std::byte> address_;
  std::map<endpoint_id, std::unique_ptr<endpoint>> endpoints_;
  std::vector<closing> closing_;
  bool failed_ = false;
  std::vector<std::pair<std::function<void(bool)>, bool>> finished_;  // receives whose callback waits for progress()
  std::uint64_t next_id_ = 1;
  std::size_t outstanding_ = 0;  // requests UCX holds buffers of
};

/// Puts the settings that UCX needs here into the environment where they are not set: see docs/wire.md.
void set_ucx_environment();
/// "first-last": where workers of contexts to come listen; empty: anywhere.
void set_data_ports(const std::string& range);

}  // namespace isthmus
