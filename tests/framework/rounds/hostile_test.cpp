// Sites that send what no training made: the rounds go on, and the accounts of all agree on what was taken of it.
#include "framework/rounds/json_lines.hpp"
#include "tests/framework/rounds/expect.hpp"
#include "tests/framework/rounds/written_run.hpp"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cstring>
#include <limits>

using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

namespace {

constexpr site_id hostile = 4;

cluster_settings guarded(std::uint64_t seed) {
  cluster_settings s;
  s.seed = seed;
  s.sites = 5;
  s.rounds = 6;
  s.guarding.aggregate = aggregate_kind::clip_to_median;
  s.guarding.norm_veto = 8;
  s.guarding.barred_after = 2;
  s.guarding.barred_rounds = 2;
  s.spoil = [](site_id site, group_id, std::span<const float> start, std::span<float> working) {
    for (std::size_t i = 0; site == hostile && i < working.size(); ++i) working[i] = start[i] + 1000 * (working[i] - start[i]);
  };
  return s;
}

/// The contributions of a site become no numbers on their way.
void send_nan(cluster& c, site_id site) {
  c.before_sending = [site](site_id from, envelope& what) {
    auto* m = std::get_if<message::contribution>(&what.body);
    if (m == nullptr || from != site) return;
    const std::vector<float> none(what.payload->size() / 4, std::numeric_limits<float>::quiet_NaN());
    what.payload = make_shared_bytes(std::as_bytes(std::span(none)));
    m->frame_hash = hash_bytes(what.payload->bytes());
  };
}

std::map<std::string, int> verdicts_of(const storage& run, site_id site) {
  std::map<std::string, int> found;
  const auto bytes = *run.read(site_log(0), 1 << 26);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const auto& line : json_lines::split(text)) {
    const json body = *json_lines::open(line.text, "log");
    if (body.at("t") != "applied") continue;
    for (const json& c : body.at("record").at("contributors"))
      if (c.at("site") == site) ++found[c.value("verdict", "taken")];
  }
  return found;
}

int count_events(const storage& run, site_id site, const std::string& event) {
  int found = 0;
  const auto bytes = *run.read(site_log(site), 1 << 26);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const auto& line : json_lines::split(text)) {
    const json body = *json_lines::open(line.text, "log");
    found += body.at("t") == "mass" && body.at("event") == event ? 1 : 0;
  }
  return found;
}

/// Site 0 at the start of an epoch of so many members, home of a group of 16 elements of 0.5.
parameter_group home_of(site_id members) {
  group_settings s;
  s.incarnation = 1;
  s.shape.size = 16;
  s.shape.tensors = {{0, 16}};
  s.codecs.steady = {std::make_shared<test_codec>(0.0F), std::make_shared<test_codec>(0.0F), false};
  s.outer.kind = outer_kind::plain;
  s.reference_tokens = 100;
  parameter_group group(s, std::vector<float>(16, 0.5F));
  epoch_view view;
  view.number = 1;
  for (site_id site = 0; site < members; ++site) view.members.push_back({site, 1, false, 0});
  view.cuts = {{0, 0, 0, 0, {}, group.held().anchor_hash, 0}};
  (void)group.enter_epoch(view, time_point{});
  return group;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hostile_test)

BOOST_DATA_TEST_CASE(what_is_vetoed_is_gone_and_the_accounts_balance, boost::unit_test::data::xrange(1, 9), seed) {
  cluster c(guarded(static_cast<std::uint64_t>(seed)));
  BOOST_TEST(c.run(), c.state_text());
  const auto files = c.ledgers();
  const auto r = *check_ledgers(*files);
  for (const auto& v : r.violations) BOOST_ERROR("seed " << seed << " " << v.where << " " << v.rule << ": " << v.what);
  BOOST_TEST(r.vetoed > 0U);
  BOOST_TEST(r.clipped > 0U);  // honest ones above the median
  auto found = verdicts_of(*files, hostile);
  BOOST_TEST(found["norm"] > 0);
  BOOST_TEST(found["barred"] > 0);
  BOOST_TEST(found["taken"] + found["clipped"] == 0);
  BOOST_TEST(verdicts_of(*files, 1)["norm"] == 0);
  BOOST_TEST(count_events(*files, hostile, "discarded") > 0);
  BOOST_TEST(count_events(*files, hostile, "counted") == 0);
  BOOST_TEST(c.group(0, 0).watermarks().of(hostile).leases.empty());  // nothing of its samples is in the model
}

BOOST_DATA_TEST_CASE(a_crash_of_anybody_between_leaves_them_balanced, boost::unit_test::data::xrange(1, 13), seed) {
  cluster c(guarded(static_cast<std::uint64_t>(seed)));
  const auto victim = static_cast<site_id>(seed % 5);
  c.before_delivery = [&](std::uint64_t number, site_id, site_id, const envelope&) {
    if (number == static_cast<std::uint64_t>(40 * seed)) c.kill(victim);
    if (number == static_cast<std::uint64_t>(40 * seed + 60)) c.restart(victim, true);
  };
  BOOST_TEST(c.run(), c.state_text());
  const auto r = *check_ledgers(*c.ledgers());
  for (const auto& v : r.violations) BOOST_ERROR("seed " << seed << " " << v.where << " " << v.rule << ": " << v.what);
}

// Without any guard, too: NaN goes into no sum, and never back into the residual that would send it again.
BOOST_DATA_TEST_CASE(frames_that_are_no_numbers_are_vetoed_for_good, boost::unit_test::data::make({0, 1}), with_guard) {
  auto s = guarded(3);
  s.spoil = {};
  if (with_guard == 0) s.guarding = {};
  cluster c(s);
  send_nan(c, hostile);
  BOOST_TEST(c.run(), c.state_text());
  const auto files = c.ledgers();
  const auto r = *check_ledgers(*files);
  for (const auto& v : r.violations) BOOST_ERROR(v.where << " " << v.rule << ": " << v.what);
  BOOST_TEST(verdicts_of(*files, hostile)["not_finite"] > 0);
  for (group_id g = 0; g < s.groups; ++g)
    for (const float x : c.group(1, g).anchor()) BOOST_TEST(std::abs(x) < 1e6F);
}

// A claim of 2^62 tokens would end the run at once.
BOOST_AUTO_TEST_CASE(a_claim_beyond_all_bounds_is_refused) {
  parameter_group group = home_of(2);
  const std::vector<float> ones(16, 1.0F);
  const auto frame = make_shared_bytes(std::as_bytes(std::span(ones)));
  const contributor honest{1, 1, 5, 100, {}, 0}, boaster{1, 1, 5, std::uint64_t{1} << 62, {}, 0};
  const auto arrive = [&](const contributor& from) {
    const message::contribution sent{1, 0, 1, from, hash_bytes(frame->bytes()), {}};
    (void)group.receive(1, 1, {sent, frame}, time_point{});
  };
  arrive(boaster);
  BOOST_TEST(group.counters().malformed == 1U);
  arrive(honest);
  BOOST_TEST(group.counters().malformed == 1U);
  BOOST_TEST(group.counters().duplicate == 0U);  // the boaster's was not kept
}

BOOST_AUTO_TEST_CASE(a_round_of_vetoes_alone_is_a_round) {
  parameter_group group = home_of(1);
  const std::vector<float> none(16, std::numeric_limits<float>::infinity());
  contributor mine{0, 1, 5, 100, {{0, 0, 4}}, 0};
  bool told = false;
  for (const auto& action : group.local_contribution(1, make_shared_bytes(std::as_bytes(std::span(none))), mine, time_point{}))
    if (const auto* a = std::get_if<group_effect::applied>(&action)) {
      told = true;
      BOOST_TEST(a->mine);
      BOOST_TEST(a->vetoed);
      BOOST_TEST((a->leases == mine.leases));
      BOOST_TEST(a->record.tokens_total == 0U);
    }
  BOOST_TEST(told);
  BOOST_TEST(group.round() == 1U);
  BOOST_TEST(group.anchor()[3] == 0.5F);
  BOOST_TEST(group.watermarks().of(0).step == 5U);
}

struct hostile_run : written_run {
  hostile_run() : written_run(guarded(2)) {}
};

BOOST_FIXTURE_TEST_CASE(vetoed_mass_that_goes_back_is_seen, hostile_run) {
  BOOST_TEST(report().balanced());
  int touched = 0;
  edit(site_log(hostile), [&](json& line) {
    if (touched > 0 || line.at("t") != "mass" || line.at("event") != "discarded") return true;
    ++touched;
    line["event"] = "lost";
    line["residual"] = line.at("residual").get<double>() + line.at("frame").get<double>();
    return true;
  });
  BOOST_TEST(touched == 1);
  BOOST_TEST(finds("discarded"));
}

BOOST_FIXTURE_TEST_CASE(mass_that_is_discarded_without_a_veto_is_seen, hostile_run) {
  int touched = 0;
  edit(site_log(1), [&](json& line) {
    if (touched > 0 || line.at("t") != "mass" || line.at("event") != "counted") return true;
    ++touched;
    line["event"] = "discarded";
    return true;
  });
  BOOST_TEST(touched == 1);
  BOOST_TEST(finds("discarded"));
}

BOOST_FIXTURE_TEST_CASE(more_taken_off_than_the_sum_shows_is_seen, hostile_run) {
  const auto change = [](json& line) {
    if (!line.contains("record") || line.at("record").at("round") != 2 || line.at("record").at("group") != 0) return true;
    for (json& one : line["record"]["contributors"])
      if (one.at("site") == 1) {
        one["verdict"] = "clipped";
        one["uncounted"] = 0;
        one["clipped"] = one.value("clipped", 0.0) + 5;
      }
    return true;
  };
  for (site_id s = 0; s < 5; ++s) edit(site_log(s), change);
  BOOST_TEST(finds("mass"));
}

BOOST_AUTO_TEST_CASE(without_a_guard_records_are_as_they_were) {
  cluster_settings s;
  s.seed = 7;
  cluster c(s);
  BOOST_TEST(c.run(), c.state_text());
  const auto files = c.ledgers();
  for (site_id site = 0; site < 3; ++site) {
    const auto bytes = *files->read(site_log(site), 1 << 26);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const char* word : {"verdict", "uncounted", "clipped", "strikes"}) BOOST_TEST(text.find(word) == std::string_view::npos, word);
  }
  round_record r;
  r.contributors = {{0, 4, 70, 1024, {{0, 5, 9}}, 0.1}};
  const hash128 plain = hash_record(r);
  r.contributors[0].barred_until = 0;
  BOOST_TEST((hash_record(r) == plain));
  r.contributors[0].judged = verdict::clipped;
  r.contributors[0].clipped = 0.05;
  const hash128 clipped = hash_record(r);
  BOOST_TEST((clipped != plain));
  r.contributors[0].clipped = 0.06;
  BOOST_TEST((hash_record(r) != clipped));
}

BOOST_AUTO_TEST_SUITE_END()
