#include "framework/transport/chunk_seal.hpp"
#include "framework/transport/handshake.hpp"
#include "framework/transport/stream_seal.hpp"
#include "tests/fuzz/targets.hpp"

#include <algorithm>

namespace isthmus::fuzz {

namespace {

constexpr site_id calls = 3, is_called = 1;
constexpr stream_header header_of_caller{std::byte{1}}, header_of_called{std::byte{2}};

secret secret_of(unsigned number) {
  secret out;
  for (std::size_t i = 0; i < secret::size; ++i) out.bytes()[i] = static_cast<std::byte>(number * 7 + i);
  return out;
}

link_keys keys_of(site_id site) {
  link_keys keys{identity::of(secret_of(site)), {}};
  for (const site_id one : {calls, is_called}) keys.roster[one] = identity::of(secret_of(one)).key();
  return keys;
}

struct ends {
  link_keys of_caller = keys_of(calls), of_called = keys_of(is_called);
  caller calling{of_caller, "fuzz", calls, is_called, ephemeral::of(secret_of(100))};
  answerer called{of_called, "fuzz", is_called};
};

bool equal(input a, input b) { return std::ranges::equal(a, b); }

/// Whatever was not said by those who have the keys does not open.
void take_hello(input message) {
  ends e;
  const bool took = e.called.take_hello(message, ephemeral::of(secret_of(200))).has_value();
  must(took == equal(message, *e.calling.hello()), "a hello is taken that nobody sent, or a good one is not");
}

void take_answer(input message) {
  ends e;
  must(e.called.take_hello(*e.calling.hello(), ephemeral::of(secret_of(200))).has_value(), "a hello of our own");
  const bool took = e.calling.take_answer(message).has_value();
  must(took == equal(message, e.called.answer(header_of_called)), "an answer is taken that nobody sent, or a good one is not");
}

void take_confirm(input message) {
  ends e;
  must(e.called.take_hello(*e.calling.hello(), ephemeral::of(secret_of(200))).has_value(), "a hello of our own");
  must(e.calling.take_answer(e.called.answer(header_of_called)).has_value(), "an answer of our own");
  const bool took = e.called.take_confirm(message).has_value();
  must(took == equal(message, e.calling.confirm(header_of_caller)), "a confirm is taken that nobody sent, or a good one is not");
}

void open_frame(input bytes) {
  stream_seal seal(secret_of(1));
  seal.begin_reading(secret_of(2), header_of_caller);
  const auto front = bytes.first(std::min<std::size_t>(4, bytes.size()));
  must(!seal.open(front, bytes.subspan(front.size())), "a frame opens that nobody sealed");
}

void open_chunk(input bytes) {
  chunk_opener opener(secret_of(1));
  const auto front = bytes.first(std::min<std::size_t>(66, bytes.size()));
  must(!opener.header(front), "a header opens that nobody sealed");
  std::vector<std::byte> plain(bytes.size(), std::byte{0});
  must(!opener.data(front, bytes.subspan(front.size()), plain.data()), "a chunk opens that nobody sealed");
  must(std::ranges::all_of(plain, [](std::byte b) { return b == std::byte{0}; }), "what does not open leaves no byte behind");
}

}  // namespace

recorded_handshake record_handshake() {
  ends e;
  recorded_handshake out;
  out.hello = *e.calling.hello();
  must(e.called.take_hello(out.hello, ephemeral::of(secret_of(200))).has_value(), "a hello of our own");
  out.answer = e.called.answer(header_of_called);
  must(e.calling.take_answer(out.answer).has_value(), "an answer of our own");
  out.confirm = e.calling.confirm(header_of_caller);
  return out;
}

/// First byte: at which step the bytes come.
void handshakes(input bytes) {
  if (bytes.empty()) return;
  const auto message = bytes.subspan(1);
  switch (std::to_integer<unsigned>(bytes[0]) % 5) {
    case 0: return take_hello(message);
    case 1: return take_answer(message);
    case 2: return take_confirm(message);
    case 3: return open_frame(message);
    default: return open_chunk(message);
  }
}

}  // namespace isthmus::fuzz
