#include "framework/wire/frame.hpp"
#include "tests/framework/wire/random_messages.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstring>
#include <limits>

using namespace isthmus;
using isthmus::testing::random_message;
using isthmus::testing::why;

BOOST_AUTO_TEST_SUITE(hostile_frame)

namespace {

constexpr wire::frame_origin site_3{3, 9};
const wire::framer from_3("run-1", site_3);
const wire::framer receiver("run-1", {5, 1});
constexpr std::size_t kinds = std::variant_size_v<peer_message>;

template <class T>
errc code(const expected<T>& outcome) {
  return outcome ? errc::ok : outcome.error().code;
}

errc decoded(std::span<const std::byte> bytes) { return code(receiver.decode(site_3, bytes)); }

std::vector<std::byte> words(std::initializer_list<std::uint64_t> values) {
  std::vector<std::byte> bytes(values.size() * 8);
  std::memcpy(bytes.data(), std::data(values), bytes.size());
  return bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_frame_cut_anywhere_is_an_error) {
  for (std::size_t kind = 0; kind < kinds; ++kind) {
    rng draws(1, 0, kind, draw::network);
    const auto frame = from_3.encode(random_message(draws, kind, 4));
    for (std::size_t n = 0; n < frame.size(); ++n) {
      const std::vector<std::byte> cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(n));
      BOOST_REQUIRE_MESSAGE(decoded(cut) == errc::truncated, "kind " << kind << " cut at " << n);
    }
    auto longer = frame;
    longer.push_back(std::byte{0});
    BOOST_TEST((decoded(longer) == errc::malformed));
  }
}

BOOST_AUTO_TEST_CASE(a_changed_frame_is_an_error_or_a_message_that_encodes_again) {
  std::size_t errors = 0, messages = 0;
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    rng draws(seed, 0, 0, draw::network);
    auto frame = from_3.encode(random_message(draws, draws.below(kinds), 6));
    for (std::uint64_t n = 1 + draws.below(4); n > 0; --n) {
      const auto at = draws.below(frame.size());
      frame[at] = draws.below(2) == 0 ? static_cast<std::byte>(draws.next()) : frame[at] ^ static_cast<std::byte>(1U << draws.below(8));
    }
    const auto m = receiver.decode(site_3, frame);
    if (!m) {
      BOOST_REQUIRE(!m.error().message.empty());
      ++errors;
      continue;
    }
    ++messages;
    const auto again = receiver.decode(site_3, from_3.encode(*m));
    BOOST_REQUIRE_MESSAGE(again, "seed " << seed << ": " << why(again));
  }
  BOOST_TEST(errors > 1000U);
  BOOST_TEST(messages > 1000U);
}

BOOST_AUTO_TEST_CASE(a_frame_may_lie_at_any_address) {
  const auto frame = from_3.encode(message::report{1, 2, 3.5, 4.5});
  std::vector<std::byte> memory(frame.size() + 16);
  for (std::size_t shift = 0; shift < 16; ++shift) {
    std::memcpy(memory.data() + shift, frame.data(), frame.size());
    BOOST_TEST((decoded(std::span(memory).subspan(shift, frame.size())) == errc::ok));
  }
}

BOOST_AUTO_TEST_CASE(bad_prefixes) {
  BOOST_TEST((decoded({}) == errc::truncated));
  BOOST_TEST((decoded(words({0})) == errc::malformed));                       // no words
  BOOST_TEST((decoded(words({0xffffffffULL})) == errc::malformed));           // 2^32 segments
  BOOST_TEST((decoded(words({0x00000001ULL, 0, 0, 0})) == errc::malformed));  // two segments
  BOOST_TEST((decoded(words({0xffffffffULL << 32, 0})) == errc::truncated));  // 32 GiB of words
}

BOOST_AUTO_TEST_CASE(pointers_to_nowhere_and_to_themselves) {
  const auto framed = [](std::initializer_list<std::uint64_t> body) {
    std::vector<std::byte> bytes = words({static_cast<std::uint64_t>(body.size()) << 32});
    const auto rest = words(body);
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    return bytes;
  };
  BOOST_TEST((decoded(framed({0x0000ffff'7ffffffcULL})) != errc::ok));  // a struct far past the end
  BOOST_TEST((decoded(framed({2})) != errc::ok));                       // a far pointer to itself
  BOOST_TEST((decoded(framed({0x00000001'00000006ULL})) != errc::ok));  // a double-far pointer to another segment
  BOOST_TEST((decoded(framed({0xffffffff'00000001ULL})) != errc::ok));  // a list where the struct should be
}

BOOST_AUTO_TEST_CASE(shared_pointers_do_not_amplify) {
  // Every element of a long list points to the same long list: cheap to send, dear to read without a traversal limit.
  message::delta m;
  m.record.epoch = m.record.round = 1;
  for (site_id s = 0; s < 100; ++s) m.record.contributors.push_back({s, 1, 1, 1, {}, 0});
  for (std::uint64_t i = 0; i < 3000; ++i) m.record.contributors[99].leases.push_back({0, 2 * i, 2 * i + 1});
  auto frame = from_3.encode(m);
  // A contributor is 10 words of numbers and its list pointer; the last one's pointer is the only one that is not zero.
  const std::size_t stride = 11 * 8;
  const auto word = [&](std::size_t at) {
    std::uint64_t w;
    std::memcpy(&w, frame.data() + at, 8);
    return w;
  };
  std::size_t last = 0;  // place of the pointer to 3000 leases: tag 1, inline composite (7), 9000 words
  for (std::size_t at = 8; at + 8 <= frame.size(); at += 8)
    if ((word(at) & 3U) == 1 && word(at) >> 32 == (9000ULL << 3 | 7)) last = at;
  BOOST_REQUIRE_GT(last, 99 * stride);
  for (std::size_t back = 1; back < 100; ++back) {
    const std::uint64_t pointer = word(last) + (back * stride / 8 << 2);  // the same target from further in front
    std::memcpy(frame.data() + last - back * stride, &pointer, 8);
  }
  BOOST_TEST((decoded(frame) == errc::malformed));
}

BOOST_AUTO_TEST_CASE(fields_that_cannot_be) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const auto sent = [](const peer_message& m) { return decoded(from_3.encode(m)); };
  BOOST_TEST((sent(message::report{1, 1, nan, 1}) == errc::not_finite));
  BOOST_TEST((sent(message::report{1, 1, 1, infinity}) == errc::not_finite));
  BOOST_TEST((sent(message::seal{0}) == errc::out_of_range));
  BOOST_TEST((sent(message::sealed{0, {}}) == errc::out_of_range));
  BOOST_TEST((sent(message::stored{1, 0, 0, {}}) == errc::out_of_range));
  BOOST_TEST((sent(message::refused{1, 0, 1, 1000, "?"}) == errc::out_of_range));
  BOOST_TEST((sent(message::contribution{1, 0, 1, {0, 0, 0, 0, {}, nan}, {}, {}}) == errc::not_finite));
  contributor judged{0, 0, 0, 5, {}, 0};
  judged.clipped = infinity;
  BOOST_TEST((sent(message::contribution{1, 0, 1, judged, {}, {}}) == errc::not_finite));
  judged.clipped = 0;
  judged.uncounted = 6;  // of five tokens
  BOOST_TEST((sent(message::contribution{1, 0, 1, judged, {}, {}}) == errc::out_of_range));
  judged.uncounted = 5;
  judged.judged = static_cast<verdict>(verdicts);
  BOOST_TEST((sent(message::contribution{1, 0, 1, judged, {}, {}}) == errc::out_of_range));
  message::delta delta;
  delta.record.epoch = delta.record.round = 1;
  BOOST_TEST((sent(delta) == errc::ok));
  delta.record.weight = -1;
  BOOST_TEST((sent(delta) == errc::out_of_range));
  delta.record.weight = 1;
  delta.record.contributors = {{2, 1, 1, 1, {}, 0}, {1, 1, 1, 1, {}, 0}};
  BOOST_TEST((sent(delta) == errc::malformed));
  delta.record.contributors = {{1, 1, 1, 1, {{0, 5, 4}}, 0}};
  BOOST_TEST((sent(delta) == errc::out_of_range));
  delta.record.contributors.clear();
  delta.record.audits = {{1, 1, 1.5, false, 0}};
  BOOST_TEST((sent(delta) == errc::out_of_range));
  delta.record.audits.front().cosine = infinity;
  BOOST_TEST((sent(delta) == errc::not_finite));
  message::new_epoch view{{1, {{1, 1, false, 0}, {1, 2, false, 0}}, {}, ""}};
  BOOST_TEST((sent(view) == errc::malformed));
}

BOOST_AUTO_TEST_CASE(bodies_of_an_unknown_kind) {
  // The number that tells the kinds apart lies in the root's words; wherever that is, what no version knows is told as such.
  const auto frame = from_3.encode(message::beat{1, 2});
  std::size_t unknown = 0;
  for (std::size_t at = 16; at + 2 <= frame.size(); at += 2)
    for (const std::uint16_t kind : {std::uint16_t{kinds + 1}, std::uint16_t{1000}, std::uint16_t{0xffff}}) {
      auto changed = frame;
      std::memcpy(changed.data() + at, &kind, 2);
      const auto m = receiver.decode(site_3, changed);
      if (m || m.error().code != errc::unsupported) continue;
      ++unknown;
      BOOST_TEST(m.error().message == "frame: its body is of a kind that this version does not know");
    }
  BOOST_TEST(unknown == 3U);
}

BOOST_AUTO_TEST_CASE(errors_of_a_frame_name_the_field_and_what_is_allowed) {
  const auto message = [](const std::vector<std::byte>& bytes) {
    const auto m = receiver.decode(site_3, bytes);
    return m ? "accepted" : m.error().message;
  };
  BOOST_TEST(message({}) == "frame: 0 bytes, shorter than its 8-byte prefix");
  BOOST_TEST(message(words({0})) == "frame: its segment is empty");
  BOOST_TEST(message(words({0xffffffffULL})) == "frame: more than one segment; a frame has exactly one");
  BOOST_TEST(message(words({0xffffffffULL << 32, 0})) == "frame: 16 of the 34359738368 bytes it names");
  BOOST_TEST(message(from_3.encode(message::seal{0})) == "frame: an epoch is 0; the first is 1");
  BOOST_TEST(message(from_3.encode(message::refused{1, 0, 1, 1000, "?"})) == "frame: a refusal's code is unknown");
}

BOOST_AUTO_TEST_CASE(text_that_is_none) {
  const auto frame = from_3.encode(message::to_actor{"tally-of-votes"});
  const auto at = std::search(frame.begin(), frame.end(), reinterpret_cast<const std::byte*>("tally"),
                              reinterpret_cast<const std::byte*>("tally") + 5) -
                  frame.begin();
  const auto with = [&](std::initializer_list<unsigned> bytes) {
    auto changed = frame;
    auto place = changed.begin() + at;
    for (const unsigned b : bytes) *place++ = static_cast<std::byte>(b);
    return decoded(changed);
  };
  BOOST_TEST((with({'T'}) == errc::ok));
  BOOST_TEST((with({0xff}) == errc::malformed));
  BOOST_TEST((with({0}) == errc::malformed));
  BOOST_TEST((with({0xc0, 0x80}) == errc::malformed));        // an overlong NUL
  BOOST_TEST((with({0xed, 0xa0, 0x80}) == errc::malformed));  // a surrogate
  auto unterminated = frame;
  unterminated[static_cast<std::size_t>(at) + 14] = std::byte{'!'};  // where the NUL was
  BOOST_TEST((decoded(unterminated) == errc::malformed));
}

BOOST_AUTO_TEST_CASE(payloads_that_are_not_what_the_header_names) {
  const auto payload = std::make_shared<buffer>(5000);
  rng draws(4, 0, 0, draw::network);
  for (const std::size_t longest : {2U, 300U}) {  // body in the header, body in front of the payload
    const auto out = from_3.pack({random_message(draws, 12, longest), payload});
    const auto unpack = [&](std::size_t bytes) {
      auto other = std::make_shared<buffer>(bytes);
      std::memcpy(other->data(), out.payload->data(), std::min(bytes, out.payload->size()));
      return code(receiver.unpack_bulk(site_3, out.header->bytes(), other));
    };
    BOOST_TEST((unpack(out.payload->size()) == errc::ok));
    BOOST_TEST((unpack(out.payload->size() - 1) == errc::truncated));
    BOOST_TEST((unpack(0) == errc::truncated));
    BOOST_TEST((unpack(out.payload->size() + 1) == errc::malformed));
  }
}

BOOST_AUTO_TEST_CASE(bodies_in_front_that_are_not_there) {
  const auto tag = hash_bytes(std::as_bytes(std::span("run-1", 5))).low;
  const auto unpack = [&](std::uint32_t body_bytes, std::span<const std::byte> front) {
    auto payload = std::make_shared<buffer>(4096);
    if (!front.empty()) std::memcpy(payload->data(), front.data(), front.size());
    const auto header = wire::write_frame({wire::version, tag, site_3, payload->size(), body_bytes, {}});
    return code(receiver.unpack_bulk(site_3, header, payload));
  };
  BOOST_TEST((unpack(5000, {}) == errc::truncated));
  BOOST_TEST((unpack(0xffffffffU, {}) == errc::too_large));
  BOOST_TEST((unpack(100, {}) == errc::malformed));
  const auto nested = wire::write_frame({wire::version, tag, site_3, 4096 - 128, 64, {}});
  BOOST_TEST((unpack(static_cast<std::uint32_t>(nested.size()), nested) == errc::malformed));
  const auto control = wire::write_frame({wire::version, tag, site_3, 4096 - 192, 0, message::beat{}});
  BOOST_TEST((unpack(static_cast<std::uint32_t>(control.size()), control) == errc::malformed));
}

BOOST_AUTO_TEST_CASE(larger_than_allowed) {
  const std::vector<std::byte> large(wire::control_bytes_max + 8);
  BOOST_TEST((code(receiver.unpack_control(site_3, large)) == errc::too_large));
  BOOST_TEST((code(receiver.unpack_bulk(site_3, std::span(large).first(1025), nullptr)) == errc::too_large));
  message::contribution m{1, 0, 1, {}, {}, {}};
  for (std::uint64_t i = 0; i <= wire::leases_max; ++i) m.from.leases.push_back({0, 2 * i, 2 * i + 1});
  BOOST_CHECK_THROW(from_3.encode(m), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
