#include "framework/metrics/terminal.hpp"
#include "framework/transport/identity.hpp"
#include "launcher/join.hpp"
#include "launcher/keys.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isthmus::launcher {

namespace {

struct listed_key {
  std::string process, in_roster, file, state;
};

/// What the roster says of one process beside what its key file holds.
listed_key look_at(const run_folder& run, site_id site, const std::string& process, const std::string& in_roster, bool elsewhere) {
  listed_key found{process, in_roster, key_path(run, site), "ok"};
  const auto key = identity::read(found.file);
  if (elsewhere)
    found.state = "its secret half is where it was made";
  else if (!key)
    found.state = key.error().code == errc::not_found ? "its file is not here" : key.error().message;
  else if (to_hex(key->key()) != in_roster)
    found.state = in_roster.empty() ? "not in the roster yet" : "the roster has another one; resume enters this";
  return found;
}

int list_keys(const keys_options& options, console& out) {
  const auto path = find_run(options.path);
  if (!path) return out.error(path.error());
  const auto run = open_run_folder(*path);
  if (!run) return out.error(run.error());
  std::vector<listed_key> keys{look_at(*run, coordinator_id, "coordinator", run->people.coordinator_key, false)};
  for (const auto& s : run->people.sites) keys.push_back(look_at(*run, s.id, s.name, s.key, s.key_elsewhere));
  if (options.json) {
    nlohmann::json answer{{"schema", 1}, {"run", *path}, {"keys", nlohmann::json::array()}};
    for (const auto& k : keys)
      answer["keys"].push_back({{"process", k.process}, {"public_key", k.in_roster}, {"file", k.file}, {"state", k.state}});
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return exit_ok;
  }
  std::vector<std::vector<std::string>> rows{{"process", "public key", "state"}};
  for (const auto& k : keys) rows.push_back({k.process, k.in_roster.empty() ? "-" : k.in_roster, k.state});
  out.answer(show_table(rows, {false, false, false}));
  return exit_ok;
}

int answer_key(const keys_options& options, const public_key& key, console& out) {
  if (options.json)
    out.answer(nlohmann::json{{"schema", 1}, {"file", options.path}, {"public_key", to_hex(key)}}.dump(
                   2, ' ', false, nlohmann::json::error_handler_t::replace) +
               "\n");
  else
    out.answer(to_hex(key) + "\n");
  return exit_ok;
}

}  // namespace

int run_keys(const keys_options& options, console& out) {
  if (options.action == "list") return list_keys(options, out);
  if (options.action == "token") return make_token(options, out);
  if (options.action == "admit") return admit_newcomers(options, out);
  if (options.path.empty()) return out.error(exit_usage, fmt::format("keys {}: it needs the path of a key file", options.action));
  if (options.action == "show") {
    const auto key = identity::read(options.path);
    return key ? answer_key(options, key->key(), out) : out.error(key.error());
  }
  const auto made = identity::generate();
  const auto written = options.action == "make" ? made.write(options.path) : made.replace(options.path);
  return written ? answer_key(options, made.key(), out) : out.error(written.error());
}

}  // namespace isthmus::launcher
