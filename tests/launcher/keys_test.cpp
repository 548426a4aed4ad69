// The secret keys of a run's processes: who may read them, and what is said when they do not fit.
#include "framework/transport/identity.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

namespace fs = std::filesystem;

void ends(const outcome& o, int code, const std::string& words) {
  BOOST_TEST(o.code == code, o.code << ": " << o.err << o.out);
  BOOST_TEST(contains(o.err, words), o.err);
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

BOOST_AUTO_TEST_SUITE_END()
