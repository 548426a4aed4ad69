#include "framework/transport/handshake.hpp"
#include "framework/core/rng.hpp"
#include "tests/framework/transport/keys.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>

using namespace isthmus;
using namespace isthmus::testing;

namespace {

using bytes = std::vector<std::byte>;
constexpr stream_header header_of_caller{std::byte{7}}, header_of_called{std::byte{9}};

template <class T>
errc code(const expected<T>& outcome) {
  return outcome ? errc::ok : outcome.error().code;
}

bool same(const secret& a, const secret& b) { return std::ranges::equal(a.bytes(), b.bytes()); }

/// Site 1 calls site 0, as tests want it.
struct pair_of_ends {
  std::shared_ptr<const link_keys> keys_of_caller = keys_of(1), keys_of_called = keys_of(0);
  caller calling{*keys_of_caller, "run", 1, 0};
  answerer called{*keys_of_called, "run", 0};
};

/// What went over the wire.
struct recording {
  bytes hello, answer, confirm;
};

/// The handshake, with a change to each message on its way; how many of the three steps were accepted.
template <class Change>
int steps_accepted(pair_of_ends& ends, Change change, recording* heard = nullptr) {
  bytes hello = *ends.calling.hello();
  change(0, hello);
  if (heard != nullptr) heard->hello = hello;
  if (!ends.called.take_hello(hello)) return 0;
  bytes answer = ends.called.answer(header_of_called);
  change(1, answer);
  if (heard != nullptr) heard->answer = answer;
  const auto theirs = ends.calling.take_answer(answer);
  if (!theirs) return 1;
  BOOST_TEST_REQUIRE((*theirs == header_of_called));
  bytes confirm = ends.calling.confirm(header_of_caller);
  change(2, confirm);
  if (heard != nullptr) heard->confirm = confirm;
  const auto last = ends.called.take_confirm(confirm);
  if (!last) return 2;
  BOOST_TEST_REQUIRE((*last == header_of_caller));
  return 3;
}

const auto unchanged = [](int, bytes&) {};

}  // namespace

BOOST_AUTO_TEST_SUITE(handshakes)

BOOST_AUTO_TEST_CASE(both_ends_know_each_other_and_share_four_keys) {
  pair_of_ends ends;
  const auto hello = *ends.calling.hello();
  BOOST_TEST(hello.size() == hello_bytes);
  BOOST_TEST_REQUIRE(bool(ends.called.take_hello(hello)));
  BOOST_TEST(ends.called.peer() == 1U);
  const auto of_called = ends.called.secrets();
  const auto answer = ends.called.answer(header_of_called);
  BOOST_TEST(answer.size() == answer_bytes);
  const auto header = ends.calling.take_answer(answer);
  BOOST_TEST_REQUIRE(bool(header));
  BOOST_TEST((*header == header_of_called));
  const auto of_caller = ends.calling.secrets();
  const auto confirm = ends.calling.confirm(header_of_caller);
  BOOST_TEST(confirm.size() == confirm_bytes);
  BOOST_TEST((*ends.called.take_confirm(confirm) == header_of_caller));
  BOOST_TEST(same(of_caller.control_out, of_called.control_in));
  BOOST_TEST(same(of_caller.control_in, of_called.control_out));
  BOOST_TEST(same(of_caller.bulk_out, of_called.bulk_in));
  BOOST_TEST(same(of_caller.bulk_in, of_called.bulk_out));
  std::set<std::string> all;
  for (const auto* one : {&of_caller.control_out, &of_caller.control_in, &of_caller.bulk_out, &of_caller.bulk_in})
    all.emplace(reinterpret_cast<const char*>(one->raw()), secret::size);
  BOOST_TEST(all.size() == 4U);
}

BOOST_AUTO_TEST_CASE(no_two_handshakes_have_a_byte_string_or_a_key_in_common) {
  pair_of_ends first, second;
  recording a, b;
  BOOST_TEST(steps_accepted(first, unchanged, &a) == 3);
  BOOST_TEST(steps_accepted(second, unchanged, &b) == 3);
  BOOST_TEST((a.hello != b.hello && a.answer != b.answer && a.confirm != b.confirm));
  BOOST_TEST(!same(first.calling.secrets().control_out, second.calling.secrets().control_out));
}

BOOST_AUTO_TEST_CASE(the_messages_are_the_same_bytes_on_every_machine) {
  // Given all keys, nothing is drawn. A program of another language that follows the same description made these.
  const auto one = keys_of(1), zero = keys_of(0);
  caller calling(*one, "run", 1, 0, ephemeral::of(seeded_secret(100)));
  answerer called(*zero, "run", 0);
  const auto hello = *calling.hello();
  BOOST_TEST_REQUIRE(bool(called.take_hello(hello, ephemeral::of(seeded_secret(200)))));
  const auto secrets = called.secrets();
  const auto answer = called.answer(header_of_called);
  BOOST_TEST_REQUIRE(bool(calling.take_answer(answer)));
  const auto confirm = calling.confirm(header_of_caller);
  const auto hex = [](std::span<const std::byte> all) {
    std::string text;
    for (const std::byte b : all) {
      constexpr char digits[] = "0123456789abcdef";
      text += {digits[std::to_integer<int>(b) >> 4], digits[std::to_integer<int>(b) & 15]};
    }
    return text;
  };
  BOOST_TEST(hex(hello) ==
             "49534831ea8ed57048ea0d2e95eef6807275a6c62bc112a718336fbb185909a005539e43"
             "79b29358b7386cb6cbee2ace76d779c27bd6341243c1a157f6794068e2254779c6b0a458");
  BOOST_TEST(hex(answer) ==
             "231329c2ec43b90391a9d370933ed2d5d400e92453dd1dfde87e751e3d40f00b9ca1e373"
             "e12c4cfdf2e0cb2fe9533afdc06e649887a3e67577708f15ab55ba08239b019baa67ed0d");
  BOOST_TEST(hex(confirm) == "e5c2423620a7dc35c31144281edc8226b4788e3ee21f104c19c9530f5ddb7e06f16a0e9b84668257");
  BOOST_TEST(hex(secrets.control_in.bytes()) == "1b984d911596c7a58cbe10eadf1b1316ad2d0f1de6de2ddb87ea97a100b0b849");
  BOOST_TEST(hex(secrets.bulk_in.bytes()) == "d1dd81f3ed98c065ee25a94065d25abaa92f79d22dae8bce429c21585764332c");
}

BOOST_AUTO_TEST_CASE(a_change_of_any_byte_of_any_message_is_refused) {
  const std::array<std::size_t, 3> sizes{hello_bytes, answer_bytes, confirm_bytes};
  for (int message = 0; message < 3; ++message)
    for (std::size_t at = 0; at < sizes[static_cast<std::size_t>(message)]; ++at)
      for (const unsigned bit : {0U, 3U, 7U}) {
        pair_of_ends ends;
        BOOST_TEST_REQUIRE(steps_accepted(ends,
                                          [&](int m, bytes& b) {
                                            if (m == message) b[at] ^= static_cast<std::byte>(1U << bit);
                                          }) == message,
                           "message " << message << " byte " << at << " bit " << bit);
      }
}

BOOST_AUTO_TEST_CASE(messages_of_another_length_are_refused) {
  for (int message = 0; message < 3; ++message) {
    const auto resized = [&](std::size_t to) {
      pair_of_ends ends;
      BOOST_TEST_REQUIRE(steps_accepted(ends, [&](int m, bytes& b) {
                           if (m == message) b.resize(to);
                         }) == message);
    };
    const std::size_t whole = message == 2 ? confirm_bytes : hello_bytes;
    for (std::size_t bytes_left = 0; bytes_left < whole; ++bytes_left) resized(bytes_left);
    resized(whole + 1);
    resized(1000);
  }
}

BOOST_AUTO_TEST_CASE(random_bytes_are_refused) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    rng draws(seed, 0, 0, draw::network);
    pair_of_ends ends;
    const int message = static_cast<int>(draws.below(3));
    BOOST_TEST_REQUIRE(steps_accepted(ends, [&](int m, bytes& b) {
                         if (m != message) return;
                         for (auto& one : b) one = static_cast<std::byte>(draws.next());
                         if (m == 0 && seed % 2 == 0)
                           b[0] = std::byte{'I'}, b[1] = std::byte{'S'}, b[2] = std::byte{'H'}, b[3] = std::byte{'1'};
                       }) == message);
  }
  for (const auto value : {std::byte{0}, std::byte{1}, std::byte{0xff}}) {  // public keys of small order, or none
    pair_of_ends ends;
    BOOST_TEST(steps_accepted(ends, [&](int m, bytes& b) {
                 if (m == 0) std::fill_n(b.begin() + 4, 32, std::byte{0}), b[4] = value;
               }) == 0);
    pair_of_ends others;
    BOOST_TEST(steps_accepted(others, [&](int m, bytes& b) {
                 if (m == 1) std::fill_n(b.begin(), 32, std::byte{0}), b[0] = value;
               }) == 1);
  }
}

BOOST_AUTO_TEST_CASE(only_the_keys_of_the_roster_are_believed) {
  const auto steps = [](std::shared_ptr<const link_keys> of_caller, std::shared_ptr<const link_keys> of_called) {
    pair_of_ends ends{of_caller, of_called};
    return steps_accepted(ends, unchanged);
  };
  BOOST_TEST(steps(keys_of(1), keys_of(0)) == 3);
  auto stranger = std::make_shared<link_keys>(link_keys{identity::generate(), keys_of(1)->roster});
  BOOST_TEST(steps(stranger, keys_of(0)) == 0);            // says it is site 1, without its key
  BOOST_TEST(steps(keys_of(2), keys_of(0)) == 0);          // site 2 says it is site 1
  BOOST_TEST(steps(keys_of(1), keys_of(0, {0, 2})) == 0);  // not in the roster
  auto other = std::make_shared<link_keys>(link_keys{identity::generate(), keys_of(0)->roster});
  BOOST_TEST(steps(keys_of(1), other) == 0);  // called at an address that another process has
  BOOST_TEST(steps(keys_of(1), keys_of(2)) == 0);
  auto misled = std::make_shared<link_keys>(link_keys{identity::of(seeded_secret(1)), keys_of(1)->roster});
  misled->roster[0] = other->own.key();
  BOOST_TEST(steps(misled, keys_of(0)) == 0);  // calls with another's public key
  BOOST_TEST(steps(misled, other) == 3);       // which is its roster's
  const auto lonely = keys_of(1, {1});
  BOOST_TEST((code(caller(*lonely, "run", 1, 0).hello()) == errc::refused));
  auto broken = std::make_shared<link_keys>(link_keys{identity::of(seeded_secret(1)), {{0, public_key{}}}});
  BOOST_TEST((code(caller(*broken, "run", 1, 0).hello()) == errc::refused));
}

BOOST_AUTO_TEST_CASE(run_and_sites_are_part_of_what_is_sealed) {
  const auto one = keys_of(1), zero = keys_of(0);
  const auto accepted = [&](const std::string& run_of_caller, site_id calls, const std::string& run_of_called, site_id is) {
    caller calling(*one, run_of_caller, 1, calls);
    answerer called(*zero, run_of_called, is);
    return bool(called.take_hello(*calling.hello()));
  };
  BOOST_TEST(accepted("run", 0, "run", 0));
  BOOST_TEST(!accepted("run", 0, "other", 0));
  BOOST_TEST(!accepted("run", 0, "run ", 0));
  BOOST_TEST(!accepted("", 0, "run", 0));
  BOOST_TEST(!accepted("run", 2, "run", 0));
  auto alike = std::make_shared<link_keys>(link_keys{identity::of(seeded_secret(1)), one->roster});
  alike->roster[5] = alike->roster[0];
  caller calling(*alike, "run", 1, 5);  // the right key under another site's name
  answerer called(*zero, "run", 0);
  BOOST_TEST(!called.take_hello(*calling.hello()));
}

BOOST_AUTO_TEST_CASE(messages_do_not_fit_into_each_others_place) {
  recording heard;
  pair_of_ends ends;
  BOOST_TEST(steps_accepted(ends, unchanged, &heard) == 3);
  const auto one = keys_of(1), zero = keys_of(0);
  BOOST_TEST(!answerer(*one, "run", 1).take_hello(heard.hello));  // reflected to who sent it
  BOOST_TEST(!answerer(*zero, "run", 0).take_hello(heard.answer));
  caller own(*one, "run", 1, 0);
  const auto hello = *own.hello();
  BOOST_TEST(!own.take_answer(hello));
  caller again(*one, "run", 1, 0);
  static_cast<void>(*again.hello());
  BOOST_TEST(!again.take_answer(heard.answer));  // of another handshake
  answerer crossed(*one, "run", 1);              // both call each other at once: neither takes the other's answer for its own
  caller back(*zero, "run", 0, 1);
  BOOST_TEST_REQUIRE(bool(crossed.take_hello(*back.hello())));
  caller there(*one, "run", 1, 0);
  static_cast<void>(*there.hello());
  BOOST_TEST(!there.take_answer(crossed.answer(header_of_called)));
}

BOOST_AUTO_TEST_CASE(a_recorded_handshake_ends_before_its_last_step) {
  recording heard;
  pair_of_ends ends;
  BOOST_TEST(steps_accepted(ends, unchanged, &heard) == 3);
  const auto zero = keys_of(0), one = keys_of(1);
  answerer called(*zero, "run", 0);
  BOOST_TEST_REQUIRE(bool(called.take_hello(heard.hello)));  // cannot be told from a new one: it is answered, and that is all
  static_cast<void>(called.answer(header_of_called));
  BOOST_TEST((code(called.take_confirm(heard.confirm)) == errc::refused));
  BOOST_TEST(!same(called.secrets().control_in, ends.calling.secrets().control_out));
  caller calling(*one, "run", 1, 0);
  static_cast<void>(*calling.hello());
  BOOST_TEST((code(calling.take_answer(heard.answer)) == errc::refused));
}

BOOST_AUTO_TEST_SUITE_END()
