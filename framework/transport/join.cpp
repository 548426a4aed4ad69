#include "framework/transport/join.hpp"

#include "framework/transport/greeting.hpp"

#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace isthmus {

namespace {

constexpr std::string_view protocol = "isthmus join 1: NK, X25519, ChaCha20-Poly1305, BLAKE2b";
constexpr std::array<std::byte, 4> front{std::byte{'I'}, std::byte{'S'}, std::byte{'J'}, std::byte{'1'}};
constexpr std::size_t claim_bytes = 64, answer_plain_bytes = join_answer_bytes - transcript::tag_bytes;

transcript begin(const std::string& run_id, const public_key& desk) {
  transcript said(protocol);
  said.add(std::as_bytes(std::span(run_id.data(), run_id.size())));
  said.add(desk);
  return said;
}

}  // namespace

token_hash hash_of_token(const secret& token) {
  start_sodium();
  token_hash hash{};
  crypto_generichash(reinterpret_cast<unsigned char*>(hash.data()), hash.size(), token.raw(), secret::size, nullptr, 0);
  return hash;
}

secret draw_token() {
  start_sodium();
  secret token;
  randombytes_buf(token.raw(), secret::size);
  return token;
}

std::string token_text(const secret& token) {
  std::string hex(2 * secret::size + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), token.raw(), secret::size);
  hex.pop_back();
  return hex;
}

expected<secret> parse_token(std::string_view hex) {
  secret token;
  std::size_t bytes = 0;
  if (hex.size() != 2 * secret::size || sodium_hex2bin(token.raw(), secret::size, hex.data(), hex.size(), nullptr, &bytes, nullptr) != 0 ||
      bytes != secret::size)
    return fail(errc::malformed, "a token is 64 hexadecimal digits");
  return token;
}

join_caller::join_caller(const std::string& run_id, const public_key& desk, const secret& token, const public_key& newcomer,
                         const identity& once)
    : said_(begin(run_id, desk)) {
  secret shared;
  if (!once.agree(desk, shared)) return;
  said_.add(once.key());
  said_.mix(shared);
  request_.insert(request_.end(), front.begin(), front.end());
  request_.insert(request_.end(), once.key().begin(), once.key().end());
  std::array<std::byte, claim_bytes> claim{};
  std::copy_n(token.bytes().begin(), secret::size, claim.begin());
  std::copy_n(newcomer.begin(), newcomer.size(), claim.begin() + secret::size);
  said_.seal(claim, request_);
  sodium_memzero(claim.data(), claim.size());
}

expected<void> join_caller::read_answer(std::span<const std::byte> bytes) {
  if (bytes.size() != join_answer_bytes)
    return fail(errc::malformed,
                "join: an answer of " + std::to_string(bytes.size()) + " bytes; it has " + std::to_string(join_answer_bytes));
  std::array<std::byte, answer_plain_bytes> plain{};
  if (!said_.open(bytes, plain)) return fail(errc::checksum_mismatch, "join: the answer is not from whom the token names");
  if (plain[0] == std::byte{1}) return {};
  const auto why = read_reason(
      std::span<const std::byte>(plain).subspan(2, std::min<std::size_t>(static_cast<std::size_t>(plain[1]), answer_plain_bytes - 2)));
  return fail(errc::refused, "join: " + why.message);
}

join_desk::join_desk(const identity& own, const std::string& run_id) : own_(own), said_(begin(run_id, own.key())) {}

expected<join_desk::claim> join_desk::read(std::span<const std::byte> request) {
  if (request.size() != join_request_bytes || !std::equal(front.begin(), front.end(), request.begin()))
    return fail(errc::malformed, "join: this is no request; one has " + std::to_string(join_request_bytes) + " bytes and begins with ISJ1");
  public_key once{};
  std::copy_n(request.begin() + front.size(), once.size(), once.begin());
  secret shared;
  if (!own_.agree(once, shared)) return fail(errc::malformed, "join: the key of the request is none");
  said_.add(once);
  said_.mix(shared);
  std::array<std::byte, claim_bytes> plain{};
  if (!said_.open(request.subspan(front.size() + once.size()), plain))
    return fail(errc::checksum_mismatch, "join: the request is of another run, or sealed for another key");
  secret token;
  claim found{};
  std::copy_n(plain.begin(), secret::size, token.bytes().begin());
  std::copy_n(plain.begin() + secret::size, found.newcomer.size(), found.newcomer.begin());
  sodium_memzero(plain.data(), plain.size());
  found.token = hash_of_token(token);
  return found;
}

std::vector<std::byte> join_desk::answer(const expected<void>& outcome) {
  std::array<std::byte, answer_plain_bytes> plain{};
  plain[0] = outcome ? std::byte{1} : std::byte{2};
  if (!outcome) {
    const auto why = write_reason({outcome.error().code, outcome.error().message.substr(0, 240)});
    plain[1] = static_cast<std::byte>(why.size());
    std::copy(why.begin(), why.end(), plain.begin() + 2);
  }
  std::vector<std::byte> sealed;
  said_.seal(plain, sealed);
  return sealed;
}

}  // namespace isthmus
