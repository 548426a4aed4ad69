// Users' own actors talk from site to site through the site supervisors and their links.
#include "actors/messages.hpp"
#include "actors/sim/cluster.hpp"

#include <boost/test/unit_test.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <nlohmann/json.hpp>

#include <cstring>
#include <set>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

shared_bytes bytes_of(const std::string& text) { return make_shared_bytes(std::as_bytes(std::span(text.data(), text.size()))); }
std::string text_of(const shared_bytes& bytes) { return {reinterpret_cast<const char*>(bytes->data()), bytes->size()}; }

struct heard {
  site_id at, from;
  std::string name, text;
  bool operator==(const heard&) const = default;
};

/// Notes what it hears, and sends it back with a bang when a question mark ends it.
caf::behavior parrot(caf::event_based_actor* self, site_id at, caf::actor supervisor, std::vector<heard>* log) {
  return {[=](const from_actor& m) {
    const auto text = text_of(m.payload);
    log->push_back({at, m.from, m.name, text});
    if (text.ends_with('?')) self->send(supervisor, send_to_actor{m.from, "parrot", bytes_of(text + "!")});
  }};
}

struct parrots : cluster {
  std::vector<heard> log;
  std::vector<caf::actor> birds;

  parrots() : cluster({.seed = 21, .sites = 2, .overrides = {}}) {
    start_all();
    for (const site_id site : {0U, 1U}) {
      birds.push_back(system().spawn(parrot, site, root(site), &log));
      caf::anon_send(root(site), register_actor{"parrot", birds.back()});
    }
    BOOST_REQUIRE(run_until([&] { return last_round() >= 1; }, 60s));
  }
  ~parrots() {
    for (auto& bird : birds) caf::anon_send_exit(bird, caf::exit_reason::kill);
  }
  void say(site_id from, site_id to, const std::string& name, const std::string& text) {
    caf::anon_send(root(from), send_to_actor{to, name, bytes_of(text)});
    run_for(500ms);
  }
  std::size_t times_told(const std::string& words) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(events(), [&](const auto& e) { return e.kind == "no_actor" && e.text.find(words) != std::string::npos; }));
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(named_actor_test, parrots)

BOOST_AUTO_TEST_CASE(a_message_reaches_the_actor_of_that_name_at_the_other_site_and_an_answer_comes_back) {
  say(0, 1, "parrot", "who?");
  const std::vector<heard> expected{{1, 0, "parrot", "who?"}, {0, 1, "parrot", "who?!"}};
  BOOST_TEST((log == expected), log.size());
  say(1, 1, "parrot", "myself");  // no link, the same door
  BOOST_TEST((log.back() == heard{1, 1, "parrot", "myself"}));
  const std::string long_text(3 << 20, 'x');  // several chunks
  say(0, 1, "parrot", long_text);
  BOOST_TEST((log.back() == heard{1, 0, "parrot", long_text}));
  say(0, 1, "parrot", "");
  BOOST_TEST((log.back() == heard{1, 0, "parrot", ""}));
}

BOOST_AUTO_TEST_CASE(a_name_that_nobody_has_is_told_once_and_harms_nothing) {
  for (int i = 0; i < 3; ++i) say(0, 1, "nobody", "hello?");
  BOOST_TEST(log.empty());
  BOOST_TEST(times_told("\"nobody\"") == 1U);
  caf::anon_send_exit(birds[1], caf::exit_reason::user_shutdown);
  run_for(10ms);
  say(0, 1, "parrot", "are you there?");
  BOOST_TEST(times_told("\"parrot\"") == 1U);
  BOOST_TEST(run_until([&] { return all_finished(); }, 300s));
  BOOST_TEST(ledgers().balanced(), describe_violations());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(checkpoint_lines)

BOOST_AUTO_TEST_CASE(what_a_power_cut_leaves_to_be_loaded_stands_in_the_ledger) {
  for (const auto later : {0ms, 40ms, 160ms}) {
    cluster c({.seed = 22, .sites = 1, .overrides = {}});
    c.start_all();
    BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 13; }, 120s));  // a checkpoint every 3 rounds, two are kept
    c.run_for(later);
    c.kill_site(0);
    c.kill_coordinator();
    c.run_for(10ms);
    c.disk.crash();
    c.start_all();
    BOOST_TEST(c.run_until([&] { return c.all_finished(); }, 300s));
    std::map<std::string, std::set<std::string>> said;  // state -> id and hash
    const auto bytes = c.disk.open("run")->read("ledger/site-0.jsonl", 1 << 26);
    BOOST_TEST_REQUIRE(bytes.has_value());
    std::istringstream lines(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()));
    for (std::string line; std::getline(lines, line);)
      if (const auto body = nlohmann::json::parse(line); body.at("t") == "checkpoint")
        said[body.at("state")].insert(body.at("id").get<std::string>() + body.at("manifest").get<std::string>());
    BOOST_TEST(said["saving"].size() >= 4U);
    BOOST_TEST(said["removed"].size() >= 2U);
    BOOST_TEST_REQUIRE(said["loaded"].size() == 1U);
    BOOST_TEST(said["saving"].contains(*said["loaded"].begin()));
    for (const auto& gone : said["removed"]) BOOST_TEST(said["durable"].contains(gone));
    for (const auto& v : c.ledgers().violations) BOOST_TEST(!v.rule.starts_with("checkpoint"), v.where << " " << v.what);
  }
}

BOOST_AUTO_TEST_SUITE_END()
