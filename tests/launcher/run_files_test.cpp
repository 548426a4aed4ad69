// What is in a run's folder, and what verbs and processes say when it does not fit.
#include "framework/data/prepare.hpp"
#include "framework/metrics/run_store.hpp"
#include "framework/rounds/file_log.hpp"
#include "framework/rounds/ledger.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <fstream>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

void ends(const outcome& o, int code, const std::string& words) {
  BOOST_TEST(o.code == code, o.code << ": " << o.err << o.out);
  BOOST_TEST(contains(o.err, words), o.err);
}

/// A ledger that tells of an epoch and of a checkpoint, as that of a run that was trained.
void tell_of_training(const std::string& run) {
  const auto disk = open_disk(run);
  BOOST_TEST_REQUIRE((*disk)->make_folders("ledger").has_value());
  auto writer = ledger_writer::open(**disk, ledger_writer::path_of(0), 0, 1);
  BOOST_TEST_REQUIRE(writer.has_value());
  for (const auto& line : {ledger::entered(1, 0, 0), ledger::checkpoint("checkpoints/site-0/checkpoint-000003", "durable", {1, 2})})
    BOOST_TEST_REQUIRE((*writer)->write(line).has_value());
}

/// A log of the coordinator with one epoch.
void add_epoch(const std::string& run) {
  const auto disk = open_disk(run);
  coordinator_entry entry;
  entry.view.number = 1;
  entry.view.members = {{0, 1, false, 0}};
  BOOST_TEST_REQUIRE(file_log::open(**disk, "coordinator.jsonl")->append(entry).has_value());
}

round_row settled(group_id group, round_number round) {
  round_row row;
  row.group = group;
  row.round = round;
  row.contributors = "0";
  return row;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(run_files, prepared_runs)

BOOST_AUTO_TEST_CASE(text_of_another_tokenizer_is_a_matter_of_usage) {
  add("ours", 'a');
  add("theirs", 'c');
  const auto o = go({"evaluate", "ours", "--on", "theirs"});
  ends(o, 2, "--on takes a run with the same one");
  for (const char letter : {'a', 'c'}) BOOST_TEST(contains(o.err, letter_tokenizer(letter).hash().hex()), o.err);
  ends(go({"evaluate", "ours"}), 5, "no checkpoint yet");  // its own text is fine
}

BOOST_AUTO_TEST_CASE(a_shard_of_another_tokenizer_is_a_bad_file) {
  const auto run = add("ours", 'a');
  put_shard(run, 'c', 1000);
  const auto o = go({"evaluate", "ours"});
  ends(o, 5, "perl.shard: byte");
  for (const char letter : {'a', 'c'}) BOOST_TEST(contains(o.err, letter_tokenizer(letter).hash().hex()), o.err);
}

BOOST_AUTO_TEST_CASE(documents_without_a_mark_cannot_be_kept_apart) {
  bpe_model model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  model.tokens.emplace_back("ab");
  model.merges.push_back({'a', 'b', 256});
  auto disk = open_disk(scratch.path.string());
  BOOST_TEST_REQUIRE(write_tokenizer(**disk, "bare.json", tokenizer(std::move(model))).has_value());
  const std::vector<std::string> launch{"launch",
                                        "single",
                                        "--run-folder",
                                        (scratch.path / "new").string(),
                                        "data.vocabulary=257",
                                        "data.tokenizer=" + (scratch.path / "bare.json").string(),
                                        "data.documents=separate"};
  ends(go(launch), 5, "bare.json\" has no <|endoftext|>, by which data.documents = \"separate\"");
}

BOOST_AUTO_TEST_CASE(no_row_to_evaluate_on_is_no_loss_of_zero) {
  const auto run = add("ours");
  add("short", 'a', 32);  // a row of 32 has 33 ids
  ends(go({"evaluate", "ours", "--on", "short"}), 5, "no row of 33 tokens");
  add("bare");
  std::filesystem::remove(scratch.path / "bare" / "roster.json");
  ends(go({"evaluate", "ours", "--on", "bare"}), 5, "has no roster.json");
  ends(go({"evaluate", "bare"}), 5, "has no roster.json");
}

BOOST_AUTO_TEST_CASE(the_round_shown_is_one_that_every_group_has) {
  const auto run = add("ours");  // two groups
  run_store_writer writer(run + "/" + run_store_name);
  writer.put(run_row{"ours", "single", "00", "finished", "", 409600, 40, 1, 1, 2, 0, 3, 0, 0});
  writer.put(settled(0, 5));
  BOOST_TEST_REQUIRE(writer.flush());
  const auto round = [&] { return nlohmann::json::parse(go({"status", "ours", "--json"}).out).at("round").get<int>(); };
  const auto listed = [&] { return nlohmann::json::parse(go({"status", "--json"}).out).at("runs").at(0).at("round").get<int>(); };
  BOOST_TEST(round() == 0);
  BOOST_TEST(listed() == 0);
  writer.put(settled(1, 4));
  BOOST_TEST_REQUIRE(writer.flush());
  BOOST_TEST(round() == 4);
  BOOST_TEST(listed() == 4);
}

BOOST_AUTO_TEST_CASE(an_incarnation_that_is_no_number_is_a_bad_file) {
  const auto run = add("ours");
  for (const std::string who : {"site-0", "coordinator"}) {
    std::filesystem::create_directories(run + "/sites/" + who);
    std::ofstream(run + "/sites/" + who + "/incarnation") << "seven\n";
  }
  ends(run_process(run, "site"), 5, "sites/site-0/incarnation: 'seven");
  ends(run_process(run, "coordinator"), 5, "sites/coordinator/incarnation: 'seven");
}

BOOST_AUTO_TEST_CASE(a_damaged_log_of_the_coordinator_is_a_bad_file) {
  const auto run = add("ours");
  std::ofstream(run + "/coordinator.jsonl") << "nothing\nof the kind\n";
  ends(run_process(run, "coordinator"), 5, "coordinator.jsonl:1");
}

BOOST_AUTO_TEST_CASE(a_run_that_lacks_what_its_ledger_tells_of_is_not_resumed) {
  const auto run = add("ours"), log = run + "/coordinator.jsonl";
  tell_of_training(run);
  ends(go({"resume", "ours"}), 5, "coordinator.jsonl has no epoch or is missing");
  std::ofstream(log) << "{\"t\":\"epoch\"}\n";  // whole, and damaged: no crash leaves that
  ends(go({"resume", "ours"}), 5, "coordinator.jsonl:1");
  std::filesystem::remove(log);
  add_epoch(run);
  ends(go({"resume", "ours"}), 5, "checkpoints holds no checkpoint of any site, though ledger/site-0.jsonl tells of some");
  for (const auto* process : {"site-0", "coordinator"})  // nobody was started: the first thing that anybody does is to take its lock
    BOOST_TEST(!std::filesystem::exists(run + "/sites/" + process + "/lock"));
  std::filesystem::remove(run + "/roster.json");
  ends(go({"resume", "ours"}), 5, "roster.json is missing, though the run was trained");
}

BOOST_AUTO_TEST_CASE(a_roster_that_does_not_fit_the_recipe_is_a_bad_file) {
  const auto run = add("ours"), roster = run + "/roster.json";
  auto people = nlohmann::json::parse(std::ifstream(roster));
  people["sites"][0]["id"] = 77;
  std::ofstream(roster) << people.dump();
  for (const auto* verb : {"resume", "generate", "evaluate"}) ends(go({verb, "ours"}), 5, "\"alone\" with id 77");
  std::ofstream(roster) << "{}";
  ends(go({"resume", "ours"}), 5, "roster.json: a field is missing");
}

BOOST_AUTO_TEST_CASE(a_checkpoint_that_cannot_be_read_is_the_machines_matter) {
  const auto run = add("ours");
  std::filesystem::create_directories(run + "/checkpoints/site-0");
  std::ofstream(run + "/checkpoints/site-0/checkpoint-000001") << "a file where a folder should be";
  ends(run_process(run, "site"), 4, "Not a directory");
}

BOOST_AUTO_TEST_CASE(a_site_whose_checkpoints_are_bad_has_others_beside_it) {
  const auto run = add("ours");
  std::filesystem::remove(run + "/roster.json");  // of one site
  std::ofstream(run + "/recipe.resolved.toml", std::ios::app) << "\n[[sites]]\nname = \"bob\"\nsource = \"perl\"\n";
  const auto spoil = [&](const std::string& folder) { std::ofstream(run + "/" + folder + "/model.safetensors") << "damaged"; };
  const std::vector<std::string> words{"generate", "ours", "--prompt", "x", "--tokens", "1", "--json"};
  const auto round = [&] { return nlohmann::json::parse(go(words).out).at("round").get<int>(); };
  const auto oldest = add_checkpoint(run, 0, 3), newest = add_checkpoint(run, 0, 6), other = add_checkpoint(run, 1, 4);
  BOOST_TEST(round() == 6);
  spoil(newest);
  BOOST_TEST(round() == 4);  // of the other site, not the older one of the same
  spoil(other);
  BOOST_TEST(round() == 3);
  spoil(oldest);
  for (const auto& folder : {oldest, newest, other}) ends(go(words), 5, folder);
}

BOOST_AUTO_TEST_CASE(a_bad_shard_is_told_with_its_folder_once) {
  const auto run = add("ours"), shard = run + "/data/perl.shard";
  const auto each = [&](const std::string& words) {
    for (const auto& o : {run_process(run, "site"), go({"evaluate", "ours"})}) {
      ends(o, 5, words);
      BOOST_TEST(o.err.find(run) == o.err.rfind(run), o.err);
    }
    std::filesystem::remove(run + "/site.log");
  };
  std::ofstream(shard) << "no shard";
  each("error: " + shard);
  std::filesystem::remove(shard);
  each("error: cannot open " + shard);
}

BOOST_AUTO_TEST_CASE(no_run_goes_on_without_its_only_site) {
  const auto run = add("ours");
  std::ofstream(run + "/data/perl.shard") << "no shard";
  const auto o = go({"resume", "ours"});
  ends(o, 5, "a site was given up: alone: exit 5");
  BOOST_TEST(!contains(o.err, "went on without it"), o.err);
}

BOOST_AUTO_TEST_SUITE_END()
