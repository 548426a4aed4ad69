#include "launcher/run_folder.hpp"

#include "framework/recipe/nearest.hpp"
#include "framework/transport/address.hpp"
#include "framework/transport/etcd_client.hpp"
#include "launcher/console.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <thread>

namespace isthmus::launcher {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::size_t json_bytes_max = 1 << 20;

expected<void> write_file(const std::string& folder, const std::string& name, const std::string& text) {
  auto disk = open_disk(folder);
  if (!disk) return disk.failure();
  if (auto ok = (*disk)->write_synced(name + ".new", std::as_bytes(std::span(text))); !ok) return ok;
  if (auto ok = (*disk)->rename(name + ".new", name); !ok) return ok;
  return (*disk)->sync_folder("");
}

expected<json> read_json(const std::string& folder, const std::string& name) {
  auto disk = open_disk(folder);
  if (!disk) return disk.failure();
  auto bytes = (*disk)->read(name, json_bytes_max);
  if (!bytes) return bytes.failure();
  auto parsed = json::parse(reinterpret_cast<const char*>(bytes->data()), reinterpret_cast<const char*>(bytes->data()) + bytes->size(),
                            nullptr, false);
  if (!parsed.is_object())
    return fail(errc::malformed,
                fmt::format("{}/{} is no JSON object; launch and resume write it: bring it back from a copy of the run", folder, name));
  return parsed;
}

std::string time_stamp() {
  const auto now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  return fmt::format("{:04}{:02}{:02}-{:02}{:02}{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min,
                     parts.tm_sec);
}

/// Makes one new folder below root, with a number behind the name while it is taken.
expected<std::string> new_folder(const std::string& root, const std::string& name) {
  std::error_code error;
  fs::create_directories(root, error);
  for (int n = 1; n < 100; ++n) {
    const auto path = fmt::format("{}/{}{}", root, name, n == 1 ? "" : fmt::format("-{}", n));
    if (::mkdir(path.c_str(), 0755) == 0) return path;
    if (errno != EEXIST)
      return fail(errc::environment, fmt::format("cannot make the run folder {}: {}; set ISTHMUS_RUNS or --run-folder to a writable place",
                                                 path, std::strerror(errno)));
  }
  return fail(errc::environment, fmt::format("{}/{} and a hundred like it are taken", root, name));
}

expected<std::string> chosen_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return fail(errc::environment, fmt::format("cannot make the run folder {}: {}", path, error.message()));
  if (!fs::is_empty(path, error) || error)
    return fail(errc::environment,
                fmt::format("the run folder {} is not empty; `isthmus resume {}` goes on with a run", path, shell_word(path)));
  return path;
}

}  // namespace

std::map<site_id, std::string> roster::addresses() const {
  std::map<site_id, std::string> out{{coordinator_id, fmt::format("{}", fmt::join(coordinators, ","))}};
  for (const auto& s : sites) out[s.id] = s.address;
  return out;
}

std::string runs_root() {
  const char* root = std::getenv("ISTHMUS_RUNS");
  return root != nullptr && *root != '\0' ? root : "runs";
}

expected<run_folder> make_run_folder(const recipe& plan, const std::string& chosen) {
  auto path = chosen.empty() ? new_folder(runs_root(), fmt::format("{}-{}", plan.run.name, time_stamp())) : chosen_folder(chosen);
  if (!path) return path.failure();
  if (auto ok = write_file(*path, resolved_recipe_name, write_recipe(plan)); !ok) return fail(errc::environment, ok.error().message);
  run_folder run{*path, plan, {}};
  std::uint32_t salt = 0;
  if (::getrandom(&salt, sizeof salt, 0) != sizeof salt) salt = static_cast<std::uint32_t>(::getpid());
  run.people.run_id = fmt::format("{}-{:08x}", fs::path(*path).filename().string(), salt);
  run.people.recipe_hash = recipe_hash(plan).hex();
  return run;
}

expected<run_folder> open_run_folder(const std::string& path) {
  std::error_code error;
  const auto recipe_file = path + "/" + resolved_recipe_name;
  if (!fs::exists(recipe_file, error))
    return fail(errc::not_found, fmt::format("{} is no run folder: it has no {}", path, resolved_recipe_name));
  auto plan = load_recipe(recipe_file);
  if (!plan) return plan.failure();
  run_folder run{path, std::move(*plan), {}};
  if (!fs::exists(path + "/" + roster_name, error)) return run;
  auto parsed = read_json(path, roster_name);
  if (!parsed) return parsed.failure();
  const auto bad_roster = [&](const std::string& what) {
    return fail(errc::malformed,
                fmt::format("{}/{}: {}; launch and resume write it: bring it back from a copy of the run", path, roster_name, what));
  };
  try {
    run.people.run_id = parsed->at("run_id").get<std::string>();
    run.people.recipe_hash = parsed->at("recipe_hash").get<std::string>();
    run.people.coordinators = {parsed->at("coordinator").at("address").get<std::string>()};
    if (const auto& standing_by = parsed->at("coordinator").value("standing_by", json::array()); !standing_by.empty())
      for (const auto& address : standing_by) run.people.coordinators.push_back(address.get<std::string>());
    run.people.coordinator_key = parsed->at("coordinator").value("key", "");
    for (const auto& s : parsed->at("sites"))
      run.people.sites.push_back({s.at("id").get<site_id>(), s.at("name").get<std::string>(), s.at("address").get<std::string>(),
                                  s.at("shard").get<std::string>(), s.at("domain").get<std::string>(),
                                  s.at("unigram_entropy").get<double>(), s.value("content", ""), s.value("key", ""),
                                  s.value("key_elsewhere", false)});
  } catch (const json::exception& e) { return bad_roster(std::string("a field is missing or has the wrong type: ") + e.what()); }
  if (run.people.recipe_hash != recipe_hash(run.plan).hex())
    return fail(errc::wrong_recipe, fmt::format("{}: {} and {} do not belong together; a run's recipe cannot be changed", path,
                                                resolved_recipe_name, roster_name));
  if (run.people.sites.size() != run.plan.sites.size())
    return bad_roster(fmt::format("it lists {} sites, the recipe {}", run.people.sites.size(), run.plan.sites.size()));
  for (std::size_t i = 0; i < run.people.sites.size(); ++i)
    if (run.people.sites[i].id != i || run.people.sites[i].name != run.plan.sites[i].name)
      return bad_roster(fmt::format("sites[{}] is \"{}\" with id {}, where the recipe has \"{}\" with id {}", i, run.people.sites[i].name,
                                    run.people.sites[i].id, run.plan.sites[i].name, i));
  return run;
}

expected<void> check_runs_root() {
  std::error_code error;
  const auto kind = fs::status(runs_root(), error).type();
  if (kind == fs::file_type::directory || kind == fs::file_type::not_found) return {};
  return fail(errc::environment, fmt::format("{} is no folder of runs: {}; is ISTHMUS_RUNS what you meant?", runs_root().substr(0, 200),
                                             error ? error.message() : "it is a file"));
}

expected<std::string> find_run(const std::string& typed) {
  std::error_code error;
  const auto is_run = [&](const fs::path& p) { return fs::exists(p / resolved_recipe_name, error); };
  if (!typed.empty() && is_run(typed)) return typed;
  if (auto ok = check_runs_root(); !ok) return ok.failure();
  std::vector<std::string> names;
  std::string newest;
  fs::file_time_type newest_time = fs::file_time_type::min();
  for (const auto& entry : fs::directory_iterator(runs_root(), error)) {
    if (!is_run(entry.path())) continue;
    const auto name = entry.path().filename().string();
    if (name == typed) return entry.path().string();
    names.push_back(name);
    if (!fs::exists(entry.path() / roster_name, error)) continue;  // its launcher was killed before anything was trained
    const auto made = fs::last_write_time(entry.path() / resolved_recipe_name, error);
    if (made > newest_time || (made == newest_time && entry.path().string() > newest)) {
      newest = entry.path().string();
      newest_time = made;
    }
  }
  if (typed.empty() && !newest.empty()) return newest;
  if (typed.empty()) return fail(errc::not_found, fmt::format("no run in {}/ yet; `isthmus launch quickstart` makes one", runs_root()));
  if (!typed.empty() && fs::is_directory(typed, error))
    return fail(errc::not_found, fmt::format("{} is a folder, but neither a run, which has {}, nor a model of Hugging Face, which has "
                                             "config.json beside its weights",
                                             typed.substr(0, 200), resolved_recipe_name));
  const auto near = nearest_name(typed, names);
  return fail(errc::not_found, fmt::format("no run \"{}\", neither as a folder nor in {}/{}", typed.substr(0, 200), runs_root(),
                                           near.empty() ? "; `isthmus status` lists them" : fmt::format("; did you mean \"{}\"?", near)));
}

std::string told_of_run(const std::string& path, const std::string& message) {
  const auto folder = (fs::path(path) / "").string();
  return message.find(folder) != std::string::npos ? message : folder + message;
}

expected<void> write_roster(const std::string& path, const roster& people) {
  json sites = json::array();
  for (const auto& s : people.sites) {
    sites.push_back({{"id", s.id},
                     {"name", s.name},
                     {"address", s.address},
                     {"shard", s.shard},
                     {"domain", s.domain},
                     {"unigram_entropy", s.unigram_entropy},
                     {"content", s.content},
                     {"key", s.key}});
    if (s.key_elsewhere) sites.back()["key_elsewhere"] = true;
  }
  json coordinator{{"address", people.coordinators.at(0)}, {"key", people.coordinator_key}};
  if (people.coordinators.size() > 1)
    coordinator["standing_by"] = std::vector<std::string>(people.coordinators.begin() + 1, people.coordinators.end());
  const json all{
      {"schema", 1}, {"run_id", people.run_id}, {"recipe_hash", people.recipe_hash}, {"coordinator", coordinator}, {"sites", sites}};
  return write_file(path, roster_name, all.dump(2) + "\n");
}

expected<launch_memory> read_memory(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path + "/" + memory_name, error)) return launch_memory{};
  auto parsed = read_json(path, memory_name);
  if (!parsed) return parsed.failure();
  try {
    return launch_memory{parsed->at("faults_fired").get<std::vector<std::size_t>>(), parsed->at("trained_seconds").get<double>(),
                         parsed->at("restarts").get<std::int64_t>()};
  } catch (const json::exception& e) { return fail(errc::malformed, fmt::format("{}/{}: {}", path, memory_name, e.what())); }
}

expected<void> write_memory(const std::string& path, const launch_memory& memory) {
  const json all{
      {"schema", 1}, {"faults_fired", memory.faults_fired}, {"trained_seconds", memory.trained_seconds}, {"restarts", memory.restarts}};
  return write_file(path, memory_name, all.dump(2) + "\n");
}

namespace {

/// The errno of an attempt to listen there; 0 when that works.
int listening_fails(const socket_address& where) {
  const int fd = ::socket(where.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int yes = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  const int failed = ::bind(fd, where.get(), where.size) != 0 ? errno : 0;
  ::close(fd);
  return failed;
}

bool wants_free_port(const std::string& address) {
  const auto parsed = parse_address(address);
  return parsed && parsed->port() == 0;
}

}  // namespace

expected<void> check_may_listen(const std::string& address) {
  const auto parsed = parse_address(address);
  if (!parsed) return parsed.failure();
  return check_allowed(*parsed, {.sealed = true, .test_network = std::getenv("ISTHMUS_TEST_NETWORK") != nullptr});
}

expected<void> check_fixed_addresses(const recipe& plan, std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds again{100};
  const auto trouble = [](const recipe::site& site, const std::string& what) {
    return fail(errc::environment, fmt::format("site {}: {}", site.name, what));
  };
  for (const auto& site : plan.sites)
    if (const auto ok = check_may_listen(site.address); !ok) return trouble(site, ok.error().message);
  for (const auto& site : plan.sites) {
    if (wants_free_port(site.address)) continue;
    const auto where = *parse_address(site.address);
    for (int failed = 0; (failed = listening_fails(where)) != 0; patience -= again) {
      if (failed != EADDRINUSE) return trouble(site, fmt::format("cannot listen on {}: {}", site.address, std::strerror(failed)));
      if (patience.count() <= 0)
        return trouble(site,
                       fmt::format("{} is in use by another process; end that one, or give sites.{}.address another port (0: any free "
                                   "one)",
                                   site.address, site.name));
      std::this_thread::sleep_for(again);
    }
  }
  return {};
}

std::string coordinator_name(std::size_t place) { return place == 0 ? "coordinator" : fmt::format("coordinator-{}", place + 1); }

expected<void> check_etcd(const recipe& plan) {
  if (plan.coordinator.log != "etcd") return {};
  const auto client = etcd_client::make(
      plan.coordinator.etcd, {.sealed = true, .test_network = std::getenv("ISTHMUS_TEST_NETWORK") != nullptr}, std::chrono::seconds(2));
  if (!client) return client.failure();
  if (const auto answer = client->get("/isthmus"); !answer)
    return fail(errc::environment, fmt::format("{}; start it, or use coordinator.log = \"file\"", answer.error().message));
  return {};
}

expected<std::map<site_id, std::string>> pick_addresses(const recipe& plan) {
  // Bulk data go from device to device: the coordinator is where the sites are.
  const auto& beside = plan.sites.front().address;
  std::vector<std::string> all(static_cast<std::size_t>(plan.coordinator.processes), beside.substr(0, beside.rfind(':')) + ":0");
  for (const auto& site : plan.sites) all.push_back(site.address);
  std::vector<int> held;  // until all are picked, so that no port comes twice
  std::string failed;
  for (auto& address : all) {
    if (!wants_free_port(address)) continue;
    const auto host = address.substr(0, address.rfind(':'));
    sockaddr_in socket_address{};
    socket_address.sin_family = AF_INET;
    socklen_t size = sizeof socket_address;
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto* raw = reinterpret_cast<sockaddr*>(&socket_address);
    if (fd >= 0) held.push_back(fd);
    if (fd < 0 || ::inet_pton(AF_INET, host.c_str(), &socket_address.sin_addr) != 1 || ::bind(fd, raw, size) != 0 ||
        ::getsockname(fd, raw, &size) != 0) {
      failed = fmt::format("cannot get a free port on {}: {}", host, std::strerror(errno));
      break;
    }
    address = fmt::format("{}:{}", host, ntohs(socket_address.sin_port));
  }
  for (const int fd : held) ::close(fd);
  if (!failed.empty()) return fail(errc::environment, failed);
  const auto first_site = all.begin() + plan.coordinator.processes;
  std::map<site_id, std::string> out{{coordinator_id, fmt::format("{}", fmt::join(all.begin(), first_site, ","))}};
  for (auto at = first_site; at != all.end(); ++at) out[static_cast<site_id>(at - first_site)] = *at;
  return out;
}

namespace {

std::string lock_path(const std::string& run_path) { return run_path + "/launcher.lock"; }

/// On the whole file. Of the open file, not of the process: it ends with the last descriptor, and another open of the same process
/// neither shares nor drops it.
struct flock whole_file(short type) {
  struct flock out {};
  out.l_type = type;
  out.l_whence = SEEK_SET;
  return out;
}

}  // namespace

expected<run_lock> run_lock::take(const std::string& run_path) {
  const auto path = lock_path(run_path);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return fail(errc::environment, fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  auto wanted = whole_file(F_WRLCK);
  if (::fcntl(fd, F_OFD_SETLK, &wanted) != 0) {
    char holder[32] = {};
    const auto got = ::pread(fd, holder, sizeof holder - 1, 0);
    ::close(fd);
    return fail(errc::environment, fmt::format("the run {} is being driven by another launcher (process {}); `isthmus status {}` shows it",
                                               run_path, got > 0 ? std::to_string(std::atol(holder)) : "unknown", shell_word(run_path)));
  }
  const auto pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0) {}  // the lock holds all the same
  return run_lock(fd);
}

bool run_lock::is_held(const std::string& run_path) {
  const int fd = ::open(lock_path(run_path).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  auto wanted = whole_file(F_RDLCK);
  const bool held = ::fcntl(fd, F_OFD_GETLK, &wanted) == 0 && wanted.l_type != F_UNLCK;
  ::close(fd);
  return held;
}

run_lock::~run_lock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace isthmus::launcher
