#pragma once

#include "tests/framework/rounds/cluster.hpp"

/// What the parts of the test cluster share.
namespace isthmus::testing {

inline constexpr std::uint64_t tokens_per_step = 4;
inline constexpr std::uint32_t steps_per_period = 2;
inline constexpr std::uint64_t reference = tokens_per_step * steps_per_period;
inline constexpr std::uint64_t samples = 24;  // a pass of a shard
inline constexpr const char* log_path = "coordinator.jsonl";

struct cluster::checkpoint {
  std::vector<group_snapshot> groups;
  std::vector<contribution_snapshot> books;
  std::string leases;
  step_number step = 0;
};

struct cluster::site_state {
  site_id id = 0;
  incarnation_number incarnation = 0;
  bool alive = false, stopped = false, said_done = false, recovered = false;
  epoch_number said_synced = 0, sealed = 0;
  std::vector<held_record> said_held;  // with the seal
  std::vector<parameter_group> groups;
  std::vector<std::unique_ptr<contribution_book>> books;
  std::optional<lease_book> leases;
  std::unique_ptr<ledger_writer> ledger;
  std::unique_ptr<checkpoint> saved;  // on its disk
  epoch_view view;
  step_number step = 0;
  // the period
  bool training = false;
  std::uint64_t period = 0;
  std::vector<lease> period_leases;
  std::vector<std::vector<float>> start, working;
  std::vector<round_number> start_round;
};

}  // namespace isthmus::testing
