#pragma once

#include "tests/framework/rounds/cluster.hpp"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <memory>
#include <string>

namespace isthmus::testing {

std::string site_log(site_id site);

/// The ledgers of one clean run, to be tampered with: each test starts from a fresh copy.
struct written_run {
  cluster_settings settings;
  std::unique_ptr<cluster> c;
  std::unique_ptr<storage> files;

  written_run() : written_run(cluster_settings{}) {}
  explicit written_run(cluster_settings with);

  std::string text(const std::string& path) const;
  void put(const std::string& path, const std::string& text);
  /// Lets `change` edit every line (true: keep it), seals the lines again. Gives how many it touched.
  int edit(const std::string& path, const std::function<bool(nlohmann::json&)>& change);
  ledger_report report() const { return *check_ledgers(*files); }
  /// Whether that rule is violated; else what is comes as a message.
  bool finds(const std::string& rule) const;
};

}  // namespace isthmus::testing
