#include "tests/launcher/program.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <csignal>
#include <fstream>
#include <iterator>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace isthmus::tests;

namespace {

/// Exit code, nothing on standard output, and these words on standard error.
void refused(const std::vector<std::string>& arguments, int code, const std::string& words) {
  const auto o = run_isthmus(arguments);
  BOOST_TEST(o.code == code, (arguments.empty() ? "" : arguments.front().substr(0, 40)) << ": " << o.code << " " << o.err.substr(0, 500));
  BOOST_TEST(o.out.empty());
  BOOST_TEST(contains(o.err, words), o.err.substr(0, 500));
  BOOST_TEST(o.err.size() < 2000U);
}

nlohmann::json json_of(const std::vector<std::string>& arguments, int code = 0) {
  const auto o = run_isthmus(arguments);
  BOOST_TEST(o.code == code, o.err);
  auto parsed = nlohmann::json::parse(o.out, nullptr, false);
  BOOST_TEST_REQUIRE(!parsed.is_discarded(), o.out);
  BOOST_TEST(parsed.at("schema") == 1);
  return parsed;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(arguments)

BOOST_AUTO_TEST_CASE(usage_errors_exit_2_and_suggest) {
  refused({"lss"}, 2, "did you mean \"ls\"?");
  refused({"valdiate", "x"}, 2, "did you mean \"validate\"?");
  refused({"frobnicate"}, 2, "verbs: ");
  refused({""}, 2, "unknown verb \"\"");
  refused({"show", "--orign"}, 2, "did you mean \"--origin\"?");
  refused({"show", "quickstart", "--origin=x=y"}, 2, "--origin");
  refused({"--quite", "ls"}, 2, "did you mean \"--quiet\"?");
  refused({"ls", "extra"}, 2, "unknown argument \"extra\"");
  refused({"validate"}, 2, "recipe is required");
  refused({"cp", "quickstart"}, 2, "destination is required");
  refused({"--color"}, 2, "--color");
  refused({"--color=maybe", "ls"}, 2, "auto");
  refused({"--color=never", "--color=always", "ls"}, 2, "--color");
  refused({"show"}, 2, "needs a recipe");
  refused(
      {"show", "nonsense", "--schema"}, 2,
      "no section \"nonsense\"; there are run, model, train, round, guard, data, links, coordinator, checkpoint, scenario, sites, faults");
  refused({"ls", "cp"}, 2, "cp");
}

BOOST_AUTO_TEST_CASE(a_simulation_that_makes_no_sense_is_refused) {
  for (const char* seeds :
       {"", "x", "1..", "..3", "3..1", "1...3", "1..3x", "-1", "1..-2", "18446744073709551616", "1..9223372036854775807"})
    refused({"sim", "faults", "--seeds", seeds}, 2, "--seeds");
  refused({"sim"}, 2, "recipe is required");
  refused({"sim", "faults", "--jobs", "0"}, 2, "--jobs");
  refused({"sim", "faults", "--seeds", "1..2", "--shrink", "x.toml"}, 2, "one seed");
  refused({"sim", "faults", "--seeds", "1", "--shrink", "x.toml"}, 2, "nothing to shrink");
  refused({"sim", "faults", "--seeds", "1..2", "--keep", "x"}, 2, "one seed");
  refused({"sim", "no-such-recipe"}, 3, "no-such-recipe");
  refused({"launch", "faults"}, 3, "isthmus sim");
}

BOOST_AUTO_TEST_CASE(hostile_arguments) {
  refused({std::string(120 << 10, 'x')}, 2, "unknown verb");
  refused({"show", "quickstart", "run.name=" + std::string((128 << 10) - 100, 'y')}, 3, "R014");
  refused({"\xff\xfe\x1b[2J"}, 2, "unknown verb \"???[2J\"");
  refused({"show", "\xff\x1b[31m"}, 3, "R001");
  refused({"show", "quickstart", "\x1b[31m=\xff"}, 3, "R020");
  refused({"show", "quickstart", "=\xff"}, 3, "R020");
  refused({"show", "quickstart", "-x"}, 2, "unknown flag \"-x\"");
  refused({"show", ""}, 2, "needs a recipe");
  refused({"validate", ""}, 3, "R001");
  refused({"validate", "."}, 3, "R002");
  refused({"validate", "quickstart", "run.name=../../etc"}, 3, "R014");
}

BOOST_AUTO_TEST_CASE(empty_words_mean_nothing_and_are_refused) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"resume", ""},
                                                {"status", ""},
                                                {"generate", ""},
                                                {"evaluate", ""},
                                                {"evaluate", "demo", "--on", ""},
                                                {"ledger", ""},
                                                {"cp", "quickstart", ""},
                                                {"launch", "quickstart", "--run-folder", ""}})
    refused(words, 2, "must not be empty");
  refused({"launch", "quickstart", "--run-folder="}, 2, "--run-folder");
  refused({"launch", ""}, 3, "R001");
  refused({"validate", "quickstart", ""}, 3, "R020");
  refused({"--color=", "ls"}, 2, "--color");
}

BOOST_AUTO_TEST_CASE(values_that_begin_with_a_dash) {
  refused({"cp", "quickstart", "-x"}, 2, "unknown flag \"-x\"");
  refused({"cp", "quickstart", "--froce"}, 2, "did you mean \"--force\"?");
  refused({"validate", "-1"}, 3, "R001");  // a number is no flag
  refused({"launch", "--run-folder", "--quiet", "quickstart"}, 2, "--quiet begins with a dash; ./--quiet is such a folder");
  refused({"generate", "--tokens", "--quiet"}, 2, "--tokens");
  refused({"validate", "--", "-x"}, 3, "R001");
}

BOOST_AUTO_TEST_CASE(flags_that_contradict_each_other_or_come_twice) {
  refused({"show", "--schema", "--origin"}, 2, "excludes");
  refused({"show", "--schema", "model", "run.seed=1"}, 2, "excludes");
  refused({"generate", "--tokens", "3", "--tokens", "4"}, 2, "--tokens");
  refused({"launch", "quickstart", "--run-folder", "a", "--run-folder", "b"}, 2, "--run-folder");
  refused({"ls", "--json=maybe"}, 2, "--json");
  BOOST_TEST(run_isthmus({"ls", "--json", "--json"}).code == 0);  // said twice, but the same
}

BOOST_AUTO_TEST_CASE(arguments_of_a_megabyte) {
  // The kernel takes no single argument past 128 KiB; a megabyte comes in many.
  std::vector<std::string> many{"validate", "quickstart"};
  for (int i = 0; i < 9; ++i) many.push_back("run.name=" + std::string(120 << 10, 'x'));
  const auto o = run_isthmus(many);
  BOOST_TEST(o.code == 3);
  BOOST_TEST(contains(o.err, "R014"), o.err.substr(0, 500));
  BOOST_TEST(o.err.size() < 2000U);
  refused({"show", "quickstart", "run.seed=" + std::string(100 << 10, '[')}, 3, "R013");
  refused({"show", "quickstart", "run.seed={a" + std::string(100 << 10, '.') + "=1}"}, 3, "R005");
}

BOOST_AUTO_TEST_CASE(surroundings_that_make_no_sense) {
  const auto at = [](const std::string& variable, const std::vector<std::string>& arguments) {
    return run_isthmus(arguments, {{variable}, {}, {}, false, ~std::size_t{0}});
  };
  for (const std::string& root : {std::string("/dev/null"), std::string(5000, 'x')})
    for (const std::vector<std::string>& words : {std::vector<std::string>{"status"}, {"status", "x"}, {"resume", "x"}, {"ledger"}}) {
      const auto o = at("ISTHMUS_RUNS=" + root, words);
      BOOST_TEST(o.code == 4, o.err);
      BOOST_TEST(contains(o.err, "is ISTHMUS_RUNS what you meant?"), o.err);
      BOOST_TEST(o.err.size() < 500U);
    }
  const auto odd = at("ISTHMUS_RUNS=\xff\x1b[31m", {"status", "nothing"});
  BOOST_TEST(odd.code == 5);
  BOOST_TEST(contains(odd.err, "??[31m"), odd.err);
  for (const auto* variable : {"TERM=\xff", "LC_ALL=nonsense", "COLUMNS=-3", "NO_COLOR=\xff", "ISTHMUS_RUNS=", "UCX_TLS=nonsense"})
    BOOST_TEST(at(variable, {"ls"}).code == 0, variable);
}

BOOST_AUTO_TEST_CASE(no_verb_shows_the_help) {
  const auto o = run_isthmus({});
  BOOST_TEST(o.code == 2);
  for (const auto* verb : {"ls", "cp", "show", "validate", "doctor", "version"}) BOOST_TEST(contains(o.out, verb), verb);
  BOOST_TEST(run_isthmus({"--help"}).code == 0);
}

BOOST_AUTO_TEST_CASE(every_verb_has_help_with_an_example) {
  std::istringstream lines(run_isthmus({"--help"}).out);
  bool verbs = false;
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("Subcommands:"))
      verbs = true;
    else if (verbs && line.starts_with("  ") && line[2] != ' ' && !contains(line, "isthmus")) {
      const auto verb = line.substr(2, line.find(' ', 2) - 2);
      const auto o = run_isthmus({verb, "--help"});
      BOOST_TEST(o.code == 0, verb);
      BOOST_TEST(contains(o.out, "Example:\n  isthmus " + verb), verb);
      ++count;
    }
  }
  BOOST_TEST(count >= 6);
}

BOOST_AUTO_TEST_CASE(reading_verbs_answer_json) {
  BOOST_TEST(json_of({"ls", "--json"}).at("recipes").size() >= 3U);
  BOOST_TEST(json_of({"version", "--json"}).at("name") == "isthmus");
  BOOST_TEST(json_of({"show", "quickstart", "--json"}).at("rounds") >= 30);
  const auto keys = json_of({"show", "links", "--schema", "--json"}).at("keys");
  BOOST_TEST(keys.at(0).at("key").get<std::string>().starts_with("links."));
  BOOST_TEST(!keys.at(0).at("meaning").get<std::string>().empty());
  const auto valid = json_of({"validate", "single", "--json"});
  BOOST_TEST(valid.at("valid") == true);
  BOOST_TEST(valid.at("recipe_hash").get<std::string>().size() == 32U);
  const auto invalid = json_of({"validate", "single", "--json", "run.sed=1", "train.beta1=2", "run.name=a\xff"}, 3);
  BOOST_TEST(invalid.at("valid") == false);
  BOOST_TEST(invalid.at("problems").size() >= 3U);
  BOOST_TEST(invalid.at("problems").at(0).contains("place"));
}

BOOST_AUTO_TEST_CASE(validate_shows_every_error_and_a_valid_recipe_its_hash) {
  const auto bad = run_isthmus({"validate", "quickstart", "run.seed=-1", "links.endpoints=99", "sites.alpha.home=7"});
  BOOST_TEST(bad.code == 3);
  for (const auto* words : {"run.seed", "links.endpoints", "sites.0.home", "override `run.seed=-1`"})
    BOOST_TEST(contains(bad.err, words), bad.err);
  const auto nobody = run_isthmus({"validate", "quickstart", "modle.d_model=3"});
  BOOST_TEST(contains(nobody.err, "--> override `modle.d_model=3`"), nobody.err);
  BOOST_TEST(contains(nobody.err, "did you mean \"model\"?"), nobody.err);
  const auto good = run_isthmus({"validate", "quickstart"});
  BOOST_TEST(good.code == 0);
  BOOST_TEST(contains(good.out, "valid  "));
  const auto nowhere = run_isthmus({"validate", "quickstart", "sites.alpha.source=atlantis"});
  BOOST_TEST(nowhere.code == 3);
  BOOST_TEST(contains(nowhere.err, "R045"));
  const auto alike = run_isthmus({"validate", "quickstart", "data.split=alike", "sites.alpha.source=atlantis"});
  BOOST_TEST(alike.code == 3);  // the union is drawn from those that are named
  BOOST_TEST(contains(alike.err, "R045"));
}

BOOST_AUTO_TEST_CASE(doctor_tells_who_multiplies_matrices) {
  const auto answer = nlohmann::json::parse(run_isthmus({"doctor", "--json"}).out);
  bool told = false;
  for (const auto& f : answer.at("findings"))
    if (f.at("what") == "products") {
      const auto found = f.at("found").get<std::string>();
      told = contains(found, "oneDNN ") || contains(found, "OpenBLAS ") || contains(found, "own kernels");
      BOOST_TEST((!contains(found, "oneDNN ") || contains(found, "(") || contains(found, "no fast code")), found);
    }
  BOOST_TEST(told, answer.dump());
}

BOOST_AUTO_TEST_CASE(a_shown_recipe_is_the_recipe) {
  const scratch_folder scratch;
  const auto file = (scratch.path / "resolved.toml").string();
  const auto shown = run_isthmus({"show", "quickstart", "run.seed=77"});
  std::ofstream(file) << shown.out;
  BOOST_TEST(run_isthmus({"show", file}).out == shown.out);
  BOOST_TEST(contains(run_isthmus({"show", "quickstart", "run.seed=77", "--origin"}).out, "override `run.seed=77`"));
}

BOOST_AUTO_TEST_CASE(cp_never_overwrites_unasked) {
  const scratch_folder scratch;
  const auto file = (scratch.path / "mine.toml").string();
  BOOST_TEST(run_isthmus({"cp", "quickstart", file}).code == 0);
  refused({"cp", "single", file}, 2, "exists");
  BOOST_TEST(run_isthmus({"validate", file}).code == 0);
  BOOST_TEST(run_isthmus({"cp", "single", file, "--force"}).code == 0);
  BOOST_TEST(contains(run_isthmus({"show", file}).out, "name = \"single\""));
  BOOST_TEST(run_isthmus({"cp", "single", scratch.path.string()}).code == 0);
  BOOST_TEST(std::filesystem::exists(scratch.path / "single.toml"));
  refused({"cp", "single", (scratch.path / "missing" / "x.toml").string()}, 4, "cannot write");
}

BOOST_AUTO_TEST_CASE(cp_that_cannot_write_leaves_the_old_file) {
  const scratch_folder scratch;
  const auto file = (scratch.path / "mine.toml").string(), link = (scratch.path / "link.toml").string();
  std::ofstream(file) << "my own work\n";
  rlimit before{};
  BOOST_TEST_REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{20, before.rlim_max};  // as a full disk: some bytes fit, the rest does not
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto o = run_isthmus({"cp", "single", file, "--force"});
  const auto fresh = run_isthmus({"cp", "single", (scratch.path / "new.toml").string()});
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  BOOST_TEST(o.code == 4);
  BOOST_TEST(contains(o.err, "no space left"), o.err);
  BOOST_TEST(fresh.code == 4);
  std::ostringstream left;
  left << std::ifstream(file).rdbuf();
  BOOST_TEST(left.str() == "my own work\n");
  const std::filesystem::directory_iterator all(scratch.path);
  BOOST_TEST(std::distance(begin(all), end(all)) == 1);
  std::filesystem::create_symlink("mine.toml", link);
  BOOST_TEST(run_isthmus({"cp", "single", link, "--force"}).code == 0);
  BOOST_TEST(std::filesystem::is_symlink(link));
  BOOST_TEST(contains(run_isthmus({"show", file}).out, "name = \"single\""));
}

BOOST_AUTO_TEST_CASE(cp_overwrites_regular_files_only) {
  const scratch_folder scratch;
  const auto pipe = (scratch.path / "pipe").string(), link = (scratch.path / "dangling").string();
  BOOST_TEST_REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::filesystem::create_symlink("nowhere", link);
  for (const auto& path : {pipe, link}) refused({"cp", "single", path, "--force"}, 2, "is no regular file");
  BOOST_TEST(std::filesystem::is_fifo(pipe));
  refused({"cp", "single", "/dev/full", "--force"}, 2, "is no regular file");
}

BOOST_AUTO_TEST_CASE(a_reader_that_goes_away_is_no_error) {
  surroundings short_reader;
  short_reader.read_bytes_max = 10;
  BOOST_TEST(run_isthmus({"show", "quickstart", "--json"}, short_reader).code == 0);
  surroundings closed;
  closed.output_closed = true;
  BOOST_TEST(run_isthmus({"ls"}, closed).code == 0);
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_told) {
  surroundings full;
  full.output = "/dev/full";
  const auto o = run_isthmus({"show", "quickstart"}, full);
  BOOST_TEST(o.code == 4);
  BOOST_TEST(contains(o.err, "No space left"));
}

BOOST_AUTO_TEST_CASE(colour_only_where_it_is_wanted) {
  const std::vector<std::string> wrong{"lss"};
  BOOST_TEST(!contains(run_isthmus(wrong).err, "\x1b"));
  BOOST_TEST(contains(run_isthmus_at_terminal(wrong, {"TERM=xterm"}).out, "\x1b[31m"));
  BOOST_TEST(!contains(run_isthmus_at_terminal(wrong, {"TERM=xterm", "NO_COLOR=1"}).out, "\x1b"));
  BOOST_TEST(!contains(run_isthmus_at_terminal(wrong, {"TERM=dumb"}).out, "\x1b"));
  BOOST_TEST(!contains(run_isthmus_at_terminal(wrong, {}).out, "\x1b"));
  BOOST_TEST(!contains(run_isthmus_at_terminal({"--color=never", "lss"}, {"TERM=xterm"}).out, "\x1b[31m"));
}

// Who runs a seed, and with which variants of libm, does not matter.
BOOST_AUTO_TEST_CASE(seeds_tell_the_same_history_however_they_are_shared_out) {
  const auto history = [](const char* jobs, const surroundings& where = {}) {
    const auto r = run_isthmus({"sim", "faults", "run.tokens=5760", "--seeds", "1..6", "--jobs", jobs}, where);
    BOOST_TEST(r.code == 0, r.out);
    BOOST_TEST(contains(r.out, "history "), r.out);
    return r.out.substr(r.out.find("history "), 40);
  };
  const auto alone = history("1");
  BOOST_TEST(alone == history("2"));
  surroundings old;
  old.environment = {"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA,-FMA4"};
  BOOST_TEST(alone == history("2", old));
}

BOOST_AUTO_TEST_CASE(what_a_seed_left_on_disk_is_kept_to_be_read) {
  const scratch_folder here;
  const std::vector<std::string> keep{"sim", "faults", "--seeds", "3", "--keep", (here.path / "lost").string()};
  BOOST_TEST(run_isthmus(keep).code == 0);
  const auto ledger = run_isthmus({"ledger", (here.path / "lost").string()});
  BOOST_TEST(ledger.code == 0, ledger.err);
  BOOST_TEST(contains(ledger.out, "balanced"), ledger.out);
  const auto twice = run_isthmus(keep);
  BOOST_TEST(twice.code == 4);
  BOOST_TEST(contains(twice.err, "not empty"), twice.err);
}

BOOST_AUTO_TEST_CASE(a_seed_that_fails_is_replayed_and_shrunk) {
  const scratch_folder here;
  const auto file = (here.path / "small.toml").string();
  // nothing can end within a second of the last fault, so that every seed fails, whatever its faults
  const std::vector<std::string> hopeless{"sim", "faults", "scenario.fault_seconds=10", "scenario.heal_seconds=1", "--seeds"};
  auto one = hopeless, many = hopeless, smaller = hopeless;
  one.emplace_back("3");
  many.emplace_back("1..4");
  smaller.insert(smaller.end(), {"3", "--shrink", file});
  const auto all = run_isthmus(many);
  BOOST_TEST(all.code == 8);
  BOOST_TEST(contains(all.out, "0 good, 4 failed"), all.out);
  BOOST_TEST(contains(all.out, "replay: isthmus sim faults --seeds 3 scenario.fault_seconds=10 scenario.heal_seconds=1"), all.out);
  const auto first = run_isthmus(one), again = run_isthmus(one);
  BOOST_TEST(first.code == 8);
  const auto history = [](const std::string& text) { return text.substr(text.find("history "), 40); };
  BOOST_TEST(history(first.out) == history(again.out));
  const auto shrunk = run_isthmus(smaller);
  BOOST_TEST(shrunk.code == 0, shrunk.err);
  BOOST_TEST(contains(shrunk.out, ": 0 of "), shrunk.out);
  BOOST_TEST(run_isthmus({"sim", file}).code == 8);
}

BOOST_AUTO_TEST_SUITE_END()
