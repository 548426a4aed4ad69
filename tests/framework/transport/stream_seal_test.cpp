#include "framework/transport/stream_seal.hpp"
#include "tests/framework/transport/keys.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>

using namespace isthmus;
using namespace isthmus::testing;

namespace {

using bytes = std::vector<std::byte>;

bytes text(const std::string& words) {
  const auto all = std::as_bytes(std::span(words.data(), words.size()));
  return {all.begin(), all.end()};
}

/// One direction.
struct stream {
  stream() { in.begin_reading(seeded_secret(1), out.header()); }
  bytes sealed(const std::string& words, bool is_last = false) {
    bytes made;
    out.seal(text("front"), text(words), is_last, made);
    return made;
  }
  expected<std::span<const std::byte>> opened(const bytes& from, const std::string& front = "front") { return in.open(text(front), from); }
  bool opens(const bytes& from, const std::string& words) {
    const auto plain = opened(from);
    return plain && std::ranges::equal(*plain, text(words));
  }
  stream_seal out{seeded_secret(1)}, in{seeded_secret(2)};
};

void refused(const expected<std::span<const std::byte>>& outcome, errc code) {
  BOOST_TEST_REQUIRE(!outcome);
  BOOST_TEST((outcome.error().code == code), outcome.error().message);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stream_seals)

BOOST_AUTO_TEST_CASE(frames_open_in_their_order_and_the_last_is_known) {
  stream s;
  BOOST_TEST(s.opens(s.sealed("one"), "one"));
  BOOST_TEST(s.opens(s.sealed(""), ""));
  BOOST_TEST(s.sealed("").size() == stream_seal::overhead);
  stream t;
  BOOST_TEST(!t.in.has_read_last());
  BOOST_TEST(t.opens(t.sealed("goodbye", true), "goodbye"));
  BOOST_TEST(t.in.has_read_last());
  BOOST_TEST(t.out.has_written_last());
  BOOST_CHECK_THROW(t.sealed("and then"), contract_error);
  refused(t.opened(bytes(40)), errc::malformed);
}

BOOST_AUTO_TEST_CASE(a_change_of_any_byte_is_noticed) {
  const std::size_t size = 8 + stream_seal::overhead;
  for (std::size_t at = 0; at < size; ++at) {
    stream s;
    auto sealed = s.sealed("8 bytes!");
    BOOST_TEST_REQUIRE(sealed.size() == size);
    sealed[at] ^= std::byte{1};
    refused(s.opened(sealed), errc::checksum_mismatch);
  }
  stream s;
  refused(s.opened(s.sealed("words"), "fronT"), errc::checksum_mismatch);
}

BOOST_AUTO_TEST_CASE(frames_that_are_reordered_doubled_left_out_or_cut_are_noticed) {
  {
    stream s;
    const auto first = s.sealed("first"), second = s.sealed("second");
    refused(s.opened(second), errc::checksum_mismatch);
  }
  {
    stream s;
    const auto first = s.sealed("first");
    BOOST_TEST(s.opens(first, "first"));
    refused(s.opened(first), errc::checksum_mismatch);
  }
  {
    stream s;
    const auto first = s.sealed("first");
    for (std::size_t n = 0; n < first.size(); ++n) {
      stream cut;
      const auto whole = cut.sealed("first");
      refused(cut.opened({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}),
              n < stream_seal::overhead ? errc::malformed : errc::checksum_mismatch);
    }
  }
  {
    stream a, b;  // of another link
    refused(b.opened(a.sealed("first")), errc::checksum_mismatch);
  }
}

BOOST_AUTO_TEST_CASE(keys_change_on_the_way_unseen) {
  stream s;
  const std::string words(8 << 20, 'x');
  for (int i = 0; i < 20; ++i) BOOST_TEST_REQUIRE(s.opens(s.sealed(words), words));
}

BOOST_AUTO_TEST_SUITE_END()
