#pragma once

#include "framework/rounds/json_lines.hpp"
#include "tests/framework/rounds/cluster.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>

namespace isthmus::testing {

inline std::string site_log(site_id site) { return ledger_writer::path_of(site); }

/// The ledgers of one clean run, to be tampered with: each test starts from a fresh copy.
struct written_run {
  cluster_settings settings;
  std::unique_ptr<cluster> c;
  std::unique_ptr<storage> files;

  written_run() : written_run(cluster_settings{}) {}
  explicit written_run(cluster_settings with) : settings(with) {
    settings.rounds = 4;
    settings.group_size = 8;
    c = std::make_unique<cluster>(settings);
    BOOST_TEST_REQUIRE(c->run());
    files = c->ledgers();
  }

  std::string text(const std::string& path) {
    const auto bytes = *files->read(path, 1 << 26);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  void put(const std::string& path, const std::string& text) {
    BOOST_TEST_REQUIRE(files->write_synced(path, std::as_bytes(std::span(text.data(), text.size()))).has_value());
  }
  /// Lets `change` edit every line (true: keep it), seals the lines again. Gives how many it touched.
  template <class Function>
  int edit(const std::string& path, Function change) {
    std::string out;
    int touched = 0;
    const std::string all = text(path);
    for (const auto& line : json_lines::split(all)) {
      nlohmann::json body = *json_lines::open(line.text, path);
      const nlohmann::json before = body;
      const bool keep = change(body);
      touched += !keep || body != before ? 1 : 0;
      if (keep) out += json_lines::seal(body.dump());
    }
    put(path, out);
    return touched;
  }
  ledger_report report() { return *check_ledgers(*files); }
  bool finds(const std::string& rule) {
    const auto found = report();
    for (const auto& v : found.violations) {
      BOOST_TEST(!v.where.empty());
      if (v.rule == rule) return true;
    }
    for (const auto& v : found.violations) BOOST_TEST_MESSAGE(v.where << " " << v.rule << ": " << v.what);
    return false;
  }
};

}  // namespace isthmus::testing
