// Contributions that are trained again: who is drawn, what is compared, what all ledgers say of it, and who is barred.
#include "framework/rounds/audit.hpp"

#include "framework/rounds/json_lines.hpp"
#include "tests/framework/rounds/expect.hpp"
#include "tests/framework/rounds/written_run.hpp"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

namespace {

constexpr site_id liar = 4;

cluster_settings audited(std::uint64_t seed) {
  cluster_settings s;
  s.seed = seed;
  s.sites = 5;
  s.rounds = 8;
  s.guarding.barred_after = 2;
  s.guarding.barred_rounds = 2;
  s.audit_rate = 0.5;
  s.audit_finds = [](site_id site) { return site == liar ? 0.1 : 0.9; };
  return s;
}

audit_settings always() {
  audit_settings s;
  s.rate = 1;
  s.cosine = 0.5;
  s.sites = {0, 1, 2};
  return s;
}

struct audited_run : written_run {
  audited_run() : written_run(audited(3)) {}
};

}  // namespace

BOOST_AUTO_TEST_SUITE(audit_test)

BOOST_AUTO_TEST_CASE(only_the_numbers_that_were_sent_are_compared) {
  const std::vector<float> trained{1, -2, 3, 4};
  BOOST_TEST(audit_cosine(std::vector<float>{2, -4, 6, 8}, trained) == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(audit_cosine(std::vector<float>{0, 0, 3, 0}, trained) == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(audit_cosine(std::vector<float>{0, 0, -3, 0}, trained) == -1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(audit_cosine(std::vector<float>{2, 1, 0, 0}, trained) == 0.0);
}

BOOST_AUTO_TEST_CASE(nothing_at_all_is_no_work) {
  const std::vector<float> none(4), some{0, 1, 0, 0};
  BOOST_TEST(audit_cosine(none, some) == 0.0);
  BOOST_TEST(audit_cosine(some, none) == 0.0);
  BOOST_TEST(audit_cosine(none, none) == 1.0);
}

BOOST_AUTO_TEST_CASE(the_draw_has_its_rate_and_is_known_to_one_home_only) {
  audit_settings s = always(), other = always();
  s.rate = other.rate = 0.25;
  s.secret = 1;
  other.secret = 2;
  int drawn = 0, by_both = 0;
  constexpr int rounds = 4000;
  for (round_number r = 1; r <= rounds; ++r) {
    drawn += is_audited(s, 0, r, 1) ? 1 : 0;
    by_both += is_audited(s, 0, r, 1) && is_audited(other, 0, r, 1) ? 1 : 0;
    BOOST_TEST(is_audited(s, 0, r, 1) == is_audited(s, 0, r, 1));
  }
  BOOST_TEST(drawn > 0.22 * rounds);
  BOOST_TEST(drawn < 0.28 * rounds);
  BOOST_TEST(by_both > 0.04 * rounds);  // independent: 0.0625
  BOOST_TEST(by_both < 0.09 * rounds);
  BOOST_TEST(!is_audited(always(), 0, 1, 3));  // its text is not here
  BOOST_TEST(is_audited(always(), 0, 1, 2));
}

BOOST_AUTO_TEST_CASE(failures_in_a_row_bar_and_a_pass_between_forgives) {
  guard_settings guard;
  guard.barred_after = 2;
  guard.barred_rounds = 5;
  watermark_table marks;
  round_record first;
  first.round = 1;
  for (site_id site = 0; site < 3; ++site) first.contributors.push_back({site, 1, 10, 100, {{site, 0, 4}}, 0});
  marks.apply(first);

  audit_list list;
  const auto audit = [&](site_id site, round_number round, double cosine) {
    list.begin(site, round);
    list.finish(always(), site, round, cosine);
  };
  audit(1, 1, 0.2);
  audit(1, 2, 0.8);
  audit(1, 3, 0.2);
  audit(2, 1, 0.5);  // just enough
  round_record record;
  record.round = 7;
  auto told = list.write_into(record, marks, guard, always());
  BOOST_REQUIRE(record.audits.size() == 4U);
  BOOST_TEST(record.audits[0].failed);
  BOOST_TEST(!record.audits[1].failed);
  BOOST_TEST(!record.audits[3].failed);
  for (const auto& a : record.audits) BOOST_TEST(a.barred_until == 0U);
  BOOST_TEST(told.size() == 2U);
  marks.apply(record);
  list.written(record);
  BOOST_TEST(marks.of(1).audits_failed == 1U);
  BOOST_TEST(marks.of(2).audits_failed == 0U);

  audit(1, 4, 0.1);
  round_record next;
  next.round = 8;
  told = list.write_into(next, marks, guard, always());
  BOOST_REQUIRE(next.audits.size() == 1U);
  BOOST_TEST(next.audits[0].barred_until == 13U);
  BOOST_REQUIRE(told.size() == 1U);
  BOOST_TEST(told[0].second.find("2 failed audits in a row: it is barred up to round 13") != std::string::npos, told[0].second);
  marks.apply(next);
  BOOST_TEST(marks.of(1).barred_until == 13U);
  BOOST_TEST(marks.of(1).audits_failed == 0U);
}

BOOST_AUTO_TEST_CASE(what_was_not_begun_or_is_void_says_nothing) {
  audit_list list;
  round_record record;
  list.finish(always(), 1, 1, 0.1);
  list.begin(1, 2);
  list.clear();
  list.finish(always(), 1, 2, 0.1);
  list.begin(1, 3);
  list.finish(always(), 1, 3, 0.9);
  list.finish(always(), 1, 3, 0.1);  // once is enough
  list.write_into(record, {}, {}, always());
  BOOST_REQUIRE(record.audits.size() == 1U);
  BOOST_TEST(!record.audits[0].failed);
}

BOOST_AUTO_TEST_CASE(a_record_without_audits_is_what_it_was) {
  round_record r;
  r.contributors = {{0, 4, 70, 1024, {{0, 5, 9}}, 0.1}};
  const hash128 plain = hash_record(r);
  BOOST_TEST(ledger::record_json(r).find("audits") == std::string::npos);
  r.audits = {{0, 1, 0.25, true, 9}};
  BOOST_TEST((hash_record(r) != plain));
  BOOST_TEST((*ledger::parse_record(ledger::record_json(r), "here") == r));
}

BOOST_DATA_TEST_CASE(every_ledger_has_the_audits_and_the_liar_is_barred, boost::unit_test::data::xrange(1, 9), seed) {
  cluster c(audited(static_cast<std::uint64_t>(seed)));
  BOOST_TEST(c.run(), c.state_text());
  const auto r = *check_ledgers(*c.ledgers());
  for (const auto& v : r.violations) BOOST_ERROR("seed " << seed << " " << v.where << " " << v.rule << ": " << v.what);
  BOOST_TEST(r.audits_made() > r.audits_failed());
  BOOST_TEST(r.audits_failed() > 0U);
  for (group_id g = 0; g < 2; ++g)
    for (site_id site = 0; site < liar; ++site) BOOST_TEST(c.group(1, g).watermarks().of(site).barred_until == 0U);
}

BOOST_DATA_TEST_CASE(a_crash_of_anybody_between_leaves_them_balanced, boost::unit_test::data::xrange(1, 13), seed) {
  cluster c(audited(static_cast<std::uint64_t>(seed)));
  const auto victim = static_cast<site_id>(seed % 5);
  c.before_delivery = [&](std::uint64_t number, site_id, site_id, const envelope&) {
    if (number == static_cast<std::uint64_t>(40 * seed)) c.kill(victim);
    if (number == static_cast<std::uint64_t>(40 * seed + 60)) c.restart(victim, true);
  };
  BOOST_TEST(c.run(), c.state_text());
  const auto r = *check_ledgers(*c.ledgers());
  for (const auto& v : r.violations) BOOST_ERROR("seed " << seed << " " << v.where << " " << v.rule << ": " << v.what);
}

BOOST_FIXTURE_TEST_CASE(an_audit_of_what_was_never_sent_is_seen, audited_run) {
  BOOST_TEST(report().balanced());
  const auto change = [](json& line) {
    if (line.contains("record") && line.at("record").contains("audits"))
      for (json& one : line["record"]["audits"]) one["round"] = one.at("round").get<round_number>() + 1000;
    return true;
  };
  for (site_id s = 0; s < 5; ++s) edit(site_log(s), change);
  BOOST_TEST(finds("audits"));
}

BOOST_AUTO_TEST_SUITE_END()
