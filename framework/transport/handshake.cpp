#include "framework/transport/handshake.hpp"

#include "framework/transport/byte_io.hpp"
#include "framework/transport/greeting.hpp"

#include <sodium.h>

#include <algorithm>
#include <utility>

namespace isthmus {

namespace {

constexpr std::string_view protocol = "isthmus handshake 1: IK, X25519, ChaCha20-Poly1305, BLAKE2b";
constexpr std::uint32_t hello_magic = 0x31485349;  // "ISH1"
constexpr std::size_t tag_bytes = transcript::tag_bytes, sealed_site_bytes = sizeof(site_id) + tag_bytes;
static_assert(hello_bytes == 4 + 32 + sealed_site_bytes + tag_bytes);
static_assert(answer_bytes == 32 + stream_header_bytes + tag_bytes && confirm_bytes == stream_header_bytes + tag_bytes);
static_assert(stream_header_bytes == crypto_secretstream_xchacha20poly1305_HEADERBYTES);

/// X25519; false when the public key is none.
bool agree(const secret& ours, const public_key& theirs, secret& shared) {
  return crypto_scalarmult(shared.raw(), ours.raw(), reinterpret_cast<const unsigned char*>(theirs.data())) == 0;
}

/// What both ends must hold alike before a word is said: run, and who is called.
transcript begin(const std::string& run_id, site_id called, const public_key& called_key) {
  byte_writer known;
  known.text(run_id);
  known.number(called);
  known.raw(called_key);
  transcript said(protocol);
  said.add(known.bytes());
  return said;
}

public_key key_of(byte_reader& in) {
  public_key key{};
  const auto bytes = in.raw(key.size());
  std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

std::array<std::byte, sizeof(site_id)> bytes_of(site_id site) {
  std::array<std::byte, sizeof(site_id)> out;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(site >> (8 * i));
  return out;
}

/// Directions are named by who dialled.
link_secrets derive_all(const transcript& said, bool dialled) {
  secret control_there = said.derive("control, caller to called"), control_back = said.derive("control, called to caller");
  secret bulk_there = said.derive("bulk, caller to called"), bulk_back = said.derive("bulk, called to caller");
  if (dialled) return {std::move(control_there), std::move(control_back), std::move(bulk_there), std::move(bulk_back)};
  return {std::move(control_back), std::move(control_there), std::move(bulk_back), std::move(bulk_there)};
}

}  // namespace

ephemeral ephemeral::of(secret key) {
  start_sodium();
  ephemeral made;
  made.key = std::move(key);
  crypto_scalarmult_base(reinterpret_cast<unsigned char*>(made.name.data()), made.key.raw());
  return made;
}

ephemeral ephemeral::draw() {
  start_sodium();
  secret key;
  randombytes_buf(key.raw(), secret::size);
  return of(std::move(key));
}

caller::caller(const link_keys& keys, const std::string& run_id, site_id self, site_id peer, ephemeral mine)
    : keys_(keys), self_(self), mine_(std::move(mine)), said_(protocol) {
  const auto found = keys.roster.find(peer);
  if (found == keys.roster.end()) return;  // hello() tells
  theirs_ = found->second;
  said_ = begin(run_id, peer, found->second);
}

expected<std::vector<std::byte>> caller::hello() {
  secret shared;
  if (!theirs_) return fail(errc::refused, "handshake: the roster has no key of the site that is called");
  byte_writer front;
  front.number(hello_magic);
  front.raw(mine_.name);
  auto out = front.take();
  said_.add(mine_.name);
  if (!agree(mine_.key, *theirs_, shared)) return fail(errc::refused, "handshake: the roster's key of the site that is called is no key");
  said_.mix(shared);
  said_.seal(bytes_of(self_), out);
  said_.add(keys_.own.key());
  if (!keys_.own.agree(*theirs_, shared)) return fail(errc::refused, "handshake: the roster's key of the site that is called is no key");
  said_.mix(shared);
  said_.seal({}, out);
  return out;
}

expected<stream_header> caller::take_answer(std::span<const std::byte> bytes) {
  const auto refused = [] {
    return fail(errc::refused, "handshake: the answer does not open: another key, another run, or changed on its way");
  };
  if (bytes.size() != answer_bytes) return refused();
  byte_reader in(bytes);
  const public_key name = key_of(in);
  said_.add(name);
  secret shared;
  if (!agree(mine_.key, name, shared)) return refused();
  said_.mix(shared);
  if (!keys_.own.agree(name, shared)) return refused();
  said_.mix(shared);
  said_.split();
  stream_header header;
  if (!said_.open(in.raw(stream_header_bytes + tag_bytes), header)) return refused();
  return header;
}

link_secrets caller::secrets() const { return derive_all(said_, true); }

std::vector<std::byte> caller::confirm(const stream_header& ours) {
  std::vector<std::byte> out;
  said_.seal(ours, out);
  return out;
}

answerer::answerer(const link_keys& keys, const std::string& run_id, site_id self)
    : keys_(keys), said_(begin(run_id, self, keys.own.key())) {}

expected<void> answerer::take_hello(std::span<const std::byte> bytes, ephemeral mine) {
  byte_reader in(bytes);
  if (bytes.size() != hello_bytes || in.number<std::uint32_t>() != hello_magic)
    return fail(errc::malformed, "handshake: " + std::to_string(bytes.size()) + " bytes that are no hello of this version");
  const auto refused = [](const std::string& why) { return fail(errc::refused, "handshake: " + why); };
  const std::string unopened = "the hello does not open: another key, another run, or changed on its way";
  const public_key name = key_of(in);
  said_.add(name);
  secret shared;
  if (!keys_.own.agree(name, shared)) return refused("a key that is none");
  said_.mix(shared);
  std::array<std::byte, sizeof(site_id)> site;
  if (!said_.open(in.raw(sealed_site_bytes), site)) return refused(unopened);
  peer_ = byte_reader(site).number<site_id>();
  const auto found = keys_.roster.find(peer_);
  if (found == keys_.roster.end()) return refused(name_of(peer_) + " is not in the roster");
  said_.add(found->second);
  if (!keys_.own.agree(found->second, shared)) return refused("the roster's key of " + name_of(peer_) + " is no key");
  said_.mix(shared);
  if (!said_.open(in.raw(tag_bytes), {})) return refused("who says it is " + name_of(peer_) + " does not have its key");
  mine_ = mine.name;
  said_.add(mine_);
  if (!agree(mine.key, name, shared)) return refused("a key that is none");
  said_.mix(shared);
  if (!agree(mine.key, found->second, shared)) return refused("the roster's key of " + name_of(peer_) + " is no key");
  said_.mix(shared);
  said_.split();
  return {};
}

link_secrets answerer::secrets() const { return derive_all(said_, false); }

std::vector<std::byte> answerer::answer(const stream_header& ours) {
  std::vector<std::byte> out(mine_.begin(), mine_.end());
  said_.seal(ours, out);
  return out;
}

expected<stream_header> answerer::take_confirm(std::span<const std::byte> bytes) {
  stream_header header;
  if (bytes.size() != confirm_bytes || !said_.open(bytes, header))
    return fail(errc::refused, "handshake: the last message does not open: a replay, or changed on its way");
  return header;
}

}  // namespace isthmus
