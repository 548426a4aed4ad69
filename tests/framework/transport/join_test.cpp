#include "framework/transport/join.hpp"

#include "framework/transport/token_book.hpp"
#include "tests/framework/transport/keys.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

using namespace isthmus;
using namespace isthmus::testing;

namespace {

namespace fs = std::filesystem;

struct folder {
  folder() : path(fs::temp_directory_path() / ("isthmus-tokens-" + std::to_string(::getpid()))) { fs::create_directories(path); }
  ~folder() { fs::remove_all(path); }
  fs::path path;
};

const std::string run = "run-1";

}  // namespace

BOOST_AUTO_TEST_SUITE(join)

BOOST_AUTO_TEST_CASE(a_claim_is_read_by_whom_the_token_names_and_by_nobody_else) {
  const auto desk = identity::generate(), other = identity::generate(), newcomer = identity::generate();
  const secret token = draw_token();
  join_caller caller(run, desk.key(), token, newcomer.key());
  BOOST_TEST_REQUIRE(caller.request().size() == join_request_bytes);
  join_desk right(desk, run), of_another_run(desk, "run-2"), of_another_key(other, run);
  BOOST_TEST((of_another_run.read(caller.request()).error().code == errc::checksum_mismatch));
  BOOST_TEST((of_another_key.read(caller.request()).error().code == errc::checksum_mismatch));
  const auto claim = right.read(caller.request());
  BOOST_TEST_REQUIRE(bool(claim));
  BOOST_TEST((claim->token == hash_of_token(token)));
  BOOST_TEST((claim->newcomer == newcomer.key()));
  const auto answer = right.answer({});
  BOOST_TEST(answer.size() == join_answer_bytes);
  auto changed = answer;
  changed[7] ^= std::byte{1};
  join_caller again(run, desk.key(), token, newcomer.key());
  BOOST_TEST((again.read_answer(answer).error().code == errc::checksum_mismatch));  // of another conversation
  BOOST_TEST(bool(caller.read_answer(answer)));
}

BOOST_AUTO_TEST_CASE(a_refusal_is_told_in_words) {
  const auto desk = identity::generate();
  join_caller caller(run, desk.key(), draw_token(), identity::generate().key());
  join_desk right(desk, run);
  BOOST_TEST_REQUIRE(bool(right.read(caller.request())));
  const auto heard = caller.read_answer(right.answer(fail(errc::refused, "this token was used before")));
  BOOST_TEST((heard.error().code == errc::refused));
  BOOST_TEST(heard.error().message.find("used before") != std::string::npos, heard.error().message);
}

BOOST_AUTO_TEST_CASE(no_changed_request_is_read) {
  const auto desk = identity::generate();
  const join_caller caller(run, desk.key(), draw_token(), identity::generate().key());
  for (std::size_t bit = 0; bit < 8 * join_request_bytes; ++bit) {
    auto bytes = caller.request();
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    if (bit == 8 * (4 + 31) + 7) continue;  // X25519 takes no heed of the last bit of a key; said as it came, it is in the transcript
    BOOST_TEST_REQUIRE(!join_desk(desk, run).read(bytes), "bit " << bit);
  }
  BOOST_TEST(!join_desk(desk, run).read(std::span(caller.request()).first(join_request_bytes - 1)));
  BOOST_TEST(!join_desk(desk, run).read({}));
}

BOOST_FIXTURE_TEST_CASE(a_token_is_good_once_and_for_its_time, folder) {
  const auto file = (path / "tokens").string();
  token_book book(file);
  const secret one = draw_token(), late = draw_token(), strange = draw_token();
  BOOST_TEST_REQUIRE(bool(book.add({2, hash_of_token(one), 1000, false})));
  BOOST_TEST_REQUIRE(bool(book.add({3, hash_of_token(late), 500, false})));
  BOOST_TEST((book.use(hash_of_token(strange), 10).error().code == errc::not_found));
  BOOST_TEST((book.use(hash_of_token(late), 500).error().code == errc::timed_out));
  BOOST_TEST(*book.use(hash_of_token(one), 999) == 2U);
  BOOST_TEST((token_book(file).use(hash_of_token(one), 999).error().code == errc::refused));  // also to another process
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  BOOST_TEST(text.str().find(token_text(one)) == std::string::npos);
  BOOST_TEST((fs::status(file).permissions() == (fs::perms::owner_read | fs::perms::owner_write)));
}

BOOST_FIXTURE_TEST_CASE(a_book_that_others_may_read_or_that_is_damaged_is_told, folder) {
  const auto file = (path / "tokens").string();
  token_book book(file);
  BOOST_TEST(book.read()->empty());
  BOOST_TEST_REQUIRE(bool(book.add({2, hash_of_token(draw_token()), 1000, false})));
  ::chmod(file.c_str(), 0644);
  BOOST_TEST((book.read().error().code == errc::environment));
  ::chmod(file.c_str(), 0600);
  std::ofstream(file, std::ios::app) << "2 abc 1000 open\n";
  BOOST_TEST((book.read().error().code == errc::malformed));
  std::ofstream(file) << "something else\n";
  BOOST_TEST((book.use(hash_of_token(draw_token()), 1).error().code == errc::malformed));
}

BOOST_AUTO_TEST_CASE(a_token_is_read_as_it_was_written) {
  const secret token = draw_token();
  const auto again = parse_token(token_text(token));
  BOOST_TEST_REQUIRE(bool(again));
  BOOST_TEST((hash_of_token(*again) == hash_of_token(token)));
  for (const std::string bad : {"", "00", std::string(64, 'g').c_str()}) BOOST_TEST(!parse_token(bad));
}

BOOST_AUTO_TEST_SUITE_END()
