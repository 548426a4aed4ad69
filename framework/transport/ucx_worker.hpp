#pragma once

#include "framework/core/expected.hpp"

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

/// A UCX worker for active messages over TCP on one network device, without a listener: endpoints are made from worker addresses that
/// travel some other way. Not thread-safe: one thread owns it. UCX's own types stay in the .cpp.
class ucx_worker {
public:
  using endpoint_id = std::uint64_t;

  /// Where to put the data of a message that arrives; `done(true)` runs from progress() once it is there, `done(false)` when it never
  /// will be. `owner` keeps the memory until then.
  struct place {
    std::byte* to = nullptr;
    std::shared_ptr<void> owner;
    std::function<void(bool ok)> done;
  };
  /// None drops the message. Runs inside UCX: it must not call back into the worker.
  using receive_handler = std::function<std::optional<place>(std::span<const std::byte> header, std::size_t bytes)>;

  /// Errors: environment.
  static expected<std::unique_ptr<ucx_worker>> make(const std::string& device, receive_handler receive);
  /// Force-closes endpoints and waits, for two seconds at most, until UCX has let go of every buffer.
  ~ucx_worker();
  ucx_worker(const ucx_worker&) = delete;
  ucx_worker& operator=(const ucx_worker&) = delete;

  std::span<const std::byte> address() const { return address_; }
  /// Readable when progress() has work, once arm() has said true.
  int event_fd() const { return event_fd_; }
  /// False when there is work at once.
  bool arm();
  /// True when something was done.
  bool progress();

  expected<endpoint_id> connect(std::span<const std::byte> peer_address);
  /// header and owner live until UCX is through with them. A failure shows in take_failed().
  void send(endpoint_id to, std::vector<std::byte> header, std::shared_ptr<const void> owner, std::span<const std::byte> data);
  /// By force, at once; what was under way is cancelled.
  void close(endpoint_id endpoint);
  /// Endpoints that failed since the last call; close them.
  std::vector<endpoint_id> take_failed();

private:
  struct endpoint;
  struct send_context;
  struct receive_context;
  struct callbacks;
  struct closing;
  ucx_worker() = default;
  expected<void> open(const std::string& device);
  void run_finished();

  receive_handler receive_;
  ucp_context* context_ = nullptr;
  ucp_worker* worker_ = nullptr;
  int event_fd_ = -1;
  std::vector<std::byte> address_;
  std::map<endpoint_id, std::unique_ptr<endpoint>> endpoints_;
  std::vector<closing> closing_;
  std::vector<endpoint_id> failed_;
  std::vector<std::pair<std::function<void(bool)>, bool>> finished_;  // receives whose callback waits for progress()
  std::uint64_t next_id_ = 1;
  std::size_t outstanding_ = 0;  // requests UCX holds buffers of
};

/// Puts the settings that UCX needs here into the environment where they are not set: see docs/wire.md.
void set_ucx_environment();

}  // namespace isthmus
