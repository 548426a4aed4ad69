#include "tests/framework/rounds/expect.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>

namespace isthmus::testing {

void expect_one_history(cluster& c, const cluster_settings& settings, const std::string& what) {
  BOOST_TEST(c.finished(), what << ": not finished: " << c.state_text());
  if (!c.finished()) return;
  for (group_id g = 0; g < settings.groups; ++g) {
    std::vector<hash128> hashes;
    for (site_id s = 0; s < settings.sites; ++s)
      if (c.alive(s) && c.saw_the_end(s)) hashes.push_back(hash_floats(c.group(s, g).anchor()));
    BOOST_TEST(std::count(hashes.begin(), hashes.end(), hashes.front()) == static_cast<std::ptrdiff_t>(hashes.size()),
               what << ": anchors differ: " << c.state_text());
  }
  const auto ledgers = c.ledgers();
  const auto report = check_ledgers(*ledgers);
  BOOST_TEST_REQUIRE(report.has_value(), what << ": " << (report ? "" : report.error().message));
  for (const ledger_violation& v : report->violations) BOOST_ERROR(what << ": " << v.where << " " << v.rule << ": " << v.what);
  BOOST_TEST(report->balanced(), what << " " << c.state_text());
}

}  // namespace isthmus::testing
