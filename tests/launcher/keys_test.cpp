// The secret keys of a run's processes: who may read them, and what is said when they do not fit.
#include "framework/transport/identity.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

namespace fs = std::filesystem;

void ends(const outcome& o, int code, const std::string& words) {
  BOOST_TEST(o.code == code, o.code << ": " << o.err << o.out);
  BOOST_TEST(contains(o.err, words), o.err);
}

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void write_private(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  return text.replace(text.find(what), what.size(), with);
}

/// On loopback; free a moment ago.
std::string free_address() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ::bind(socket, reinterpret_cast<sockaddr*>(&at), size);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &size);
  ::close(socket);
  return "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
}

constexpr auto private_file = fs::perms::owner_read | fs::perms::owner_write;

}  // namespace

BOOST_FIXTURE_TEST_SUITE(keys, prepared_runs)

BOOST_AUTO_TEST_CASE(a_key_that_others_may_read_keeps_a_run_from_going_on) {
  const auto run = add("ours");
  for (const std::string process : {"site-0", "coordinator"}) {
    const auto key = run + "/sites/" + process + "/key";
    fs::permissions(key, private_file | fs::perms::group_read | fs::perms::others_read);
    ends(go({"resume", "ours"}), 4, key + ": its mode is 0644, only 0600 is allowed");
    ends(run_process(run, process == "coordinator" ? "coordinator" : "site"), 4, "chmod 600 " + key);
    fs::permissions(key, private_file);
  }
}

BOOST_AUTO_TEST_CASE(a_damaged_key_is_a_bad_file) {
  const auto run = add("ours"), key = run + "/sites/site-0/key";
  const auto size = fs::file_size(key);
  fs::resize_file(key, size - 1);
  ends(go({"resume", "ours"}), 5, key + ": ");
  ends(run_process(run, "site"), 5, "remove it and make a new key");
  fs::remove(key);
  ends(run_process(run, "site"), 5, key + ": it is missing");
}

BOOST_AUTO_TEST_CASE(a_key_of_another_run_is_told) {
  const auto run = add("ours"), other = add("theirs"), key = run + "/sites/site-0/key";
  fs::remove(key);
  fs::rename(other + "/sites/site-0/key", key);
  ends(run_process(run, "site"), 4, "bring them from the same run");
  auto roster = nlohmann::json::parse(std::ifstream(run + "/roster.json"));
  roster["sites"][0]["key"] = "short";
  std::ofstream(run + "/roster.json") << roster.dump();
  ends(run_process(run, "site"), 5, "roster.json: the key of sites/site-0: a public key is 64");
}

BOOST_AUTO_TEST_CASE(the_verb_makes_shows_and_rotates_a_key_file) {
  const auto file = (scratch.path / "alpha.key").string();
  const auto made = go({"keys", "make", file});
  BOOST_TEST(made.code == 0, made.err);
  BOOST_TEST(bool(parse_public_key(made.out.substr(0, made.out.size() - 1))), made.out);
  BOOST_TEST((fs::status(file).permissions() == private_file));
  BOOST_TEST(go({"keys", "show", file}).out == made.out);
  ends(go({"keys", "make", file}), 4, "never overwritten");
  std::ofstream(file + ".new") << "left by one that was killed";
  const auto rotated = go({"keys", "rotate", file});
  BOOST_TEST(rotated.code == 0, rotated.err);
  BOOST_TEST(rotated.out != made.out);
  BOOST_TEST(go({"keys", "show", file}).out == rotated.out);
  BOOST_TEST((fs::status(file).permissions() == private_file));
  BOOST_TEST(!fs::exists(file + ".new"));
  std::ifstream text(file);
  std::string secret;
  std::getline(text, secret);
  for (const auto& o : {made, rotated}) BOOST_TEST(!contains(o.out + o.err, secret.substr(secret.size() - 64)));
  fs::permissions(file, private_file | fs::perms::group_read);
  ends(go({"keys", "rotate", file}), 4, "only 0600 is allowed");
  ends(go({"keys", "show", file + ".none"}), 5, "it is missing");
  ends(go({"keys", "make"}), 2, "needs the path");
  ends(go({"keys", "forge", file}), 2, "forge");
}

BOOST_AUTO_TEST_CASE(the_verb_lists_the_keys_of_a_run_and_sees_one_that_was_rotated) {
  const auto run = add("ours"), key = run + "/sites/site-0/key";
  const auto before = go({"keys", "list", "ours"});
  BOOST_TEST(before.code == 0, before.err);
  BOOST_TEST(contains(before.out, go({"keys", "show", key}).out.substr(0, 64)), before.out);
  BOOST_TEST(!contains(before.out, "another"), before.out);
  BOOST_TEST(go({"keys", "rotate", key}).code == 0);
  const auto after = go({"keys", "list", "ours"});
  BOOST_TEST(contains(after.out, "the roster has another one"), after.out);
  fs::remove(key);
  BOOST_TEST(contains(go({"keys", "list", "ours"}).out, "its file is not here"));
}

BOOST_AUTO_TEST_CASE(a_newcomer_enters_its_key_with_a_token_once) {
  const auto run = add("ours");
  const auto desk = free_address(), token = (scratch.path / "join.token").string(), key = (scratch.path / "new.key").string();
  const auto make = [&](const std::string& out, const std::string& expires) {
    return go({"keys", "token", "ours", "--site", "alone", "--expires", expires, "--listen", desk, "--out", out});
  };
  ends(go({"keys", "token", "ours", "--site", "nobody", "--out", token}), 2, "no such site");
  ends(make(token, "1y"), 2, "--expires 1y");
  ends(go({"join", token, "--key", key}), 5, "No such file");
  const auto made = make(token, "1h");
  BOOST_TEST_REQUIRE(made.code == 0, made.err);
  BOOST_TEST((fs::status(token).permissions() == private_file));
  BOOST_TEST((fs::status(run + "/sites/coordinator/tokens").permissions() == private_file));
  ends(make(token, "1h"), 4, "there already");
  const auto text = text_of(token), secret = text.substr(text.find("secret ") + 7, 64);
  const auto expired = (scratch.path / "expired.token").string(), more = (scratch.path / "more.token").string();
  BOOST_TEST_REQUIRE(make(expired, "1s").code == 0);
  BOOST_TEST_REQUIRE(make(more, "1h").code == 0);  // keeps the desk open after the first
  ends(go({"join", token, "--key", key}), 4, "cannot reach");

  const auto log = (scratch.path / "desk.log").string();
  auto surroundings = where;
  surroundings.output = log;
  const pid_t admitting = start_isthmus({"keys", "admit", "ours", "--listen", desk}, surroundings);
  outcome joined;
  for (int i = 0; i < 100 && (i == 0 || joined.code == 4); ++i) {
    ::usleep(50'000);
    joined = go({"join", token, "--key", key});
  }
  BOOST_TEST(joined.code == 0, joined.err);
  const auto public_half = go({"keys", "show", key}).out.substr(0, 64);
  BOOST_TEST(contains(joined.out, public_half));
  const auto roster = nlohmann::json::parse(std::ifstream(run + "/roster.json"));
  BOOST_TEST(roster["sites"][0]["key"] == public_half);
  BOOST_TEST(!fs::exists(run + "/sites/site-0/key"));
  BOOST_TEST(contains(go({"keys", "list", "ours"}).out, "where it was made"));

  ends(go({"join", token, "--key", key}), 6, "used before");
  ::sleep(1);
  ends(go({"join", expired, "--key", key}), 6, "expired");
  const auto strange = (scratch.path / "strange.token").string();
  write_private(strange, replaced(text, secret, std::string(64, 'a')));
  ends(go({"join", strange, "--key", key}), 6, "never given out");
  const auto of_another_desk = (scratch.path / "desk.token").string();
  write_private(of_another_desk, replaced(text, text.substr(text.find("desk ") + 5, 64),
                                          go({"keys", "make", (scratch.path / "x.key").string()}).out.substr(0, 64)));
  ends(go({"join", of_another_desk, "--key", key}), 6, "ended the conversation");
  const auto last = go({"join", more, "--key", (scratch.path / "other.key").string()});
  BOOST_TEST(last.code == 0, last.err);
  int status = -1;
  ::waitpid(admitting, &status, 0);  // no token is left
  BOOST_TEST(WEXITSTATUS(status) == 0);
  BOOST_TEST(!contains(text_of(log), secret));
  BOOST_TEST(!contains(text_of(run + "/sites/coordinator/tokens"), secret));
  BOOST_TEST(!contains(text_of(run + "/roster.json"), secret));
  fs::permissions(token, private_file | fs::perms::group_read);
  ends(go({"join", token, "--key", key}), 4, "mode 0600");
}

BOOST_AUTO_TEST_SUITE_END()
