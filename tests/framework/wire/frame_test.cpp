#include "framework/wire/wire.hpp"
#include "tests/framework/wire/random_messages.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>

using namespace isthmus;
using isthmus::testing::random_message;
using isthmus::testing::same;
using isthmus::testing::why;

BOOST_AUTO_TEST_SUITE(frame)

namespace {

constexpr wire::frame_origin site_3{3, 9};
const wire::framer from_3("run-1", site_3);
const wire::framer receiver("run-1", {5, 1});
constexpr std::size_t kinds = std::variant_size_v<peer_message>;

shared_bytes counting(std::size_t bytes) {
  auto b = std::make_shared<buffer>(bytes);
  for (std::size_t i = 0; i < bytes; ++i) b->data()[i] = static_cast<std::byte>(i * 7);
  return b;
}

bool equal_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_message_comes_back_as_it_was) {
  for (std::uint64_t seed = 0; seed < 100; ++seed)
    for (std::size_t kind = 0; kind < kinds; ++kind) {
      rng draws(seed, 0, kind, draw::network);
      const auto m = random_message(draws, kind, seed % 10 == 0 ? 200 : 5);
      BOOST_REQUIRE_EQUAL(m.index(), kind);
      const auto bytes = from_3.encode(m);
      const auto back = receiver.decode(site_3, bytes);
      BOOST_REQUIRE_MESSAGE(back, "seed " << seed << " kind " << kind << ": " << why(back));
      BOOST_REQUIRE_MESSAGE(same(m, *back), "seed " << seed << " kind " << kind);
      BOOST_REQUIRE_MESSAGE(from_3.encode(*back) == bytes, "seed " << seed << " kind " << kind);
    }
}

BOOST_AUTO_TEST_CASE(every_message_packs_for_its_path) {
  const auto payload = counting(10'001);
  for (std::uint64_t seed = 0; seed < 60; ++seed)
    for (std::size_t kind = 0; kind < kinds; ++kind) {
      rng draws(seed, 0, kind, draw::network);
      const auto m = random_message(draws, kind, seed % 3 == 0 ? 100 : 2);
      const auto out = from_3.pack({m, wire::is_bulk(m) ? payload : nullptr});
      BOOST_REQUIRE_EQUAL(out.bulk, wire::is_bulk(m));
      if (out.bulk) {
        BOOST_REQUIRE_LE(out.header->size(), wire::header_bytes_max);
        const auto back = receiver.unpack_bulk(site_3, out.header->bytes(), out.payload);
        BOOST_REQUIRE_MESSAGE(back, why(back));
        BOOST_REQUIRE_MESSAGE(same(m, back->body) && equal_bytes(back->payload->bytes(), payload->bytes()), "seed " << seed);
        BOOST_TEST(!receiver.unpack_control(site_3, out.header->bytes()));
      } else {
        const auto back = receiver.unpack_control(site_3, out.header->bytes());
        BOOST_REQUIRE_MESSAGE(back, why(back));
        BOOST_REQUIRE_MESSAGE(same(m, back->body) && !back->payload, "seed " << seed);
        BOOST_TEST(!receiver.unpack_bulk(site_3, out.header->bytes(), nullptr));
      }
    }
}

BOOST_AUTO_TEST_CASE(small_records_stay_in_the_header_without_a_copy_of_the_payload) {
  const auto payload = counting(100);
  message::delta m;
  m.record.epoch = m.record.round = 1;
  for (site_id s = 0; s < 5; ++s) m.record.contributors.push_back({s, 1, 30, 30'000, {{s, 0, 100}, {s, 200, 300}}, 1.5});
  const auto out = from_3.pack({m, payload});
  BOOST_TEST(out.payload == payload);
  BOOST_TEST(out.header->size() <= wire::header_bytes_max);
}

BOOST_AUTO_TEST_CASE(an_empty_payload_is_a_payload) {
  const auto out = from_3.pack({message::to_actor{"tally"}, nullptr});
  const auto back = receiver.unpack_bulk(site_3, out.header->bytes(), nullptr);
  BOOST_REQUIRE(back);
  BOOST_TEST(back->payload->size() == 0U);
}

BOOST_AUTO_TEST_CASE(touching_leases_merge_and_overlaps_stay) {
  using leases = std::vector<lease>;
  BOOST_TEST((wire::coalesced({{0, 4, 8}, {0, 0, 4}, {0, 8, 9}, {0, 20, 20}}) == leases{{0, 0, 9}}));
  BOOST_TEST((wire::coalesced({{1, 4, 8}, {0, 0, 4}}) == leases{{0, 0, 4}, {1, 4, 8}}));
  BOOST_TEST((wire::coalesced({{0, 0, 4}, {0, 3, 8}}) == leases{{0, 0, 4}, {0, 3, 8}}));
  message::contribution m{1, 0, 1, {3, 9, 10, 100, {}, 0.5}, {}, {}};
  for (std::uint64_t i = 0; i < 1000; ++i) m.from.leases.push_back({3, 10 * i, 10 * i + 10});
  const auto out = from_3.pack({m, nullptr});
  const auto back = receiver.unpack_bulk(site_3, out.header->bytes(), out.payload);
  BOOST_REQUIRE(back);
  BOOST_TEST((std::get<message::contribution>(back->body).from.leases == leases{{3, 0, 10'000}}));
}

BOOST_AUTO_TEST_CASE(frames_of_another_run_version_or_sender_are_refused) {
  const auto frame = from_3.encode(message::beat{1, 2});
  BOOST_TEST(bool(receiver.decode(site_3, frame)));
  const auto code = [](const auto& outcome) { return outcome ? errc::ok : outcome.error().code; };
  BOOST_TEST((code(wire::framer("run-2", {5, 1}).decode(site_3, frame)) == errc::wrong_run));
  BOOST_TEST((code(receiver.decode({4, 9}, frame)) == errc::refused));
  BOOST_TEST((code(receiver.decode({3, 10}, frame)) == errc::stale_incarnation));
  auto newer = frame;
  newer[8 + 8] = std::byte{wire::version + 1};  // the version: first number behind the table and the root pointer
  BOOST_TEST((code(receiver.decode(site_3, newer)) == errc::wrong_version));
}

BOOST_AUTO_TEST_CASE(reasons_are_clipped_between_characters) {
  message::leave m;
  for (int i = 0; i < 1000; ++i) m.reason += "→";
  m.reason[0] = '\xff';  // and what was no text becomes text
  const auto back = receiver.decode(site_3, from_3.encode(m));
  BOOST_REQUIRE(back);
  const auto& reason = std::get<message::leave>(*back).reason;
  BOOST_TEST(reason.size() <= wire::text_bytes_max);
  BOOST_TEST(reason.size() > wire::text_bytes_max - 4);
  BOOST_TEST(reason.substr(0, 6) == "???→");
}

BOOST_AUTO_TEST_SUITE_END()
