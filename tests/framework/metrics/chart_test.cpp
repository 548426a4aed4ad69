#include "framework/metrics/chart.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>

using namespace isthmus;

namespace {

chart sample() {
  chart c{"loss", "tokens", "nats", {}, {{"unigram entropy", 6}}, {{"gamma killed", 40}}};
  c.lines.push_back({"alpha", {}});
  for (int x = 0; x <= 100; x += 10) c.lines[0].points.push_back({double(x), 8 * std::exp(-x / 40.0)});
  c.lines.push_back({"beta", {{0, 7}, {50, std::nan("")}, {100, 2}}});
  return c;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

BOOST_AUTO_TEST_SUITE(charts)

BOOST_AUTO_TEST_CASE(ascii_golden) {
  const std::string wanted = R"(
loss (nats)
         |*               .
         |oooo
         |.  *oooooooo.  .  .  .  .  .  .  .  .  .
       5 +      ****  oooooooo
         |          ****      oooooooo
         |              ********      oooooooo
         |                .     ***********   oooo
         |                                 *******
         +----------------------------------------
          0                  50                100
          tokens
  * alpha 0.657
  o beta 2.000
  . unigram entropy 6.000
  : gamma killed at 40
)";
  const auto drawn = draw_chart(sample(), {50, 8, false, false});
  BOOST_TEST("\n" + drawn == wanted, "\n" << drawn);
}

BOOST_AUTO_TEST_CASE(braille_golden) {
  const std::string wanted = R"(
loss (nats)
         │⣢⣄          ⡁
         │⠂⠘⠉⠫⢖⡒⠢⠴⠤⣂⣐⡀⠆⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐
       5 ┤     ⠈⠑⠢⢄⣀ ⠈⠋⠉⠒⠒⠤⠤⢄⣀⣀
         │          ⠉⠑⡓⠢⠤⠤⣀    ⠉⠉⠑⠒⠒⠤⠤⢄⣀
         │            ⠄    ⠉⠉⠒⠒⠒⠒⠒⠒⠤⠤⠤⠤⠤
         └──────────────────────────────
          0             50           100
          tokens
  ━━ alpha 0.657
  ━━ beta 2.000
  ┄┄ unigram entropy 6.000
  ┊  gamma killed at 40
)";
  const auto drawn = draw_chart(sample(), {40, 5, true, false});
  BOOST_TEST("\n" + drawn == wanted, "\n" << drawn);
}

BOOST_AUTO_TEST_CASE(colour_adds_only_colour) {
  auto coloured = draw_chart(sample(), {40, 5, true, true});
  BOOST_TEST(contains(coloured, "\x1b[36m"));
  BOOST_TEST(contains(coloured, "alpha 0.657"));
  BOOST_TEST(!contains(draw_chart(sample(), {40, 5, true, false}), "\x1b"));
}

BOOST_AUTO_TEST_CASE(nothing_to_draw) {
  chart c{"loss", "tokens", "nats", {{"alpha", {{0, std::nan("")}}}}, {}, {}};
  BOOST_TEST(draw_chart(c, {}) == "loss: nothing to draw yet\n");
  BOOST_TEST(contains(chart_svg(c), "nothing to draw yet"));
}

BOOST_AUTO_TEST_CASE(odd_data_is_drawn_all_the_same) {
  const double huge = std::numeric_limits<double>::max() / 4, tiny = 5e-324;
  for (const auto& points : std::vector<std::vector<chart::point>>{{{0, 1}},
                                                                   {{5, 2}, {5, 2}},
                                                                   {{0, 0}, {1, 0}},
                                                                   {{0, -1e9}, {1e12, 1e9}},
                                                                   {{0, huge}, {1, -huge}},
                                                                   {{0, 0}, {tiny, tiny}},
                                                                   {{0, std::numeric_limits<double>::infinity()}, {1, 1}}}) {
    chart c{"t", "x", "y", {{"s", points}}, {}, {}};
    BOOST_TEST(!draw_chart(c, {1, 1, true, false}).empty());
    BOOST_TEST(!draw_chart(c, {200, 50, false, true}).empty());
    BOOST_TEST(contains(chart_svg(c), "</svg>"));
  }
}

BOOST_AUTO_TEST_CASE(svg_says_in_words_what_it_shows) {
  auto c = sample();
  c.lines[0].name = "<al&pha>";
  const auto svg = chart_svg(c);
  BOOST_TEST(contains(svg, "<title>loss</title>"));
  BOOST_TEST(contains(svg, "&lt;al&amp;pha&gt;: from 8.000 to 0.657."));
  BOOST_TEST(contains(svg, "unigram entropy 6.000"));
  BOOST_TEST(contains(svg, "gamma killed"));
  BOOST_TEST(contains(svg, "role=\"img\""));
  BOOST_TEST(!contains(svg, "nan"));
}

BOOST_AUTO_TEST_CASE(smoothing_is_a_trailing_mean) {
  const auto out = smooth({{0, 1}, {1, 3}, {2, std::nan("")}, {3, 5}, {4, 7}}, 2);
  BOOST_TEST_REQUIRE(out.size() == 4U);
  BOOST_TEST(out[0].y == 1);
  BOOST_TEST(out[1].y == 2);
  BOOST_TEST(out[2].y == 4);
  BOOST_TEST(out[3].y == 6);
}

BOOST_AUTO_TEST_SUITE_END()
