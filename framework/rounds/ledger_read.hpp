#pragma once

#include "framework/rounds/coordinator_log.hpp"
#include "framework/rounds/ledger_check.hpp"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

/// What the checker's parts share: the logs as read, and the history that they tell.
namespace isthmus::ledger_check {

struct site_line {
  std::string where;
  site_id site = 0;
  incarnation_number incarnation = 0;
  std::string type;
  std::shared_ptr<const nlohmann::json> body;
};

struct epoch_line {
  std::string where;
  coordinator_entry entry;
};

struct logs {
  std::vector<epoch_line> epochs;                   // in order
  std::map<site_id, std::vector<site_line>> sites;  // each in file order
  bool finished = false;                            // the coordinator's end entry is there
};

/// A record and what the logs say about it.
struct known_record {
  round_record record;
  hash128 hash;
  std::string where;         // first line that names it
  std::string committed_at;  // the home's line, or empty
  std::map<site_id, incarnation_number> stored, applied;
  std::vector<site_id> counted;  // stored_at of the committed line
  bool is_void = false;
};

/// Per group the rounds that count, by number.
using history = std::map<group_id, std::map<round_number, const known_record*>>;

class violations {
public:
  explicit violations(ledger_report& report) : report_(report) {}
  void add(const std::string& where, const char* rule, std::string what) {
    if (report_.violations.size() < 1000) report_.violations.push_back({where, rule, std::move(what)});
  }

private:
  ledger_report& report_;
};

expected<logs> read_logs(const storage& run, ledger_report& report);
/// Epochs, records, commits: gives the one history, or tells why there is none.
history check_rounds(const logs& all, std::map<hash128, known_record>& records, ledger_report& report);
void check_samples(const logs& all, const history& h, const std::map<hash128, known_record>& records, ledger_report& report);
void check_mass(const logs& all, const history& h, const std::map<hash128, known_record>& records, ledger_report& report);
void check_checkpoints(const logs& all, ledger_report& report);

}  // namespace isthmus::ledger_check
