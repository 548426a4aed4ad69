#pragma once

#include "framework/core/expected.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

/// The numbers of one run in one SQLite file of its folder (metrics.sqlite): what the live display and `isthmus status` show, also
/// after a crash. Nothing decides on it and nothing is proved from it (that is the ledgers' part), so a writer that cannot write
/// drops rows, says so, and training goes on. wall: seconds since 1970.
namespace isthmus {

/// The run as a whole; one row, written by the launcher.
struct run_row {
  std::string id, name, recipe_hash;
  std::string state;    // preparing | running | stopped | finished | failed
  std::string message;  // why, in plain words
  std::int64_t planned_tokens = 0, planned_rounds = 0, parameters = 0;
  double started = 0, updated = 0;  // wall
  std::int64_t launcher_pid = 0;
  double trained_seconds = 0;  // over all launches
  std::int64_t faults_fired = 0, restarts = 0;
};

/// A site as it last described itself.
struct site_row {
  site_id site = 0;
  std::string name;
  incarnation_number incarnation = 0;
  std::string state;  // starting | joining | training | standing by | stopping | stopped | finished | dead
  std::int64_t devices = 0, devices_wanted = 0;
  step_number step = 0;
  std::uint64_t tokens = 0;  // trained here, over the site's whole life
  epoch_number epoch = 0;
  round_number round = 0;                  // the lowest committed one over its groups
  double loss = 0, tokens_per_second = 0;  // smoothed
  double wall = 0;
};

/// One inner step of a site.
struct sample_row {
  site_id site = 0;
  step_number step = 0;
  std::uint64_t tokens = 0;  // of the site, after the step
  double loss = 0;           // nats per token, mean of the step
  double learning_rate = 0, gradient_norm = 0, tokens_per_second = 0, wall = 0;
};

/// One committed round of one group, told by its home.
struct round_row {
  group_id group = 0;
  round_number round = 0;
  epoch_number epoch = 0;
  site_id home = 0;
  std::string contributors;  // site ids, comma separated, in site order
  std::uint64_t tokens = 0, delta_bytes = 0;
  double seconds = 0;       // from its opening to its commit
  std::string anchor_hash;  // hex
  double wall = 0;
};

/// One direction's end of a link, as the site sees it.
struct link_row {
  site_id site = 0, peer = 0;
  std::string state;  // up | down | late
  double round_trip_seconds = 0, send_bytes_per_second = 0;
  std::uint64_t bytes_out = 0, bytes_in = 0, payload_out = 0, payload_in = 0, in_flight = 0, reconnects = 0;
  double wall = 0;
};

/// Something worth a line: joined, left, excluded (why), healed, fault, checkpoint saved, ...
struct event_row {
  std::int64_t number = 0;  // given by the store, ascending
  std::string who;          // "alpha", "coordinator", "launcher"
  std::string kind;         // one word
  std::string text;
  double wall = 0;
};

/// A durable checkpoint of a site.
struct checkpoint_row {
  site_id site = 0;
  round_number round = 0;
  step_number step = 0;
  std::string folder;  // below the run folder
  std::uint64_t bytes = 0;
  double seconds = 0, wall = 0;
};

/// The anchor of a round on a site's held-out text.
struct evaluation_row {
  site_id site = 0;
  round_number round = 0;
  std::uint64_t run_tokens = 0;  // trained by then, over all sites
  std::string domain;
  double loss = 0, unigram_entropy = 0;  // nats per token
  std::uint64_t tokens = 0;              // evaluated
  double wall = 0;
};

using store_row = std::variant<run_row, site_row, sample_row, round_row, link_row, event_row, checkpoint_row, evaluation_row>;

/// Name of the store inside a run folder.
inline constexpr const char* run_store_name = "metrics.sqlite";

/// What a writer has to say about itself.
struct store_health {
  std::uint64_t written = 0, waiting = 0, dropped = 0;
  std::string last_error;  // empty when the last write went well
};

/// One process's pen. Rows wait in memory until flush(); a locked, full, read-only or damaged store costs rows, never more. Rows
/// with the same key replace each other (a site, a step, a round, a link). Not thread-safe: one owner.
class run_store_writer {
public:
  /// Opens lazily: a store that cannot be opened shows in health(), and is tried again.
  explicit run_store_writer(std::string path);
  ~run_store_writer();
  run_store_writer(const run_store_writer&) = delete;
  run_store_writer& operator=(const run_store_writer&) = delete;

  void put(store_row row);
  /// Writes what waits in one transaction. Waits at most about 250 ms for other writers. False: rows still wait or were dropped.
  bool flush();
  store_health health() const;

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// Reads a store, also while others write and after a crash; never changes it. Every call sees one moment.
class run_store_reader {
public:
  /// Errors: not_found, malformed (damaged, or no store), unsupported (made by a newer version).
  static expected<run_store_reader> open(const std::string& path);
  run_store_reader(run_store_reader&&) noexcept;
  run_store_reader& operator=(run_store_reader&&) noexcept;
  ~run_store_reader();

  expected<run_row> run() const;
  expected<std::vector<site_row>> sites() const;                           // in site order
  expected<std::vector<link_row>> links() const;                           // by site, peer
  expected<std::vector<sample_row>> samples(double after_wall = 0) const;  // by wall, then site and step
  expected<std::vector<round_row>> rounds(round_number after = 0) const;   // by round, group
  expected<std::vector<event_row>> events(std::int64_t after_number = 0) const;
  expected<std::vector<checkpoint_row>> checkpoints() const;  // by round, site
  expected<std::vector<evaluation_row>> evaluations() const;  // by round, site

private:
  struct impl;
  explicit run_store_reader(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

/// Moves a damaged store aside (metrics.sqlite.damaged-1, ...) so that a new one can begin; true when it did. Only for the launcher,
/// before its children run.
bool set_aside_when_damaged(const std::string& path);

}  // namespace isthmus
