#pragma once

#include "actors/site.hpp"
#include "framework/emulator/steering.hpp"
#include "framework/transport/identity.hpp"

#include <map>
#include <memory>
#include <string>

namespace isthmus::actors {

/// One process that is a site of a run. Files lie below run_folder (ledger/, checkpoints/, sites/); addresses hold every site's and the
/// coordinator's (all of them, parted by commas, where several stand by), ours included: that is where we listen.
struct site_process {
  recipe plan;
  std::string run_id, run_folder;
  site_id self = 0;
  std::map<site_id, std::string> addresses;
  std::shared_ptr<const link_keys> keys;  // links are sealed with them
  std::shared_ptr<const token_shard> tokens;
  std::string domain;  // of its text, and the unigram entropy of its held-out part: for display
  double unigram_entropy = 0;
  metrics_sink* metrics = nullptr;                 // borrowed
  own_codecs codecs{};                             // that the recipe may name beside ours
  std::shared_ptr<emulator::steering> steering{};  // by which a rehearsal slows it and hurts its links; null: nobody does
  std::map<site_id, std::shared_ptr<const token_shard>> shared_texts{};  // of others, where this site may audit them
};

/// Runs it to its end and gives the process's exit code (docs/manual.md). SIGTERM: finish the period, checkpoint, 7; a second one: stop
/// now, 7; SIGUSR1: checkpoint and go on; SIGUSR2: a rehearsal, the last device fails; SIGINT is the launcher's business and ignored.
/// Messages for people go to stderr.
int run_site(site_process process);

/// A process that is a coordinator of the run, run_coordinator.cpp. With its log in a file it leads at once: a lock file keeps others off,
/// and its memory is coordinator.jsonl. With its log in etcd it waits for the lead, and coordinator.jsonl is a copy, for `isthmus ledger`
/// and all that reads the run's folder.
struct coordinator_process {
  recipe plan;
  std::string run_id, run_folder;
  std::string name = "coordinator";       // of the process; its files are in sites/NAME
  std::string listen;                     // once it leads
  std::shared_ptr<const link_keys> keys;  // as of a site
  metrics_sink* metrics = nullptr;        // borrowed
  std::shared_ptr<emulator::steering> steering{};
};
/// Its exit code: 0 the run is finished, 7 asked to stop, 1 fenced or failed, 4 and 5 as of a site.
int run_coordinator(coordinator_process process);

/// The arithmetic of the recipe's model on this machine's fastest kernels.
site_arithmetic make_arithmetic(const recipe& plan, site_id site);

}  // namespace isthmus::actors
