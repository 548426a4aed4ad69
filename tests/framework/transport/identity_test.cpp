#include "framework/transport/identity.hpp"
#include "tests/framework/transport/keys.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

using namespace isthmus;
using namespace isthmus::testing;

namespace {

struct folder {
  folder() {
    char name[] = "/tmp/isthmus_identity_XXXXXX";
    BOOST_REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~folder() { std::filesystem::remove_all(path); }
  std::string key() const { return path + "/key"; }
  std::string text() const {
    std::ifstream in(key());
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void replace(const std::string& text) const {
    std::ofstream(key()) << text;
    BOOST_REQUIRE(::chmod(key().c_str(), 0600) == 0);
  }
  std::string path;
};

void refused(const expected<identity>& outcome, errc code, const std::string& text) {
  BOOST_TEST_REQUIRE(!outcome);
  BOOST_TEST((outcome.error().code == code), describe(outcome.error().code) << ": " << outcome.error().message);
  BOOST_TEST(outcome.error().message.find(text) != std::string::npos, outcome.error().message);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(identities)

BOOST_AUTO_TEST_CASE(a_key_is_read_as_it_was_written_and_never_overwritten) {
  const folder f;
  const auto made = identity::generate();
  const mode_t before = ::umask(0777);  // must not matter
  const auto written = made.write(f.key());
  ::umask(before);
  BOOST_TEST_REQUIRE(bool(written));
  struct stat found {};
  BOOST_REQUIRE(::stat(f.key().c_str(), &found) == 0);
  BOOST_TEST((found.st_mode & 07777) == 0600U);
  const auto read = identity::read(f.key());
  BOOST_TEST_REQUIRE(bool(read));
  BOOST_TEST((read->key() == made.key()));
  BOOST_TEST(f.text().find(to_hex(made.key())) == std::string::npos);  // the file has the other half
  const auto text = f.text();
  const auto again = identity::generate().write(f.key());
  BOOST_TEST_REQUIRE(!again);
  BOOST_TEST((again.error().code == errc::environment));
  BOOST_TEST(again.error().message.find("never overwritten") != std::string::npos);
  BOOST_TEST(f.text() == text);
  BOOST_TEST((identity::generate().key() != made.key()));
}

BOOST_AUTO_TEST_CASE(a_key_that_others_may_read_is_refused_with_its_mode) {
  const folder f;
  BOOST_TEST_REQUIRE(bool(identity::generate().write(f.key())));
  for (const mode_t mode : {0644, 0640, 0604, 0660, 0602, 0610, 0601, 0700, 0400, 04600}) {
    BOOST_REQUIRE(::chmod(f.key().c_str(), mode) == 0);
    char octal[8];
    std::snprintf(octal, sizeof octal, "%04o", mode);
    refused(identity::read(f.key()), errc::environment, std::string("its mode is ") + octal + ", only 0600 is allowed");
    refused(identity::read(f.key()), errc::environment, f.key());
    refused(identity::read(f.key()), errc::environment, "chmod 600");
  }
  BOOST_REQUIRE(::chmod(f.key().c_str(), 0600) == 0);
  BOOST_TEST(bool(identity::read(f.key())));
  if (::geteuid() == 0) {
    BOOST_REQUIRE(::chown(f.key().c_str(), 65534, 65534) == 0);
    refused(identity::read(f.key()), errc::environment, "belongs to user 65534");
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_key_file_is_refused) {
  const folder f;
  refused(identity::read(f.key()), errc::not_found, "it is missing");
  refused(identity::read(f.path), errc::environment, "not a regular file");
  BOOST_REQUIRE(::mkfifo(f.key().c_str(), 0600) == 0);
  refused(identity::read(f.key()), errc::environment, "not a regular file");
  std::filesystem::remove(f.key());
  BOOST_TEST_REQUIRE(bool(identity::generate().write(f.path + "/other")));
  std::filesystem::create_symlink(f.path + "/other", f.key());
  refused(identity::read(f.key()), errc::environment, "symbolic link");
  std::filesystem::rename(f.path + "/other", f.key());
  const auto text = f.text();
  for (std::size_t bytes = 0; bytes < text.size(); ++bytes) {
    f.replace(text.substr(0, bytes));
    refused(identity::read(f.key()), errc::malformed, "remove it and make a new key");
  }
  f.replace(text + "\n");
  refused(identity::read(f.key()), errc::malformed, "a key file has");
  for (std::size_t at = 0; at < text.size(); ++at) {
    auto changed = text;
    changed[at] = '~';
    f.replace(changed);
    refused(identity::read(f.key()), errc::malformed, "remove it and make a new key");
  }
  f.replace(text);
  BOOST_TEST(bool(identity::read(f.key())));
  const auto nowhere = identity::generate().write(f.path + "/missing/key");
  BOOST_TEST_REQUIRE(!nowhere);
  BOOST_TEST((nowhere.error().code == errc::io_failed));
}

BOOST_AUTO_TEST_CASE(public_keys_have_one_text) {
  const auto made = identity::generate();
  const auto hex = to_hex(made.key());
  BOOST_TEST(hex.size() == 64U);
  BOOST_TEST((*parse_public_key(hex) == made.key()));
  BOOST_TEST(!parse_public_key(""));
  BOOST_TEST(!parse_public_key(hex.substr(1)));
  BOOST_TEST(!parse_public_key(hex + "0"));
  BOOST_TEST(!parse_public_key("G" + hex.substr(1)));
  BOOST_TEST(!parse_public_key(":" + hex.substr(1)));
  BOOST_TEST(!parse_public_key(std::string(64, 'A')));  // upper case: another text of the same key
}

BOOST_AUTO_TEST_CASE(both_ends_agree_and_points_of_small_order_are_no_keys) {
  const auto a = identity::generate(), b = identity::generate();
  secret ours, theirs;
  BOOST_TEST(a.agree(b.key(), ours));
  BOOST_TEST(b.agree(a.key(), theirs));
  BOOST_TEST((std::ranges::equal(ours.bytes(), theirs.bytes())));
  public_key zero{}, one{};
  one[0] = std::byte{1};
  BOOST_TEST(!a.agree(zero, ours));
  BOOST_TEST(!a.agree(one, ours));
}

BOOST_AUTO_TEST_CASE(a_roster_must_have_our_key_and_each_key_once) {
  BOOST_TEST(bool(check_keys(*keys_of(1), 1)));
  const auto other = check_keys(*keys_of(1), 2);
  BOOST_TEST_REQUIRE(!other);
  BOOST_TEST(other.error().message.find("site 2") != std::string::npos);
  BOOST_TEST(!check_keys(*keys_of(1, {0, 2}), 1));
  link_keys twice{identity::generate(), {}};
  twice.roster[0] = twice.roster[3] = twice.own.key();
  const auto same = check_keys(twice, 0);
  BOOST_TEST_REQUIRE(!same);
  BOOST_TEST(same.error().message.find("the same public key") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
