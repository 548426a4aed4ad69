#include "framework/rounds/guard.hpp"

#include "framework/core/rng.hpp"

#include <boost/test/unit_test.hpp>

#include <utility>
#include <vector>

using namespace isthmus;

namespace {

constexpr std::uint64_t key = 3;
constexpr std::size_t size = 4096;

/// A common direction, and as much again of its own for each site and round.
std::vector<float> honest(site_id site, round_number round) {
  rng common(1, 0, round, draw::sampling), own(1, site + 1, round, draw::sampling);
  std::vector<float> v(size);
  for (float& x : v) x = static_cast<float>(common.uniform() - 0.5 + own.uniform() - 0.5);
  return v;
}

std::vector<float> times(float factor, std::vector<float> v) {
  for (float& x : v) x *= factor;
  return v;
}

judged_contribution sent(site_id site, round_number round, const std::vector<float>& values, std::uint64_t tokens = 100) {
  judged_contribution c;
  c.meta = {site, 1, 10 * round, tokens, {{site, round, round + 1}}, probe(values, key)};
  c.values = std::make_unique<float_array>(size);
  std::ranges::copy(values, c.values->data());
  c.size = measure(std::as_const(*c.values).span(), key);
  c.sketch = sketch_of(std::as_const(*c.values).span(), key);
  return c;
}

/// Rounds of eight sites at one home.
struct home {
  guard_settings settings;
  std::unique_ptr<guard> judge;
  watermark_table marks;
  round_number round = 0;
  std::vector<judged_contribution> all;
  std::vector<float> sum = std::vector<float>(size);

  home() {
    settings.norm_veto = 4;
    settings.similarity_veto = 0.95;
    settings.direction_veto = 0.01;
    settings.aggregate = aggregate_kind::clip_to_median;
  }
  void begin() {
    if (!judge) judge = std::make_unique<guard>(settings, key, 100);
    ++round;
    all.clear();
    for (site_id s = 0; s < 8; ++s) all.push_back(sent(s, round, honest(s, round)));
  }
  void end() {
    judge->judge(all, marks, round);
    judge->add(all, {}, sum);
    judge->remember(all);
    round_record r;
    for (const auto& c : all) r.contributors.push_back(c.meta);
    marks.apply(r);
  }
  verdict of(site_id s) const { return all[s].meta.judged; }
  void expect_honest(site_id from) const {
    for (site_id s = from; s < 8; ++s) BOOST_TEST(!is_veto(of(s)), "site " << s << " in round " << round << ": " << all[s].reason);
  }
};

void expect(verdict found, verdict wanted) { BOOST_TEST(name_of(found) == name_of(wanted)); }

}  // namespace

BOOST_FIXTURE_TEST_SUITE(guard_test, home)

BOOST_AUTO_TEST_CASE(honest_sites_are_never_vetoed) {
  for (int i = 0; i < 20; ++i) {
    begin();
    end();
    expect_honest(0);
  }
}

BOOST_AUTO_TEST_CASE(three_of_eight_that_flip_the_sign_are_told_by_their_direction) {
  for (int i = 0; i < 5; ++i) {
    begin();
    for (site_id s = 0; s < 3; ++s) all[s] = sent(s, round, times(-1, honest(s, round)));
    end();
    for (site_id s = 0; s < 3; ++s) expect(of(s), verdict::direction);
    expect_honest(3);
    BOOST_TEST(all[0].meta.uncounted == 100U);
    BOOST_TEST(all[0].meta.clipped == all[0].meta.mass);
  }
}

BOOST_AUTO_TEST_CASE(a_thousandfold_contribution_is_told_by_its_length) {
  begin();
  all[2] = sent(2, round, times(1000, honest(2, round)));
  all[5] = sent(5, round, times(3.0F / 100, honest(5, round)), 3);  // small, but what three tokens make
  end();
  expect(of(2), verdict::norm);
  BOOST_TEST(all[2].reason.find("times as long as the median one") != std::string::npos);
  BOOST_TEST(!is_veto(of(5)));
}

BOOST_AUTO_TEST_CASE(an_earlier_contribution_is_known_again_however_long_it_is) {
  begin();
  end();
  begin();
  all[1] = sent(1, round, times(2, honest(1, 1)));
  all[4] = sent(4, round, times(0.5F, honest(6, 1)));
  end();
  expect(of(1), verdict::replay);
  expect(of(4), verdict::copy);
  BOOST_TEST(all[4].reason.find("site 6") != std::string::npos);
  for (const site_id s : {0U, 2U, 3U, 5U, 6U, 7U}) BOOST_TEST(!is_veto(of(s)));
}

BOOST_AUTO_TEST_CASE(what_is_sent_again_because_its_record_became_void_is_no_replay) {
  begin();
  end();
  auto again = std::exchange(all, {});
  ++round;
  for (auto& c : again) all.push_back(sent(c.meta.site, 1, honest(c.meta.site, 1)));  // the same step
  end();
  expect_honest(0);
}

BOOST_AUTO_TEST_CASE(what_is_made_again_of_samples_that_came_back_is_no_replay) {
  settings.direction_veto = -1;
  begin();
  all[2] = sent(2, round, times(1000, honest(2, 1)));  // vetoed: its samples return
  end();
  expect(of(2), verdict::norm);
  begin();
  all[2] = sent(2, round, honest(2, 1));
  all[3] = sent(3, round, honest(3, 1));
  end();
  BOOST_TEST(!is_veto(of(2)));
  expect(of(3), verdict::replay);
  judge->forget();  // round 1 became void
  begin();
  all[3] = sent(3, round, honest(3, 1));
  end();
  BOOST_TEST(!is_veto(of(3)));
}

BOOST_AUTO_TEST_CASE(of_two_alike_in_one_round_that_of_the_older_site_stays) {
  begin();
  all.erase(all.begin());  // site 0 is new in round 2
  end();
  begin();
  all[0] = sent(0, round, honest(7, round));
  end();
  expect(of(0), verdict::copy);
  BOOST_TEST(!is_veto(of(7)));
}

BOOST_AUTO_TEST_CASE(a_mass_that_its_numbers_do_not_have_is_vetoed) {
  begin();
  all[3].meta.mass += 1;
  end();
  expect(of(3), verdict::mass);
}

BOOST_AUTO_TEST_CASE(vetoes_in_a_row_bar_a_site_for_a_while) {
  settings.barred_after = 2;
  settings.barred_rounds = 3;
  const auto play = [&](bool wrong) {
    begin();
    if (wrong) all[0] = sent(0, round, times(1000, honest(0, round)));
    end();
  };
  play(true);
  play(false);  // in between a good one: the count begins again
  BOOST_TEST(!is_veto(of(0)));
  play(true);
  play(true);
  BOOST_TEST(all[0].meta.barred_until == 7U);
  BOOST_TEST(all[0].reason.find("barred up to round 7") != std::string::npos);
  for (int i = 5; i <= 7; ++i) {
    play(false);
    expect(of(0), verdict::barred);
  }
  play(false);
  BOOST_TEST(!is_veto(of(0)));
}

BOOST_AUTO_TEST_CASE(a_large_claim_counts_up_to_the_cap) {
  settings.weight_cap = 2;
  begin();
  all[0] = sent(0, round, times(1000, honest(0, round)), 100'000);  // consistent: a thousand times the tokens
  end();
  expect(of(0), verdict::clipped);
  BOOST_TEST(all[0].meta.counted() == 200U);
  double in = 0;
  for (const auto& c : all) in += c.meta.mass - c.meta.clipped;
  BOOST_TEST(std::abs(in - probe(sum, key)) < 1.0);
}

BOOST_AUTO_TEST_CASE(who_comes_late_is_on_probation_and_founders_are_not) {
  settings.probation_rounds = 2;
  settings.probation_weight = 0.25;
  for (int i = 0; i < 3; ++i) {
    begin();
    all.erase(all.begin());
    end();
    for (const auto& c : all) BOOST_TEST(c.meta.uncounted == 0U);
  }
  for (int i = 0; i < 2; ++i) {
    begin();
    end();
    BOOST_TEST(all[0].meta.counted() == 25U);
    BOOST_TEST(all[1].meta.counted() == 100U);
  }
  begin();
  end();
  BOOST_TEST(all[0].meta.counted() == 100U);
}

BOOST_AUTO_TEST_CASE(where_everybody_sends_zeros_nobody_is_judged_by_length) {
  begin();
  for (site_id s = 0; s < 8; ++s) all[s] = sent(s, round, std::vector<float>(size, 0.0F));
  settings.direction_veto = -1;
  judge = std::make_unique<guard>(settings, key, 100);
  all[3] = sent(3, round, honest(3, round));
  end();
  expect_honest(0);
}

BOOST_AUTO_TEST_CASE(sketches_tell_how_alike_two_directions_are) {
  const auto a = honest(0, 1), b = honest(1, 1), c = honest(2, 9);
  BOOST_TEST(cosine(sketch_of(a, key), sketch_of(times(-3, a), key)) < -0.999);
  BOOST_TEST(std::abs(cosine(sketch_of(a, key), sketch_of(b, key)) - 0.5) < 0.2);
  BOOST_TEST(std::abs(cosine(sketch_of(a, key), sketch_of(c, key))) < 0.25);
  BOOST_TEST(cosine(sketch_of(a, key), direction_sketch{}) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
