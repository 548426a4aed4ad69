#include "tests/framework/rounds/written_run.hpp"

#include "framework/rounds/json_lines.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

namespace isthmus::testing {

using nlohmann::json;

std::string site_log(site_id site) { return ledger_writer::path_of(site); }

written_run::written_run(cluster_settings with) : settings(with) {
  settings.rounds = 4;
  settings.group_size = 8;
  c = std::make_unique<cluster>(settings);
  BOOST_TEST_REQUIRE(c->run());
  files = c->ledgers();
}

std::string written_run::text(const std::string& path) const {
  const auto bytes = *files->read(path, 1 << 26);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void written_run::put(const std::string& path, const std::string& text) {
  BOOST_TEST_REQUIRE(files->write_synced(path, std::as_bytes(std::span(text.data(), text.size()))).has_value());
}

int written_run::edit(const std::string& path, const std::function<bool(json&)>& change) {
  std::string out;
  int touched = 0;
  const std::string all = text(path);
  for (const auto& line : json_lines::split(all)) {
    json body = *json_lines::open(line.text, path);
    const json before = body;
    const bool keep = change(body);
    touched += !keep || body != before ? 1 : 0;
    if (keep) out += json_lines::seal(body.dump());
  }
  put(path, out);
  return touched;
}

bool written_run::finds(const std::string& rule) const {
  const auto found = report();
  for (const auto& v : found.violations) {
    BOOST_TEST(!v.where.empty());
    if (v.rule == rule) return true;
  }
  for (const auto& v : found.violations) BOOST_TEST_MESSAGE(v.where << " " << v.rule << ": " << v.what);
  return false;
}

}  // namespace isthmus::testing
