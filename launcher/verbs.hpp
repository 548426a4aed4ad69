#pragma once

#include "framework/core/expected.hpp"
#include "launcher/console.hpp"

#include <cstdint>
#include <string>
#include <vector>

/// A file a verb. Each takes its options as a value, writes to the console and gives an exit code.
namespace isthmus::launcher {

struct ls_options {
  bool json = false;
};
int run_ls(const ls_options& options, console& out);

struct cp_options {
  std::string recipe, destination;
  bool force = false;
};
int run_cp(const cp_options& options, console& out);

struct show_options {
  std::string recipe;
  std::vector<std::string> overrides;
  bool origin = false, json = false, schema = false;
};
int run_show(const show_options& options, console& out);

struct validate_options {
  std::string recipe;
  std::vector<std::string> overrides;
  bool json = false;
};
int run_validate(const validate_options& options, console& out);

struct doctor_options {
  bool json = false;
};
int run_doctor(const doctor_options& options, console& out);

struct launch_options {
  std::string recipe, run_folder;
  std::vector<std::string> overrides;
  bool dry_run = false;
};
int run_launch(const launch_options& options, console& out);

struct resume_options {
  std::string run;
};
int run_resume(const resume_options& options, console& out);

struct status_options {
  std::string run;
  bool json = false;
};
int run_status(const status_options& options, console& out);

struct generate_verb_options {
  std::string run, prompt, site;
  std::int64_t tokens = 128;
  double temperature = 0.8, top_p = 0.95;
  std::uint64_t seed = 1;
  std::string weights = "master", kv_cache = "full";
  bool one_by_one = false;
  bool json = false;
};
int run_generate(const generate_verb_options& options, console& out);

struct convert_options {
  std::string source, destination, type = "f32";
  bool json = false;
};
int run_convert(const convert_options& options, console& out);

struct evaluate_options {
  std::string run, on;
  bool json = false;
};
int run_evaluate(const evaluate_options& options, console& out);

struct ledger_options {
  std::string run;
  bool json = false;
};
int run_ledger(const ledger_options& options, console& out);

struct keys_options {
  std::string action, path;  // make, show, rotate: of a key file; list, token, admit: of a run
  std::string site, expires = "1h", out = "join.token", listen = "127.0.0.1:7010";
  bool json = false;
};
int run_keys(const keys_options& options, console& out);

struct join_options {
  std::string token, key = "isthmus.key";
  bool json = false;
};
int run_join(const join_options& options, console& out);

struct net_options {
  std::vector<std::string> what;  // addresses, or one run or recipe; none: the newest run
  bool json = false;
};
int run_net(const net_options& options, console& out);

struct sim_options {
  std::string recipe, seeds, shrink, keep, run_folder, links = "auto";
  std::vector<std::string> overrides;
  std::int64_t jobs = 0;
  bool events = false, json = false, real = false;
};
int run_sim(const sim_options& options, console& out);

struct version_options {
  bool json = false;
};
int run_version(const version_options& options, console& out);

}  // namespace isthmus::launcher
