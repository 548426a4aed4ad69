#include "framework/transport/wire_site.hpp"

#include <utility>

namespace isthmus {

void wire_site::open_conversation(session& s) {
  s.at = stage::greeting;
  if (!options_.keys) return s.carries != 0 ? claim_link(s) : greet(s);
  s.at = stage::shaking;
  s.handshake = std::make_unique<handshake_state>();
  s.handshake->calling = std::make_unique<caller>(*options_.keys, options_.hello.run_id, options_.hello.site, s.peer);
  const auto hello = s.handshake->calling->hello();
  if (!hello) return broken(s, hello.error());
  s.wire.write_frame(control_kind::hello, *hello);
}

void wire_site::on_handshake(session& s, const control_frame& f) {
  auto ok = expected<void>(
      fail(errc::malformed, "a control frame of kind " + std::to_string(static_cast<int>(f.kind)) + " where the handshake belongs"));
  if (f.kind == control_kind::answer && s.dialled) ok = take_answer(s, f.body);
  if (f.kind == control_kind::hello && !s.dialled && !s.handshake) ok = take_hello(s, f.body);
  if (f.kind == control_kind::confirm && !s.dialled && s.handshake) ok = take_confirm(s, f.body);
  if (!ok) refuse(s, ok.error());
}

expected<void> wire_site::take_hello(session& s, std::span<const std::byte> body) {
  // All that is kept for who has shown no key yet, with 104 bytes that the seal hides, and a frame of 77 bytes either way.
  static_assert(sizeof(session) + sizeof(handshake_state) + sizeof(answerer) + sizeof(stream_seal) + 104 + 2 * 77 <= 1024);
  if (!limits_.may_shake(s.remote.host(), time_.now()))
    return fail(errc::timed_out, "handshake: too many from this address come to nothing");
  auto h = std::make_unique<handshake_state>();
  h->called = std::make_unique<answerer>(*options_.keys, options_.hello.run_id, options_.hello.site);
  if (const auto ok = h->called->take_hello(body); !ok) return ok;
  h->seal = std::make_unique<stream_seal>(h->called->secrets().control_out);
  s.wire.write_frame(control_kind::answer, h->called->answer(h->seal->header()));
  s.handshake = std::move(h);
  return {};
}

expected<void> wire_site::take_confirm(session& s, std::span<const std::byte> body) {
  handshake_state& h = *s.handshake;
  const auto header = h.called->take_confirm(body);
  if (!header) return header.failure();
  limits_.shook(s.remote.host());
  s.peer = h.called->peer();
  link_secrets secrets = h.called->secrets();
  h.seal->begin_reading(secrets.control_in, *header);
  seal(s, std::move(secrets));
  return {};
}

expected<void> wire_site::take_answer(session& s, std::span<const std::byte> body) {
  handshake_state& h = *s.handshake;
  const auto header = h.calling->take_answer(body);
  if (!header) return header.failure();
  link_secrets secrets = h.calling->secrets();
  h.seal = std::make_unique<stream_seal>(secrets.control_out);
  h.seal->begin_reading(secrets.control_in, *header);
  s.wire.write_frame(control_kind::confirm, h.calling->confirm(h.seal->header()));
  seal(s, std::move(secrets));
  if (s.carries != 0)
    claim_link(s);
  else
    greet(s);
  return {};
}

/// From here on the peer is who the roster says.
void wire_site::seal(session& s, link_secrets secrets) {
  s.sealer = std::make_unique<chunk_sealer>(std::move(secrets.bulk_out));
  s.opener = std::make_unique<chunk_opener>(std::move(secrets.bulk_in));
  s.wire.seal(std::move(s.handshake->seal));
  s.handshake.reset();
  s.at = stage::greeting;
}

/// Sealed, whoever is refused again and again is told of once a minute: a site by its name, a stranger by its address.
void wire_site::log_refused(const session& s, const error& why, const std::string& what) {
  const std::string text = s.remote.text() + " " + what + ": " + std::string(describe(why.code)) + ": " + why.message;
  if (!options_.keys) return log(text);
  const std::string who = is_stranger(s) ? call_limits::caller_of(s.remote.host()) : name_of(s.peer);
  if (const auto line = limits_.line(who, why.code, text, time_.now())) log(*line);
}

}  // namespace isthmus
