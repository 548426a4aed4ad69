#include "framework/transport/bulk_receiver.hpp"
#include "framework/transport/bulk_sender.hpp"
#include "framework/core/rng.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <limits>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(bulk)

namespace {

constexpr std::uint32_t chunk = chunk_bytes_min;

template <class T>
errc code(const expected<T>& outcome) {
  return outcome ? errc::ok : outcome.error().code;
}

chunk_header header_of(std::uint64_t transfer, std::uint64_t total, std::uint64_t offset) {
  return {1, transfer, total, offset, chunk, {}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(chunks_in_any_order_make_the_message_and_the_window_holds) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    rng draws(seed, 0, 0, draw::network);
    const std::size_t window = chunk * (1 + draws.below(6));
    bulk_sender sender(chunk, window);
    bulk_receiver receiver(1U << 30, 1U << 30);
    std::map<std::uint64_t, shared_bytes> payloads;
    for (std::uint64_t id = 10; id < 20; ++id) {
      payloads[id] = patterned(draws.below(10) == 0 ? 0 : draws.below(8 * chunk), id);
      sender.push(id, text_bytes(std::to_string(id)), payloads[id]);
    }
    std::vector<bulk_sender::chunk> under_way;
    std::size_t settled = 0, arrived = 0;
    while (settled < payloads.size()) {
      while (auto c = sender.next({})) under_way.push_back(*c);
      BOOST_REQUIRE_LE(sender.bytes_in_flight(), window);
      BOOST_REQUIRE(!under_way.empty());
      const std::size_t pick = draws.below(under_way.size());
      const auto c = under_way[pick];
      under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(pick));
      chunk_header h = header_of(c.transfer, c.payload->size(), c.offset);
      if (c.offset == 0) h.message_header = c.header->bytes();
      BOOST_REQUIRE_EQUAL(h.length(), c.bytes);
      const auto place = receiver.begin(h, {});
      BOOST_REQUIRE(place);
      if (c.bytes > 0) std::memcpy(place->to, c.payload->data() + c.offset, c.bytes);
      if (const auto whole = receiver.finish(c.transfer, {})) {
        ++arrived;
        const auto id = static_cast<std::uint64_t>(std::stoi(std::string(reinterpret_cast<const char*>(whole->header->data()), 2)));
        BOOST_REQUIRE(same_bytes(whole->payload, payloads.at(id)));
      }
      const auto done = sender.acknowledge(c.transfer, c.offset, {});
      BOOST_REQUIRE(done);
      settled += *done ? 1 : 0;
    }
    BOOST_TEST(arrived == payloads.size());
    BOOST_TEST(sender.bytes_in_flight() == 0U);
    BOOST_TEST(!sender.waits_since());
    BOOST_TEST(!receiver.waits_since());
  }
}

BOOST_AUTO_TEST_CASE(acknowledgements_of_nothing_are_refused) {
  bulk_sender sender(chunk, 2 * chunk);
  sender.push(7, text_bytes("h"), patterned(3 * chunk, 1));
  BOOST_REQUIRE(sender.next({}) && sender.next({}));
  BOOST_TEST(!sender.next({}));
  BOOST_TEST((code(sender.acknowledge(2, 0, {})) == errc::malformed));
  BOOST_TEST((code(sender.acknowledge(1, 2 * chunk, {})) == errc::malformed));
  BOOST_TEST((code(sender.acknowledge(1, 1, {})) == errc::malformed));
  BOOST_TEST((code(sender.acknowledge(1, 0, {})) == errc::ok));
  BOOST_TEST((code(sender.acknowledge(1, 0, {})) == errc::malformed));
  BOOST_TEST((sender.abandon() == std::vector<std::uint64_t>{7}));
}

BOOST_AUTO_TEST_CASE(chunks_that_cannot_be_are_refused_before_memory_is_taken) {
  bulk_receiver r(4 * chunk, 6 * chunk);
  BOOST_TEST((code(r.begin(header_of(1, 1ULL << 60, 0), {})) == errc::too_large));
  BOOST_TEST((code(r.begin(header_of(0, 1, 0), {})) == errc::malformed));
  BOOST_TEST((code(r.begin(header_of(1, 4 * chunk, 0), {})) == errc::ok));
  BOOST_TEST((code(r.begin(header_of(1, 4 * chunk, 0), {})) == errc::malformed));          // twice
  BOOST_TEST((code(r.begin(header_of(1, 4 * chunk - 1, chunk), {})) == errc::malformed));  // another size
  BOOST_TEST((code(r.begin(header_of(2, 3 * chunk, 0), {})) == errc::too_large));          // all together
  BOOST_TEST((code(r.begin(header_of(3, chunk, 0), {})) == errc::ok));
  BOOST_TEST(bool(r.finish(3, {})));
  BOOST_TEST((code(r.begin(header_of(3, chunk, 0), {})) == errc::malformed));  // over
  const std::uint64_t far = std::numeric_limits<std::uint64_t>::max();
  BOOST_TEST((code(r.begin(header_of(far, 1, 0), {})) == errc::ok));
  BOOST_TEST((code(r.begin(header_of(4, 1, 0), {})) == errc::malformed));  // long ago
}

BOOST_AUTO_TEST_CASE(chunk_headers_are_read_as_written_or_refused) {
  const auto text = patterned(1024, 1);
  const chunk_header h{9, 8, 10 * chunk + 5, 0, chunk, text->bytes()};
  auto bytes = write_chunk_header(h);
  const auto back = read_chunk_header(bytes);
  BOOST_REQUIRE(back);
  BOOST_TEST((back->link_token == 9 && back->transfer == 8 && back->total_bytes == h.total_bytes && back->offset == 0));
  BOOST_TEST(back->message_header.size() == 1024U);
  for (std::size_t n = 0; n < bytes.size(); ++n) BOOST_REQUIRE(!read_chunk_header(std::span(bytes).first(n)));
  BOOST_TEST(!read_chunk_header(write_chunk_header({9, 8, 10, 0, 1, {}})));                       // chunks of a byte
  BOOST_TEST(!read_chunk_header(write_chunk_header({9, 8, 10, 0, 1U << 30, {}})));                // of a GiB
  BOOST_TEST(!read_chunk_header(write_chunk_header({9, 8, 10 * chunk, 10 * chunk, chunk, {}})));  // at the end
  BOOST_TEST(!read_chunk_header(write_chunk_header({9, 8, 10 * chunk, 17, chunk, {}})));          // off the grid
  BOOST_TEST(!read_chunk_header(write_chunk_header({9, 8, 10 * chunk, chunk, chunk, text->bytes()})));
  rng draws(1, 0, 0, draw::network);
  for (int i = 0; i < 20'000; ++i) {
    auto changed = bytes;
    changed[draws.below(42)] = static_cast<std::byte>(draws.next());
    const auto read = read_chunk_header(changed);
    if (read)
      BOOST_REQUIRE(read->length() <= chunk_bytes_most && (read->total_bytes == 0 || read->offset + read->length() <= read->total_bytes));
  }
}

BOOST_AUTO_TEST_SUITE_END()
