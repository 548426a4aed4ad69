#include "framework/transport/ucx_transport.hpp"

#include "framework/transport/chunk_header.hpp"
#include "framework/transport/wire_site.hpp"
#include "framework/wire/wire.hpp"

#include <thread>
#include <utility>

namespace isthmus {

namespace {

class ucx_transport final : public transport {
public:
  ucx_transport(ucx_transport_options options, const clock& time) : self_(options.hello.site), site_(std::move(options), time) {}
  ~ucx_transport() override { stop(); }

  expected<void> open() { return site_.open(); }

  void start(transport_events events) override {
    ensure(!thread_.joinable(), "ucx_transport: started twice");
    thread_ = std::thread([this, e = std::move(events)]() mutable { site_.run(std::move(e)); });
  }
  void keep(site_id peer, const std::string& address) override {
    ensure(peer != self_, "ucx_transport: a site has no link to itself");
    site_.post([this, peer, address] { site_.keep(peer, address); });
  }
  void forget(site_id peer) override {
    site_.post([this, peer] { site_.forget(peer); });
  }
  void close(site_id peer, error reason) override {
    site_.post([this, peer, why = std::move(reason)] { site_.close(peer, why); });
  }
  void send_control(site_id peer, shared_bytes bytes) override {
    ensure(bytes && bytes->size() <= wire::control_bytes_max, "ucx_transport: a control message is at most 1 MiB");
    site_.post([this, peer, b = std::move(bytes)] { site_.send_control(peer, b); });
  }
  void send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload) override {
    if (!payload) payload = make_shared_bytes({});
    ensure(header && header->size() <= bulk_header_bytes_max, "ucx_transport: a bulk header is at most 1 KiB");
    site_.post([this, peer, id, h = std::move(header), p = std::move(payload)] { site_.send_bulk(peer, id, h, p); });
  }
  link_counters counters(site_id peer) const override { return site_.counters(peer); }
  std::string address() const override { return site_.address(); }
  void stop() override {
    if (!thread_.joinable()) return;
    ensure(thread_.get_id() != std::this_thread::get_id(), "ucx_transport: stopped from one of its own events");
    site_.post([this] { site_.stop(); });
    thread_.join();
  }

private:
  site_id self_;
  wire_site site_;
  std::thread thread_;
};

expected<void> check(const ucx_transport_options& o) {
  if (o.endpoints < 1 || o.endpoints > 16) return fail(errc::usage, "transport: endpoints is " + std::to_string(o.endpoints) + "; 1 to 16");
  if (o.chunk_bytes < chunk_bytes_min || o.chunk_bytes > chunk_bytes_most)
    return fail(errc::usage, "transport: chunk_bytes is " + std::to_string(o.chunk_bytes) + "; 65536 to 4194304");
  if (o.window_bytes < o.chunk_bytes)
    return fail(errc::usage,
                "transport: window_bytes is " + std::to_string(o.window_bytes) + ", less than a chunk of " + std::to_string(o.chunk_bytes));
  if (o.incoming_bytes_max < o.transfer_bytes_max)
    return fail(errc::usage, "transport: incoming_bytes_max is less than transfer_bytes_max");
  if (o.hello.run_id.empty() || o.hello.run_id.size() > 256) return fail(errc::usage, "transport: a run id has 1 to 256 bytes");
  return {};
}

}  // namespace

expected<std::unique_ptr<transport>> make_ucx_transport(ucx_transport_options options, const clock& time) {
  if (const auto ok = check(options); !ok) return ok.failure();
  auto made = std::make_unique<ucx_transport>(std::move(options), time);
  if (const auto ok = made->open(); !ok) return ok.failure();
  return std::unique_ptr<transport>(std::move(made));
}

}  // namespace isthmus
