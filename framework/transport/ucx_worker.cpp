#include "framework/transport/ucx_worker.hpp"

#include "framework/core/buffer.hpp"
#include "framework/transport/port_guard.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr unsigned chunk_message = 1;  // active message id

unexpected ucx_failure(const std::string& what, ucs_status_t status) {
  return fail(errc::environment, "UCX: " + what + ": " + ucs_status_string(status));
}

expected<std::vector<std::byte>> address_of(ucp_worker* worker) {
  ucp_address_t* address = nullptr;
  std::size_t bytes = 0;
  if (const auto status = ucp_worker_get_address(worker, &address, &bytes); status != UCS_OK) return ucx_failure("no address", status);
  const auto* begin = reinterpret_cast<const std::byte*>(address);
  std::vector<std::byte> copy(begin, begin + bytes);
  ucp_worker_release_address(worker, address);
  return copy;
}

}  // namespace

struct ucx_worker::endpoint {
  ucx_worker* owner = nullptr;
  endpoint_id id = 0;
  ucp_ep_h handle = nullptr;
};

struct ucx_worker::closing {
  void* request;  // null: closed at once
  std::unique_ptr<endpoint> one;
};

struct ucx_worker::send_context {
  ucx_worker* worker;
  std::vector<std::byte> header;
  std::shared_ptr<const void> owner;
};

struct ucx_worker::receive_context {
  ucx_worker* worker;
  place into;
};

/// What UCX calls, always from inside progress() or a send.
struct ucx_worker::callbacks {
  static void endpoint_failed(void* argument, ucp_ep_h, ucs_status_t) {
    auto* e = static_cast<endpoint*>(argument);
    e->owner->failed_ = true;  // closed later: never in here
  }

  static void sent(void* request, ucs_status_t status, void* user) {
    const std::unique_ptr<send_context> context(static_cast<send_context*>(user));
    --context->worker->outstanding_;
    if (status != UCS_OK) context->worker->failed_ = true;
    ucp_request_free(request);
  }

  static void received(void* request, ucs_status_t status, std::size_t, void* user) {
    const std::unique_ptr<receive_context> context(static_cast<receive_context*>(user));
    --context->worker->outstanding_;
    context->worker->finished_.emplace_back(std::move(context->into.done), status == UCS_OK);
    ucp_request_free(request);
  }

  /// Data that is not there yet comes to memory of its own first.
  static place opened_later(place into, std::size_t bytes) {
    const auto arriving = std::make_shared<buffer>(bytes);
    return {arriving->data(), arriving, [into = std::move(into), arriving](bool ok) { into.done(ok && into.open(arriving->bytes())); }, {}};
  }

  static ucs_status_t message(void* argument, const void* header, std::size_t header_bytes, void* data, std::size_t bytes,
                              const ucp_am_recv_param_t* param) {
    auto& worker = *static_cast<ucx_worker*>(argument);
    auto into = worker.receive_(std::span(static_cast<const std::byte*>(header), header_bytes), bytes);
    if (!into) return UCS_OK;  // dropped
    if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0) {
      bool ok = true;
      if (into->open)
        ok = into->open(std::span(static_cast<const std::byte*>(data), bytes));
      else if (bytes > 0)
        std::memcpy(into->to, data, bytes);
      worker.finished_.emplace_back(std::move(into->done), ok);
      return UCS_OK;
    }
    if (into->open) into = opened_later(std::move(*into), bytes);
    auto context = std::make_unique<receive_context>(receive_context{&worker, std::move(*into)});
    ucp_request_param_t request{};
    request.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    request.cb.recv_am = received;
    request.user_data = context.get();
    const ucs_status_ptr_t started = ucp_am_recv_data_nbx(worker.worker_, data, context->into.to, bytes, &request);
    if (UCS_PTR_IS_PTR(started)) {
      ++worker.outstanding_;
      context.release();  // received() takes it back
      return UCS_INPROGRESS;
    }
    worker.finished_.emplace_back(std::move(context->into.done), started == nullptr);
    return UCS_OK;
  }
};

expected<std::unique_ptr<ucx_context>> ucx_context::make(const std::string& device, std::span<const std::byte> host,
                                                         const std::string& data_ports) {
  // Ports in a narrow range are alike in bytes that differ between peers: the form is learnt with any ports.
  std::unique_ptr<ucx_context> any_ports;
  if (!data_ports.empty()) {
    auto made = make(device, host);
    if (!made) return made.failure();
    any_ports = std::move(*made);
  }
  set_ucx_environment();
  set_data_ports(data_ports);
  std::unique_ptr<ucx_context> made(new ucx_context());
  ucp_config_t* config = nullptr;
  if (const auto status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) return ucx_failure("no configuration", status);
  const std::unique_ptr<ucp_config_t, void (*)(ucp_config_t*)> owner(config, ucp_config_release);
  ucp_config_modify(config, "TLS", "tcp,self");
  ucp_config_modify(config, "NET_DEVICES", device.c_str());

  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  if (const auto status = ucp_init(&params, config, &made->context_); status != UCS_OK)
    return ucx_failure("no context on device '" + device + "'", status);
  if (any_ports) {
    made->form_ = any_ports->form_;
    made->may_differ_ = any_ports->may_differ_;
    made->host_at_ = any_ports->host_at_;
    made->host_bytes_ = any_ports->host_bytes_;
  } else if (const auto ok = made->learn_address_form(host); !ok) {
    return ok.failure();
  }
  return made;
}

ucx_context::~ucx_context() {
  if (context_ != nullptr) ucp_cleanup(context_);
}

expected<void> ucx_context::learn_address_form(std::span<const std::byte> host) {
  constexpr int samples = 8;  // so many that a random byte that is alike in all of them is rarer than broken hardware
  for (int i = 0; i < samples; ++i) {
    ucp_worker_params_t params{};
    ucp_worker* other = nullptr;
    if (const auto status = ucp_worker_create(context_, &params, &other); status != UCS_OK) return ucx_failure("no worker", status);
    const auto address = address_of(other);
    ucp_worker_destroy(other);
    if (!address) return address.failure();
    if (i == 0) {
      form_ = *address;
      may_differ_.assign(form_.size(), false);
    }
    if (address->size() != form_.size()) return fail(errc::environment, "UCX: worker addresses of one device differ in length");
    for (std::size_t at = 0; at < form_.size(); ++at)
      if ((*address)[at] != form_[at]) may_differ_[at] = true;
  }
  const auto found = std::search(form_.begin(), form_.end(), host.begin(), host.end());
  if (found == form_.end()) return {};  // loopback is told apart by the network namespace instead
  host_at_ = static_cast<std::size_t>(found - form_.begin());
  host_bytes_ = host.size();
  return {};
}

bool ucx_context::check_host(std::span<const std::byte> peer_address, std::span<const std::byte> peer_host) const {
  if (host_bytes_ == 0 || peer_address.size() < host_at_ + host_bytes_) return true;
  const auto host = peer_address.subspan(host_at_, host_bytes_);
  return std::equal(host.begin(), host.end(), peer_host.begin(), peer_host.end());
}

expected<void> ucx_context::check_address(std::span<const std::byte> peer_address, std::span<const std::byte> peer_host) const {
  const auto bad = [](const std::string& why) { return fail(errc::malformed, "UCX worker address: " + why); };
  if (peer_address.size() != form_.size())
    return bad(std::to_string(peer_address.size()) + " bytes, ours has " + std::to_string(form_.size()) +
               "; both ends need the same build of UCX and the same kind of network device");
  if (!check_host(peer_address, peer_host)) return bad("it names another host than the control channel comes from");
  for (std::size_t at = 0; at < form_.size(); ++at) {
    const bool in_host = at >= host_at_ && at < host_at_ + host_bytes_;
    if (!may_differ_[at] && !in_host && peer_address[at] != form_[at])
      return bad("byte " + std::to_string(at) + " is not what the same build of UCX on the same kind of network device writes");
  }
  return {};
}

expected<std::unique_ptr<ucx_worker>> ucx_worker::make(const ucx_context& context, receive_handler receive) {
  std::unique_ptr<ucx_worker> w(new ucx_worker());
  w->receive_ = std::move(receive);
  if (const auto ok = w->open(context); !ok) return ok.failure();
  return w;
}

expected<void> ucx_worker::open(const ucx_context& context) {
  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  const auto listened_before = listening_sockets();
  if (const auto status = ucp_worker_create(context.context_, &worker_params, &worker_); status != UCS_OK)
    return ucx_failure("no worker", status);
  if (const auto status = ucp_worker_get_efd(worker_, &event_fd_); status != UCS_OK) return ucx_failure("no event descriptor", status);

  ucp_am_handler_param_t handler{};
  handler.field_mask =
      UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = chunk_message;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG;
  handler.cb = callbacks::message;
  handler.arg = this;
  if (const auto status = ucp_worker_set_am_recv_handler(worker_, &handler); status != UCS_OK) return ucx_failure("no handler", status);

  auto address = address_of(worker_);
  if (!address) return address.failure();
  address_ = std::move(*address);
  find_listeners(listened_before);
  return {};
}

/// UCX does not say which socket it listens on: it is one that came with the worker, and its port stands in the worker's address.
void ucx_worker::find_listeners(const std::vector<listening_socket>& before) {
  for (const auto& one : listening_sockets()) {
    const std::uint16_t network_order = htons(one.port);
    const auto port = std::as_bytes(std::span(&network_order, 1));
    if (std::find(before.begin(), before.end(), one) == before.end() &&
        std::search(address_.begin(), address_.end(), port.begin(), port.end()) != address_.end())
      listeners_.push_back(one.descriptor);
  }
}

expected<void> ucx_worker::admit_only(std::span<const std::span<const std::byte>> hosts) const {
  if (listeners_.empty()) return fail(errc::environment, "UCX's data port of a link was not found");
  for (const int listener : listeners_)
    if (const auto ok = admit_hosts(listener, hosts); !ok) return ok;
  return {};
}

ucx_worker::~ucx_worker() {
  if (worker_ == nullptr) return;
  close_all();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (!is_idle() && std::chrono::steady_clock::now() < until) progress();
  ucp_worker_destroy(worker_);
}

bool ucx_worker::arm() { return finished_.empty() && ucp_worker_arm(worker_) == UCS_OK; }

bool ucx_worker::progress() {
  bool any = ucp_worker_progress(worker_) != 0;
  any = any || !finished_.empty();
  run_finished();
  std::erase_if(closing_, [](const closing& c) {
    if (c.request != nullptr && ucp_request_check_status(c.request) == UCS_INPROGRESS) return false;
    if (c.request != nullptr) ucp_request_free(c.request);
    return true;
  });
  return any;
}

void ucx_worker::run_finished() {
  auto finished = std::exchange(finished_, {});
  for (auto& [done, ok] : finished) done(ok);
}

expected<ucx_worker::endpoint_id> ucx_worker::connect(std::span<const std::byte> peer_address) {
  auto e = std::make_unique<endpoint>();
  e->owner = this;
  e->id = next_id_++;
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(peer_address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = callbacks::endpoint_failed;
  params.err_handler.arg = e.get();
  if (const auto status = ucp_ep_create(worker_, &params, &e->handle); status != UCS_OK) return ucx_failure("no endpoint", status);
  const endpoint_id id = e->id;
  endpoints_.emplace(id, std::move(e));
  return id;
}

void ucx_worker::send(endpoint_id to, std::vector<std::byte> header, std::shared_ptr<const void> owner, std::span<const std::byte> data) {
  const auto found = endpoints_.find(to);
  ensure(found != endpoints_.end(), "ucx_worker: send to an endpoint that is closed");
  auto context = std::make_unique<send_context>(send_context{this, std::move(header), std::move(owner)});
  ucp_request_param_t request{};
  request.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  request.cb.send = callbacks::sent;
  request.user_data = context.get();
  const ucs_status_ptr_t started = ucp_am_send_nbx(found->second->handle, chunk_message, context->header.data(), context->header.size(),
                                                   data.data(), data.size(), &request);
  if (UCS_PTR_IS_PTR(started)) {
    ++outstanding_;
    context.release();  // sent() takes it back
  } else if (UCS_PTR_IS_ERR(started)) {
    failed_ = true;
  }
}

void ucx_worker::close_all() {
  for (auto& [id, one] : endpoints_) {
    ucp_request_param_t request{};
    request.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    request.flags = UCP_EP_CLOSE_FLAG_FORCE;
    const ucs_status_ptr_t started = ucp_ep_close_nbx(one->handle, &request);
    closing_.push_back({UCS_PTR_IS_PTR(started) ? started : nullptr, std::move(one)});
  }
  endpoints_.clear();
}

}  // namespace isthmus
