#include "framework/wire/frame.hpp"

#include "framework/core/hash.hpp"

#include <cstring>
#include <variant>

namespace isthmus::wire {

namespace {

constexpr std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }  // payloads stay aligned behind a body

std::string site_name(site_id site) { return site == coordinator_id ? "the coordinator" : "site " + std::to_string(site); }

expected<void> check_origin(const frame& f, std::uint64_t run_tag, const frame_origin& from) {
  if (f.version != version)
    return fail(errc::wrong_version, "frame: wire version " + std::to_string(f.version) + ", we speak " + std::to_string(version) +
                                         "; run one build everywhere");
  if (f.run_tag != run_tag) return fail(errc::wrong_run, "frame: it belongs to another run");
  if (f.from.site != from.site)
    return fail(errc::refused, "frame: it claims to be from " + site_name(f.from.site) + " but came from " + site_name(from.site));
  if (f.from.incarnation != from.incarnation)
    return fail(errc::stale_incarnation, "frame: from incarnation " + std::to_string(f.from.incarnation) + " of " + site_name(from.site) +
                                             ", the link is with incarnation " + std::to_string(from.incarnation));
  return {};
}

expected<frame> read_from(std::uint64_t run_tag, const frame_origin& from, std::span<const std::byte> bytes) {
  auto f = read_frame(bytes);
  if (!f) return f;
  if (const auto ok = check_origin(*f, run_tag, from); !ok) return ok.failure();
  return f;
}

/// The payload without the body in front of it.
shared_bytes behind(const buffer& whole, std::size_t offset) { return make_shared_bytes(whole.bytes().subspan(offset)); }

}  // namespace

bool is_bulk(const peer_message& m) {
  return std::holds_alternative<message::contribution>(m) || std::holds_alternative<message::delta>(m) ||
         std::holds_alternative<message::state_part>(m) || std::holds_alternative<message::to_actor>(m);
}

framer::framer(std::string_view run_id, frame_origin self)
    : run_tag_(hash_bytes(std::as_bytes(std::span(run_id.data(), run_id.size()))).low), self_(self) {}

std::vector<std::byte> framer::encode(const peer_message& m) const { return write_frame({version, run_tag_, self_, 0, 0, m}); }

expected<peer_message> framer::decode(const frame_origin& from, std::span<const std::byte> bytes) const {
  auto f = read_from(run_tag_, from, bytes);
  if (!f) return f.failure();
  if (f->body_in_front > 0) return fail(errc::malformed, "frame: its body is elsewhere");
  return std::move(f->body);
}

outgoing framer::pack(const envelope& e) const {
  if (!is_bulk(e.body)) {
    const auto bytes = encode(e.body);
    ensure(bytes.size() <= control_bytes_max, "wire: a control message is larger than control_bytes_max");
    return {false, make_shared_bytes(bytes), nullptr};
  }
  const shared_bytes payload = e.payload ? e.payload : make_shared_bytes({});
  const auto header = write_frame({version, run_tag_, self_, payload->size(), 0, e.body});
  if (header.size() <= header_bytes_max) return {true, make_shared_bytes(header), payload};

  ensure(header.size() <= body_bytes_max, "wire: a message's body is larger than body_bytes_max");
  const std::size_t offset = round_up(header.size());
  auto whole = std::make_shared<buffer>(offset + payload->size());
  std::memcpy(whole->data(), header.data(), header.size());
  if (payload->size() > 0) std::memcpy(whole->data() + offset, payload->data(), payload->size());
  const auto body_bytes = static_cast<std::uint32_t>(header.size());
  return {true, make_shared_bytes(write_frame({version, run_tag_, self_, whole->size(), body_bytes, {}})), whole};
}

expected<envelope> framer::unpack_control(const frame_origin& from, std::span<const std::byte> bytes) const {
  if (bytes.size() > control_bytes_max)
    return fail(errc::too_large, "frame: a control message of " + std::to_string(bytes.size()) + " bytes; at most 1 MiB is allowed");
  auto m = decode(from, bytes);
  if (!m) return m.failure();
  if (is_bulk(*m)) return fail(errc::malformed, "frame: a message with a payload came on the control path");
  return envelope{std::move(*m), nullptr};
}

expected<envelope> framer::unpack_bulk(const frame_origin& from, std::span<const std::byte> header, shared_bytes payload) const {
  if (header.size() > header_bytes_max)
    return fail(errc::too_large, "frame: a bulk header of " + std::to_string(header.size()) + " bytes; at most 1024 are allowed");
  if (!payload) payload = make_shared_bytes({});
  auto f = read_from(run_tag_, from, header);
  if (!f) return f.failure();
  if (f->payload_bytes != payload->size())
    return fail(payload->size() < f->payload_bytes ? errc::truncated : errc::malformed,
                "frame: a payload of " + std::to_string(payload->size()) + " bytes, its header names " + std::to_string(f->payload_bytes));
  if (const std::size_t body_bytes = f->body_in_front; body_bytes > 0) {
    const std::size_t offset = round_up(body_bytes);
    if (body_bytes > body_bytes_max) return fail(errc::too_large, "frame: a body in front of its payload of more than 8 MiB");
    if (offset > payload->size()) return fail(errc::truncated, "frame: its body is longer than its payload");
    f = read_from(run_tag_, from, payload->bytes().first(body_bytes));
    if (!f) return f.failure();
    if (f->body_in_front > 0) return fail(errc::malformed, "frame: a body in front of a body in front");
    if (f->payload_bytes != payload->size() - offset) return fail(errc::malformed, "frame: header and body name different payload lengths");
    payload = behind(*payload, offset);
  }
  if (!is_bulk(f->body)) return fail(errc::malformed, "frame: a message without a payload came on the bulk path");
  return envelope{std::move(f->body), std::move(payload)};
}

}  // namespace isthmus::wire
