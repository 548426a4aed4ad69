#include "framework/transport/join.hpp"
#include "tests/fuzz/targets.hpp"

#include <algorithm>

namespace isthmus::fuzz {

namespace {

secret secret_of(unsigned number) {
  secret out;
  for (std::size_t i = 0; i < secret::size; ++i) out.bytes()[i] = static_cast<std::byte>(number * 11 + i);
  return out;
}

struct ends {
  identity of_desk = identity::of(secret_of(1)), of_newcomer = identity::of(secret_of(2)), once = identity::of(secret_of(3));
  secret token = secret_of(4);
  join_caller caller{"fuzz", of_desk.key(), token, of_newcomer.key(), once};
  join_desk desk{of_desk, "fuzz"};
};

expected<void> refusal() { return fail(errc::refused, "used before"); }

}  // namespace

recorded_join record_join() {
  ends one, other;
  must(one.desk.read(one.caller.request()).has_value() && other.desk.read(one.caller.request()).has_value(), "a request of our own");
  return {one.caller.request(), one.desk.answer({}), other.desk.answer(refusal())};
}

void joins(input bytes) {
  if (bytes.empty()) return;
  const auto message = bytes.subspan(1);
  ends e;
  if (bytes[0] == std::byte{0}) {
    const auto claim = e.desk.read(message);
    must(claim.has_value() == std::ranges::equal(message, e.caller.request()), "a request is read that nobody made, or a good one is not");
    if (claim) must(claim->token == hash_of_token(e.token) && claim->newcomer == e.of_newcomer.key(), "a claim is what was claimed");
    return;
  }
  const auto heard = e.caller.read_answer(message);
  const auto good = record_join();
  must(heard.has_value() == std::ranges::equal(message, good.entered), "an answer is believed that nobody gave, or a good one is not");
  if (!heard && heard.error().code == errc::refused)
    must(std::ranges::equal(message, good.refused), "a refusal is believed that nobody gave");
}

}  // namespace isthmus::fuzz
