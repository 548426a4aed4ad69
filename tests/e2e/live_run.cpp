#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <ranges>
#include <sstream>
#include <sys/wait.h>
#include <thread>

namespace isthmus::tests {

namespace {

namespace fs = std::filesystem;
using seconds_d = std::chrono::duration<double>;

void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }

/// State letter and parent of a process; 'X' and 0 when it is gone.
std::pair<char, pid_t> stat_of(pid_t pid) {
  const auto text = text_of("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return {'X', 0};
  std::istringstream rest(text.substr(name_end + 1));
  char state = 'X';
  pid_t parent = 0;
  rest >> state >> parent;
  return {state, parent};
}

/// Processes of a launcher by the arguments that it starts them with: "coordinator", "coordinator-2", or a site's number.
std::map<std::string, pid_t> children_of(pid_t launcher) {
  std::map<std::string, pid_t> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto pid = static_cast<pid_t>(std::stol(name));
    const auto [state, parent] = stat_of(pid);
    if (parent != launcher || state == 'Z') continue;
    std::vector<std::string> arguments;
    std::istringstream line(text_of(entry.path() / "cmdline"));
    for (std::string a; std::getline(line, a, '\0');) arguments.push_back(a);
    const auto behind = [&](const char* flag) {
      const auto found = std::find(arguments.begin(), arguments.end(), flag);
      return found == arguments.end() || std::next(found) == arguments.end() ? std::string() : *std::next(found);
    };
    if (arguments.size() > 1 && arguments[1] == "coordinator")
      out[behind("--place") == "0" ? "coordinator" : "coordinator-" + std::to_string(std::stoi(behind("--place")) + 1)] = pid;
    if (const auto site = behind("--site"); !site.empty()) out[site] = pid;
  }
  return out;
}

const std::map<std::string, std::string> site_numbers{{"alpha", "0"}, {"beta", "1"}, {"gamma", "2"}};

}  // namespace

std::string one_site_recipe(const std::string& file, const std::string& more) {
  std::ifstream from("tests/e2e/tiny.toml");
  std::ofstream to(file);
  int sites = 0;
  for (std::string line; std::getline(from, line);)
    if ((sites += line == "[[sites]]") < 2) to << line << "\n";
  to << more;
  return file;
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void replace(const fs::path& file, const std::string& bytes) {
  std::ofstream(file.string() + ".other", std::ios::binary) << bytes;
  fs::rename(file.string() + ".other", file);
}

bool gone(pid_t pid) {
  const char state = stat_of(pid).first;
  return state == 'X' || state == 'Z';
}

double wall_now() { return seconds_d(std::chrono::system_clock::now().time_since_epoch()).count(); }

live_run::live_run(const std::string& root, const std::string& name, const std::vector<std::string>& overrides, const std::string& recipe)
    : root_(root), path_(root + "/" + name) {
  std::vector<std::string> arguments{"launch", recipe, "--run-folder", path_};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  start(arguments);
}

live_run::~live_run() {
  if (!over()) kill_all();
}

surroundings live_run::where() const { return {{"ISTHMUS_RUNS=" + root_}, {}, path_ + ".out", false, ~std::size_t{0}}; }

void live_run::start(const std::vector<std::string>& arguments) {
  launcher_ = start_isthmus(arguments, where());
  BOOST_REQUIRE(launcher_ > 0);
}

void live_run::resume() {
  BOOST_REQUIRE(over());
  start({"resume", path_});
}

bool live_run::ended() const {
  int status = 0;
  if (launcher_ > 0 && ::waitpid(launcher_, &status, WNOHANG) == launcher_) {
    launcher_ = -1;
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return over();
}

int live_run::wait(double seconds) {
  for (const double end = wall_now() + seconds; !ended(); nap()) {
    if (wall_now() < end) continue;
    BOOST_ERROR("the run did not end in time\n" << told());
    kill_all();
    return -1;
  }
  return code_;
}

bool live_run::until(const std::function<bool()>& condition, double seconds) const {
  for (const double end = wall_now() + seconds; wall_now() < end; nap()) {
    if (condition()) return true;
    if (ended()) return condition();
  }
  return false;
}

pid_t live_run::pid_of(const std::string& name) const {
  if (name == "launcher") return std::max(launcher_, 0);
  if (over()) return 0;
  const auto children = children_of(launcher_);
  const auto number = site_numbers.find(name);
  const auto found = children.find(number == site_numbers.end() ? name : number->second);
  return found == children.end() ? 0 : found->second;
}

void live_run::signal(const std::string& name, int number) const {
  const pid_t pid = pid_of(name);
  BOOST_REQUIRE_MESSAGE(pid > 0, name << " does not run\n" << told());
  BOOST_REQUIRE(::kill(pid, number) == 0);
}

void live_run::kill_all() {
  if (over()) return;
  ::kill(launcher_, SIGSTOP);
  const auto children = children_of(launcher_);
  for (const auto& [name, pid] : children) ::kill(pid, SIGKILL);
  ::kill(launcher_, SIGKILL);
  while (!ended()) nap();
  for (const auto& [name, pid] : children)
    while (!gone(pid)) nap();
}

round_number live_run::committed() const {
  std::map<group_id, round_number> last;
  for (const auto& row : rounds()) last[row.group] = std::max(last[row.group], row.round);
  if (last.empty()) return 0;
  return std::ranges::min(last | std::views::values);
}

std::vector<round_row> live_run::rounds() const {
  const auto store = run_store_reader::open(path_ + "/" + run_store_name);
  if (!store) return {};
  auto rows = store->rounds();
  return rows ? *rows : std::vector<round_row>{};
}

std::vector<sample_row> live_run::samples() const {
  const auto store = run_store_reader::open(path_ + "/" + run_store_name);
  if (!store) return {};
  auto rows = store->samples();
  return rows ? *rows : std::vector<sample_row>{};
}

std::vector<event_row> live_run::events() const {
  const auto store = run_store_reader::open(path_ + "/" + run_store_name);
  if (!store) return {};
  auto rows = store->events();
  return rows ? *rows : std::vector<event_row>{};
}

std::size_t live_run::count_events(const std::string& kind, const std::string& words) const {
  const auto all = events();
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [&](const event_row& e) { return e.kind == kind && contains(e.text, words); }));
}

bool live_run::has_event(const std::string& kind, const std::string& words) const { return count_events(kind, words) > 0; }

bool live_run::under_way(round_number rounds) const {
  return until([&] { return committed() >= rounds; }) && !over();
}

bool live_run::has_checkpoint(site_id site) const {
  const auto store = run_store_reader::open(path_ + "/" + run_store_name);
  if (!store) return false;
  const auto rows = store->checkpoints();
  return rows && std::any_of(rows->begin(), rows->end(), [&](const checkpoint_row& c) { return c.site == site; });
}

outcome live_run::isthmus(const std::string& verb, const std::vector<std::string>& more) const {
  std::vector<std::string> arguments{verb, path_};
  arguments.insert(arguments.end(), more.begin(), more.end());
  auto as = where();
  as.output.clear();
  return run_isthmus(arguments, as);
}

nlohmann::json live_run::ledger() const {
  const auto o = isthmus("ledger", {"--json"});
  BOOST_TEST(o.code == 0, o.out << o.err);
  auto parsed = nlohmann::json::parse(o.out, nullptr, false);
  BOOST_REQUIRE(!parsed.is_discarded());
  return parsed;
}

std::vector<nlohmann::json> live_run::lines(site_id site) const {
  std::vector<nlohmann::json> out;
  std::ifstream file(path_ + "/ledger/site-" + std::to_string(site) + ".jsonl");
  for (std::string line; std::getline(file, line);)
    if (auto parsed = nlohmann::json::parse(line, nullptr, false); !parsed.is_discarded()) out.push_back(std::move(parsed));
  return out;
}

std::string live_run::told() const {
  const auto tail = [](std::string text) { return text.size() > 3000 ? text.substr(text.size() - 3000) : text; };
  std::string out = "launcher: " + tail(text_of(path_ + ".out"));
  for (const auto* name : {"coordinator", "coordinator-2", "alpha", "beta", "gamma"})
    out += std::string("\n") + name + ": " + tail(text_of(path_ + "/logs/" + name + ".log"));
  return out;
}

}  // namespace isthmus::tests
