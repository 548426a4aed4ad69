#include "framework/metrics/run_store.hpp"
#include "framework/recipe/recipe.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <chrono>
#include <fstream>
#include <iterator>
#include <sys/socket.h>
#include <unistd.h>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

/// A runs root with one run in it, made without any process: recipe, roster and store.
struct runs_folder {
  scratch_folder scratch;
  std::string run = (scratch.path / "demo").string();
  surroundings where{{"ISTHMUS_RUNS=" + scratch.path.string()}, {}, {}, false, ~std::size_t{0}};

  runs_folder() {
    std::filesystem::create_directory(run);
    std::ofstream(run + "/recipe.resolved.toml") << run_isthmus({"show", "single"}).out;
  }
  void write_store(const std::string& state, std::int64_t launcher_pid = 0) {
    run_store_writer writer(run + "/" + run_store_name);
    writer.put(run_row{"demo-1", "single", "00", state, "", 409600, 40, 1, 1, 2, launcher_pid, 3, 0, 0});
    writer.put(site_row{0, "alone", 1, "training", 1, 1, 10, 10240, 1, 1, 6.25, 1000, 2});
    writer.put(event_row{0, "alone", "joined", "epoch \x1b[2J 1", 2});
    writer.flush();
  }
  outcome go(const std::vector<std::string>& arguments) const { return run_isthmus(arguments, where); }
};

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void refused(const outcome& o, int code, const std::string& words) {
  BOOST_TEST(o.code == code, o.err);
  BOOST_TEST(contains(o.err, words), o.err);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(runs)

BOOST_AUTO_TEST_CASE(runs_that_are_not_there) {
  const scratch_folder scratch;
  const surroundings empty{{"ISTHMUS_RUNS=" + (scratch.path / "none").string()}, {}, {}, false, ~std::size_t{0}};
  BOOST_TEST(contains(run_isthmus({"status"}, empty).out, "no runs"));
  refused(run_isthmus({"status", "nothing"}, empty), 5, "no run \"nothing\"");
  refused(run_isthmus({"resume", "nothing"}, empty), 5, "no run");
  refused(run_isthmus({"ledger"}, empty), 5, "isthmus launch quickstart");
  refused(run_isthmus({"generate", "--prompt=-x"}, empty), 5, "no run");
  refused(run_isthmus({"generate", scratch.path.string(), "--prompt=x"}, empty), 5,
          scratch.path.string() +
              " is a folder, but neither a run, which has recipe.resolved.toml, nor a model of Hugging Face, which has config.json");
  const runs_folder one;
  refused(one.go({"status", "deno"}), 5, "did you mean \"demo\"?");
}

BOOST_AUTO_TEST_CASE(status_of_a_crashed_run_comes_from_its_store) {
  runs_folder one;
  one.write_store("running", ::getpid());  // a process that took the number over proves nothing
  const auto o = one.go({"status", "demo"});
  BOOST_TEST(o.code == 7, o.err);
  BOOST_TEST(contains(o.out, "crashed"), o.out);
  BOOST_TEST(contains(o.out, "isthmus resume"), o.out);
  BOOST_TEST(contains(o.out, "alone  gone"), o.out);
  BOOST_TEST(!contains(o.out, "\x1b"), o.out);
  const auto parsed = nlohmann::json::parse(one.go({"status", "demo", "--json"}).out);
  BOOST_TEST(parsed.at("state") == "crashed");
  BOOST_TEST(parsed.at("tokens_per_second") == 0);
  BOOST_TEST(parsed.at("sites").at(0).at("loss") == 6.25);
  BOOST_TEST(parsed.at("sites").at(0).at("state") == "gone");
  BOOST_TEST(contains(one.go({"status"}).out, "crashed"));
  const int lock = hold_launcher_lock(one.run);
  BOOST_TEST(one.go({"status", "demo"}).code == 0);
  BOOST_TEST(nlohmann::json::parse(one.go({"status", "demo", "--json"}).out).at("sites").at(0).at("state") == "training");
  BOOST_TEST(contains(one.go({"status"}).out, "running"));
  ::close(lock);
  one.write_store("failed");
  BOOST_TEST(one.go({"status", "demo"}).code == 1);
}

BOOST_AUTO_TEST_CASE(commands_to_copy_are_quoted_for_the_shell) {
  runs_folder one;
  const auto odd = one.scratch.path / "Bob's $(run)";
  const auto quoted = "'" + (one.scratch.path / "Bob'\\''s $(run)").string() + "'";
  std::filesystem::rename(one.run, odd);
  one.run = odd;
  one.write_store("stopped");
  BOOST_TEST(contains(one.go({"status", one.run}).out, "isthmus resume " + quoted + "\n"));
  refused(one.go({"launch", "single", "--run-folder", one.run}), 4, "`isthmus resume " + quoted + "`");
  BOOST_TEST(contains(one.go({"cp", "single", one.run + "/x.toml"}).err, "x.toml' && isthmus launch '"));
  const int lock = hold_launcher_lock(one.run);
  refused(one.go({"resume", one.run}), 4, "`isthmus status " + quoted + "`");
  ::close(lock);
  one.write_store("finished");
  std::ofstream(one.run + "/roster.json") << R"({"run_id": "x", "recipe_hash": ")"
                                          << recipe_hash(*load_recipe(one.run + "/recipe.resolved.toml")).hex()
                                          << R"(", "coordinator": {"address": "127.0.0.1:1"}, "sites": [{"id": 0, "name": "alone",)"
                                          << R"("address": "", "shard": "", "domain": "", "unigram_entropy": 0}]})";
  const auto card = one.go({"resume", one.run}).out;
  BOOST_TEST(contains(card, "isthmus generate " + quoted + " --prompt"), card);
  BOOST_TEST(contains(card, "isthmus status " + quoted + "      " + quoted + "/loss.svg\n"), card);
}

BOOST_AUTO_TEST_CASE(a_store_that_is_missing_or_damaged_is_told) {
  const runs_folder one;
  refused(one.go({"status", "demo"}), 5, "no run store");
  BOOST_TEST(contains(one.go({"status"}).out, "no store"));
  std::ofstream(one.run + "/" + run_store_name) << "no database";
  refused(one.go({"status", "demo"}), 5, "run store");
}

BOOST_AUTO_TEST_CASE(two_launchers_never_drive_one_run) {
  const runs_folder one;
  const int fd = hold_launcher_lock(one.run);
  BOOST_TEST(::write(fd, "4711\n", 5) == 5);
  refused(one.go({"resume", "demo"}), 4, "process 4711");
  ::close(fd);
  refused(one.go({"resume", "demo"}), 5, "launch it anew");
}

BOOST_AUTO_TEST_CASE(a_model_beyond_this_machines_memory_is_told_before_anything_is_made) {
  const scratch_folder scratch;
  const surroundings where{{"ISTHMUS_RUNS=" + (scratch.path / "none").string()}, {}, {}, false, ~std::size_t{0}};
  refused(run_isthmus({"launch", "quickstart", "model.d_model=65536", "model.n_layers=1024"}, where), 4, "TiB of memory, this machine has");
  BOOST_TEST(!std::filesystem::exists(scratch.path / "none"));
}

BOOST_AUTO_TEST_CASE(a_dry_run_tells_the_memory_of_each_site_and_makes_nothing) {
  const scratch_folder scratch;
  const surroundings where{{"ISTHMUS_RUNS=" + (scratch.path / "none").string()}, {}, {}, false, ~std::size_t{0}};
  const auto training = [&](const std::string& limit) {
    const auto told = run_isthmus({"launch", "quickstart", "--dry-run", "train.context=1024", "model.activation_mib=" + limit}, where);
    BOOST_TEST_REQUIRE(told.code == 0, told.err);
    for (const char* site : {"alpha", "beta", "gamma", "all"}) BOOST_TEST(contains(told.out, "\n" + std::string(site) + " "));
    return std::stod(told.out.substr(told.out.find("training ") + 9));
  };
  const double free = training("0"), limited = training("50");  // MiB; a row takes over 100 without a limit
  BOOST_TEST(limited < free - 50);
  for (const std::vector<std::string>& verb : {std::vector<std::string>{"launch", "quickstart", "--dry-run"}, {"validate", "quickstart"}}) {
    auto arguments = verb;
    arguments.push_back("model.activation_mib=1");
    const auto told = run_isthmus(arguments, where);
    refused(told, 3, "error[R055]: model.activation_mib = 1 is too little: a row of 256 tokens");
    BOOST_TEST(contains(told.err, "--> override `model.activation_mib=1`"), told.err);
    const auto needed = told.err.substr(told.err.find("allowed: at least ") + 18);
    BOOST_TEST(contains(needed, " MiB, or 0 for no limit"), told.err);
    arguments.back() = "model.activation_mib=" + needed.substr(0, needed.find(' '));
    BOOST_TEST(run_isthmus(arguments, where).code == 0);
  }
  BOOST_TEST(!std::filesystem::exists(scratch.path / "none"));
}

BOOST_AUTO_TEST_CASE(a_port_in_use_is_told_before_anything_is_made) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  BOOST_TEST_REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&where), size) == 0);
  BOOST_TEST_REQUIRE(::listen(fd, 1) == 0);
  BOOST_TEST_REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&where), &size) == 0);
  const auto address = "127.0.0.1:" + std::to_string(ntohs(where.sin_port));
  const runs_folder one;
  const auto folder = one.scratch.path / "taken";
  refused(one.go({"launch", "single", "--run-folder", folder.string(), "sites.0.address=" + address}), 4,
          address + " is in use by another process");
  BOOST_TEST(!std::filesystem::exists(folder));
  ::close(fd);
}

BOOST_AUTO_TEST_CASE(addresses_that_are_not_ours_are_told_before_anything_is_made) {
  const runs_folder one;
  const auto folder = (one.scratch.path / "foreign").string();
  for (const auto* address : {"0.0.0.0:0", "0.0.0.0:7000", "192.169.1.5:7000", "1.2.3.4:70", "192.0.2.1:0", "128.0.0.1:00"}) {
    const auto override_of = std::string("sites.0.address=") + address;
    const auto o = one.go({"launch", "single", "--run-folder", folder, override_of});
    refused(o, 4, "site alone: address ");
    BOOST_TEST(contains(o.err, "private addresses (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16) only"), o.err);
    const auto v = one.go({"validate", "single", override_of});
    refused(v, 3, "error[R047]: site \"alone\": address ");
    BOOST_TEST(contains(v.err, "loopback (127.0.0.0/8) and private addresses"), v.err);  // a recipe's addresses are IPv4
    BOOST_TEST(contains(v.err, "--> override `" + override_of + "`"), v.err);
    BOOST_TEST(!contains(v.out, "valid"), v.out);
  }
  refused(one.go({"launch", "single", "--run-folder", folder, "sites.0.address=192.168.254.253:7000"}), 4,
          "cannot listen on 192.168.254.253:7000");  // allowed, and not of this machine
  for (const auto* address : {"127.0.0.1:7000", "127.8.9.10:0", "192.168.254.253:7000"})
    BOOST_TEST(one.go({"validate", "single", std::string("sites.0.address=") + address}).code == 0);
  for (const auto* address : {"127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:", "localhost:1", "example.invalid:80", "999.0.0.1:1"})
    refused(one.go({"launch", "single", "--run-folder", folder, std::string("sites.0.address=") + address}), 3, "R014");
  BOOST_TEST(!std::filesystem::exists(folder));
}

BOOST_AUTO_TEST_CASE(an_address_that_may_not_be_bound_is_told_where_it_stands) {
  const runs_folder one;
  const auto file = one.run + "/recipe.resolved.toml";
  auto text = text_of(file);
  const auto at = text.find("address = \"127.0.0.1:0\"");
  BOOST_TEST_REQUIRE(at != std::string::npos);
  text.replace(at, 23, "address = \"11.1.2.3:70\"");
  std::ofstream(file) << text;
  const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1;
  refused(one.go({"validate", file}), 3, file + ":" + std::to_string(line) + ":11");
  std::ofstream(one.run + "/roster.json") << R"({"run_id": "x", "recipe_hash": ")" + recipe_hash(*load_recipe(file)).hex() +
                                                 R"(", "coordinator": {"address": "127.0.0.1:1"}, "sites": [{"id": 0, "name": "alone",)"
                                                 R"("address": "", "shard": "", "domain": "", "unigram_entropy": 0}]})";
  refused(one.go({"resume", "demo"}), 4, "site alone: address 11.1.2.3:70 is refused");
}

BOOST_AUTO_TEST_CASE(the_newest_run_is_one_that_was_begun) {
  const runs_folder one;
  refused(one.go({"ledger"}), 5, "no run in");  // it was stopped before its text was prepared
  const auto begun = one.scratch.path / "begun";
  std::filesystem::create_directory(begun);
  std::filesystem::copy_file(one.run + "/recipe.resolved.toml", begun / "recipe.resolved.toml");
  std::ofstream(begun / "roster.json") << "{}";
  using namespace std::chrono_literals;
  std::filesystem::last_write_time(begun / "recipe.resolved.toml", std::filesystem::file_time_type::clock::now() - 1h);
  refused(one.go({"generate", "--prompt", "x"}), 5, (begun / "roster.json").string());  // the older one; the newer has no roster at all
}

BOOST_AUTO_TEST_CASE(tokenizers_that_are_none) {
  const runs_folder one;
  const auto folder = (one.scratch.path / "new").string(), big = (one.scratch.path / "big.json").string();
  std::ofstream(big) << "{";
  std::filesystem::resize_file(big, std::uintmax_t{1} << 40);
  for (const auto& [path, words] : {std::pair<std::string, std::string>{"/nonexistent/tokenizer.json", "No such file"},
                                    {"/etc/passwd", "etc/passwd:1:1: not JSON"},
                                    {"/", "not a regular file"},
                                    {"/dev/zero", "not a regular file"},
                                    {big, "1099511627776 bytes, at most"}})
    refused(one.go({"launch", "single", "--run-folder", folder, "data.tokenizer=" + path}), 5, words);
  refused(one.go({"launch", "single", "--run-folder", folder, "data.tokenizer=/etc/passwd"}), 5, "data.tokenizer = \"/etc/passwd\"");
  BOOST_TEST(!std::filesystem::exists(folder));
}

BOOST_AUTO_TEST_CASE(folders_that_nothing_can_be_written_to) {
  const runs_folder one;
  for (const auto* folder : {"/proc/run", "/sys/run"}) {
    refused(one.go({"launch", "single", "--run-folder", folder}), 4, std::string("cannot make the run folder ") + folder);
    const surroundings there{{std::string("ISTHMUS_RUNS=") + folder}, {}, {}, false, ~std::size_t{0}};
    refused(run_isthmus({"launch", "single"}, there), 4, "ISTHMUS_RUNS");
    refused(one.go({"cp", "single", folder}), 4, std::string("cannot write ") + folder);
  }
}

BOOST_AUTO_TEST_CASE(run_folders_that_cannot_be_made) {
  const runs_folder one;
  refused(one.go({"launch", "single", "--run-folder", one.run}), 4, "not empty");
  refused(one.go({"launch", "single", "--run-folder", "/dev/null/x"}), 4, "cannot make");
  refused(run_isthmus({"launch", "single"}, {{"ISTHMUS_RUNS=/dev/null/runs"}, {}, {}, false, ~std::size_t{0}}), 4, "ISTHMUS_RUNS");
}

BOOST_AUTO_TEST_CASE(rosters_that_are_damaged_or_of_another_recipe) {
  const runs_folder one;
  const auto roster = [&](const std::string& text) { std::ofstream(one.run + "/roster.json") << text; };
  for (const auto* text :
       {"", "[]", "{}", "{\"run_id\": 3}", "\xff\xff", "{\"run_id\": \"x\", \"recipe_hash\": \"\", \"coordinator\": [], \"sites\": []}"}) {
    roster(text);
    refused(one.go({"status", "demo"}), 5, "roster.json");
    refused(one.go({"resume", "demo"}), 5, "roster.json");
  }
  roster(R"({"run_id": "x", "recipe_hash": "00", "coordinator": {"address": "127.0.0.1:1"}, "sites": []})");
  refused(one.go({"resume", "demo"}), 6, "do not belong together");
  std::ofstream(one.run + "/recipe.resolved.toml") << "[run\n";
  refused(one.go({"resume", "demo"}), 3, "R004");
}

BOOST_AUTO_TEST_CASE(bad_values_of_generate) {
  const runs_folder one;
  refused(one.go({"generate", "demo", "--tokens", "0"}), 2, "--tokens");
  refused(one.go({"generate", "demo", "--temperature", "nan"}), 2, "--temperature");
  refused(one.go({"generate", "demo", "--top-p", "2"}), 2, "--top-p");
  refused(one.go({"generate", "demo", "--seed", "-1"}), 2, "--seed");
  for (const auto* seed : {"99999999999999999999", "9223372036854775808", "-99999999999999999999", "1e3", ""})
    refused(one.go({"generate", "demo", "--seed", seed}), 2, "not in INT in [0 - 9223372036854775807]");
  refused(one.go({"generate", "demo", "--seed", "9223372036854775807"}), 5, "checkpoint");
  refused(one.go({"generate", "demo", "--tokens", "99999999999999999999"}), 2, "not in INT in [1 - 1048576]");
  refused(one.go({"generate", "demo", "--site", "nobody"}), 2, "no site");
  refused(one.go({"generate", "demo", "--prompt"}), 2, "--prompt");
  refused(one.go({"generate", "demo", "--prompt", "x"}), 5, "checkpoint");
  refused(one.go({"evaluate", "demo"}), 5, "roster");
  refused(one.go({"evaluate", "demo", "--on", "nobody"}), 5, "no run");
}

BOOST_AUTO_TEST_CASE(child_verbs_are_hidden_and_refuse_strangers) {
  BOOST_TEST(!contains(run_isthmus({"--help"}).out, "coordinator"));
  BOOST_TEST(run_isthmus({"site"}).code == 2);
  BOOST_TEST(run_isthmus({"site", "--run", "x", "--log", "/dev/null", "--launcher", "1"}).code == 7);
}

BOOST_AUTO_TEST_SUITE_END()
