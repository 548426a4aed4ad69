// docs/manual.md lists every key of every answer; each verb is asked, and both lists must be the same.
#include "framework/metrics/run_store.hpp"
#include "framework/rounds/file_log.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/rounds/parameter_group.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <set>

using namespace isthmus;
using namespace isthmus::tests;
using nlohmann::json;

namespace {

using keys = std::set<std::string>;

/// The quoted words of a table's first cell; ".key" goes on from the path of the word before it.
void add_cell(const std::string& cell, keys& into) {
  std::string path;
  for (std::size_t at = cell.find('`'); at != std::string::npos; at = cell.find('`', at + 1)) {
    const auto end = cell.find('`', at + 1);
    auto word = cell.substr(at + 1, end - at - 1);
    if (word.starts_with(".")) word = path + word;
    path = word.substr(0, word.rfind('.'));
    into.insert(word);
    at = end;
  }
}

keys documented(const std::string& heading) {
  std::ifstream manual("docs/manual.md");
  keys out;
  bool here = false;
  for (std::string line; std::getline(manual, line);) {
    if (line.starts_with("#")) here = line == "### `" + heading + "`";
    if (here && line.starts_with("| `")) add_cell(line.substr(0, line.find('|', 1)), out);
  }
  BOOST_TEST(!out.empty(), "docs/manual.md has no table for " << heading);
  return out;
}

void add_keys(const json& value, const std::string& path, keys& into) {
  if (value.is_object())
    for (const auto& [key, inner] : value.items()) {
      const auto here = path.empty() ? key : path + "." + key;
      into.insert(here);
      add_keys(inner, here, into);
    }
  if (value.is_array())
    for (const auto& inner : value) add_keys(inner, path + "[]", into);
}

/// Also that each list held something, or its keys would be missing.
void check_answer(const std::string& heading, const outcome& o, const keys& absent = {}) {
  const auto answer = json::parse(o.out, nullptr, false);
  BOOST_TEST_REQUIRE(answer.is_object(), heading << ": " << o.out << o.err);
  BOOST_TEST(answer.at("schema") == 1);
  keys found, said = documented(heading);
  add_keys(answer, "", found);
  found.erase("schema");
  for (const auto& key : absent) BOOST_TEST(said.erase(key) == 1U);
  for (const auto& key : found) BOOST_TEST(said.contains(key), heading << " answers " << key << ", which the manual does not list");
  for (const auto& key : said) BOOST_TEST(found.contains(key), heading << " does not answer " << key << ", which the manual lists");
}

void fill_store(const std::string& run) {
  run_store_writer writer(run + "/" + run_store_name);
  writer.put(run_row{"demo-1", "single", "00", "finished", "", 409600, 40, 1, 1, 2, 0, 3, 0, 0});
  writer.put(site_row{0, "alone", 1, "finished", 1, 1, 10, 10240, 1, 1, 6.25, 1000, 2});
  writer.put(event_row{0, "alone", "joined", "epoch 1", 2});
  writer.put(link_row{0, coordinator_id, "up", 0.1, 1, 2, 3, 4, 5, 6, 7, 8});
  writer.put(checkpoint_row{0, 1, 10, "checkpoints/site-0/checkpoint-000001", 100, 0.1, 2});
  writer.put(evaluation_row{0, 1, 10240, "manuals", 6.5, 7, 100, 2});
  BOOST_TEST_REQUIRE(writer.flush());
}

/// Two committed rounds of one group, the second with an audit of the first, and a line that refutes a promise.
void fill_ledgers(const std::string& run) {
  auto disk = open_disk(run);
  coordinator_entry entry;
  entry.view = {1, {{0, 1, false, 0}}, {{0, 0, 0, 0, {}, {}, 0}}, "begin"};
  auto log = file_log::open(**disk, "coordinator.jsonl");
  BOOST_TEST_REQUIRE(log->append(entry).has_value());
  round_record record;
  record.round = record.epoch = 1;
  record.contributors = {{0, 1, 10, 640, {{0, 0, 20}}, 0}};
  record.tokens_total = 640;
  record.weight = 1;
  auto second = record;
  second.round = 2;
  second.contributors.front().step = 20;
  second.contributors.front().leases = {{0, 20, 40}};
  second.tokens_total = 1280;
  second.previous = hash_record(record);
  second.audits = {{0, 1, 0.125, true, 0}};
  auto ledger_file = ledger_writer::open(**disk, ledger_writer::path_of(0), 0, 1);
  for (const auto& line :
       {ledger::started(1), ledger::entered(1, 0, 0), ledger::granted(1, {0, 0, 20}), ledger::stored(record),
        ledger::committed(record, {0}), ledger::applied(record, true), ledger::granted(20, {0, 20, 40}), ledger::stored(second),
        ledger::committed(second, {0}), ledger::checkpoint("c", "durable", {1, 1}), ledger::checkpoint("c", "durable", {1, 2})})
    BOOST_TEST_REQUIRE((*ledger_file)->write(line).has_value());
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(json_answers, prepared_runs)

BOOST_AUTO_TEST_CASE(verbs_that_need_no_run_answer_what_the_manual_lists) {
  check_answer("ls --json", go({"ls", "--json"}));
  check_answer("sim --json", go({"sim", "faults", "--seeds", "1..4", "--json", "scenario.fault_seconds=2", "scenario.heal_seconds=1"}));
  check_answer("sim --real --json",
               go({"sim", "soak", "--real", "--links", "frames", "--json", "run.tokens=60_000", "data.text_bytes_max=300_000",
                   "scenario.fault_seconds=8", "faults.0.at_seconds=7", "faults.0.back_after_seconds=0.5"}));
  check_answer("show --json", go({"show", "quickstart", "--json"}));
  check_answer("show --schema --json", go({"show", "--schema", "--json"}));
  check_answer(
      "validate --json", go({"validate", "single", "--json"}),
      {"problems[].code", "problems[].severity", "problems[].message", "problems[].place", "problems[].allowed", "problems[].help"});
  check_answer("validate --json", go({"validate", "single", "--json", "run.sed=1"}), {"recipe_hash"});
  check_answer("doctor --json", go({"doctor", "--json"}));
  check_answer("keys make --json", go({"keys", "make", (scratch.path / "new.key").string(), "--json"}));
  check_answer("net --json", go({"net", "127.0.0.1:1", "--json"}));
  check_answer("version --json", go({"version", "--json"}));
}

BOOST_AUTO_TEST_CASE(verbs_about_a_run_answer_what_the_manual_lists) {
  const auto run = add("demo");
  fill_store(run);
  fill_ledgers(run);
  add_checkpoint(run);
  check_answer("status --json", go({"status", "--json"}));
  check_answer("status RUN --json", go({"status", "demo", "--json"}));
  const auto ledger = go({"ledger", "demo", "--json"});
  BOOST_TEST(ledger.code == 8);
  check_answer("ledger --json", ledger);
  const auto told = go({"ledger", "demo"}).out;
  BOOST_TEST(contains(told, "audited  1 contribution trained again, 1 of which were not what their samples make (100.0 %)"), told);
  BOOST_TEST(contains(told, "site 0: 1 of 1 failed; cosines 0.125 to 0.125, median 0.125"), told);
  add("other");
  const auto evaluated = go({"evaluate", "demo", "--on", "other", "--json"});
  BOOST_TEST(evaluated.code == 0, evaluated.err);
  check_answer("evaluate --json", evaluated);
  check_answer("keys list --json", go({"keys", "list", "demo", "--json"}));
  check_answer("keys token --json", go({"keys", "token", "demo", "--site", "alone", "--out", (scratch.path / "t").string(), "--json"}));
  check_answer("convert --json", go({"convert", "demo", (scratch.path / "folder").string(), "--json"}));
  check_answer("generate --json", go({"generate", "demo", "--tokens", "3", "--json", "--prompt", "The"}));
}

BOOST_AUTO_TEST_CASE(text_by_medusa_heads_is_the_same_in_fewer_passes) {
  add_checkpoint(add("demo", 'a', 200, {"model.medusa_heads=2"}));
  const auto text = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all{"generate", "demo", "--prompt", "The", "--tokens", "20", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const auto o = go(all);
    BOOST_TEST_REQUIRE(o.code == 0, o.err);
    return json::parse(o.out);
  };
  const auto plain = text({"--temperature", "0", "--one-by-one"}), fast = text({"--temperature", "0"});
  BOOST_TEST(fast.at("text") == plain.at("text"));
  BOOST_TEST(plain.at("tokens_per_pass") == 1);
  BOOST_TEST(fast.at("tokens_per_pass").get<double>() > 1);  // heads that nobody has trained say what the model's own says
  BOOST_TEST(text({}).at("tokens_per_pass") == 1);           // not greedy
}

BOOST_AUTO_TEST_CASE(every_table_of_the_manual_is_of_a_verb_that_was_asked) {
  std::ifstream manual("docs/manual.md");
  int tables = 0;
  for (std::string line; std::getline(manual, line);) tables += line.starts_with("### `") && line.ends_with("--json`") ? 1 : 0;
  BOOST_TEST(tables == 19);
}

BOOST_AUTO_TEST_CASE(errors_are_one_object_with_code_and_message) {
  const auto told = [&](const std::vector<std::string>& arguments, int code, const std::string& word, const std::string& words) {
    const auto o = go(arguments);
    BOOST_TEST(o.code == code, o.err);
    const auto answer = json::parse(o.out, nullptr, false);
    BOOST_TEST_REQUIRE(answer.is_object(), o.out);
    BOOST_TEST(answer.at("schema") == 1);
    BOOST_TEST(answer.at("error").at("code") == word);
    BOOST_TEST(contains(answer.at("error").at("message"), words), answer.dump());
    BOOST_TEST(!o.err.empty());
    BOOST_TEST(go({arguments.front(), "nothing"}).out.empty());  // without --json
  };
  told({"status", "nothing", "--json"}, 5, "not_found", "no run \"nothing\"");
  told({"ledger", "nothing", "--json"}, 5, "not_found", "no run");
  told({"evaluate", "nothing", "--json"}, 5, "not_found", "no run");
  told({"generate", "nothing", "--json"}, 5, "not_found", "no run");
  told({"show", "nothing", "--json"}, 3, "recipe_invalid", "R001");
  told({"lss", "--json"}, 2, "usage", "did you mean \"ls\"?");
  told({"generate", "--tokens", "none", "--json"}, 2, "usage", "--tokens");
  add("ours", 'a');
  add("theirs", 'c');
  told({"evaluate", "ours", "--on", "theirs", "--json"}, 2, "usage", "tokenizer");
}

BOOST_AUTO_TEST_SUITE_END()
