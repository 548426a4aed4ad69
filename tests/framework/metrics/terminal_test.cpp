#include "framework/metrics/terminal.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(terminal)

BOOST_AUTO_TEST_CASE(nouns_follow_their_number) {
  BOOST_TEST(show_counted(1, "round") == "1 round");
  BOOST_TEST(show_counted(0, "round") == "0 rounds");
  BOOST_TEST(show_counted(2, "round") == "2 rounds");
}

BOOST_AUTO_TEST_CASE(counts_and_bytes) {
  BOOST_TEST(show_count(0) == "0");
  BOOST_TEST(show_count(999) == "999");
  BOOST_TEST(show_count(1000) == "1.00 k");
  BOOST_TEST(show_count(999'999) == "1.00 M");
  BOOST_TEST(show_count(4'966'912) == "4.97 M");
  BOOST_TEST(show_count(45'600'000) == "45.6 M");
  BOOST_TEST(show_count(-1500) == "-1.50 k");
  BOOST_TEST(show_count(std::nan("")) == "-");
  BOOST_TEST(show_bytes(1023) == "1023 B");
  BOOST_TEST(show_bytes(1024) == "1.00 KiB");
  BOOST_TEST(show_bytes(12) == "12 B");
  BOOST_TEST(show_bytes(47'815'065) == "45.6 MiB");
  BOOST_TEST(show_bytes(std::numeric_limits<double>::infinity()) == "-");
}

BOOST_AUTO_TEST_CASE(durations) {
  BOOST_TEST(show_duration(0.84) == "0.8 s");
  BOOST_TEST(show_duration(42) == "42 s");
  BOOST_TEST(show_duration(59.6) == "1:00");
  BOOST_TEST(show_duration(245) == "4:05");
  BOOST_TEST(show_duration(7387) == "2:03:07");
  BOOST_TEST(show_duration(3 * 86400 + 4 * 3600) == "3 d 4 h");
  BOOST_TEST(show_duration(-1) == "-");
  BOOST_TEST(show_duration(std::nan("")) == "-");
}

BOOST_AUTO_TEST_CASE(bars_have_their_width) {
  BOOST_TEST(progress_bar(0.5, 12, false) == "[#####-----]");
  BOOST_TEST(progress_bar(2, 12, false) == "[##########]");
  BOOST_TEST(progress_bar(-1, 12, false) == "[----------]");
  BOOST_TEST(progress_bar(std::nan(""), 12, false) == "[----------]");
  for (const double share : {0.0, 0.1, 0.33, 0.5, 0.99, 1.0}) BOOST_TEST(text_width(progress_bar(share, 20, true)) == 20);
}

BOOST_AUTO_TEST_CASE(widths) {
  BOOST_TEST(text_width("abc") == 3);
  BOOST_TEST(text_width("größe") == 5);
  BOOST_TEST(text_width("漢字") == 4);
  BOOST_TEST(text_width("e\xcc\x81") == 1);  // combining accent
  BOOST_TEST(text_width("\xff\xfe") == 2);
  BOOST_TEST(fit_width("abcdef", 4, true) == "abc…");
  BOOST_TEST(fit_width("abcdef", 4, false) == "abc~");
  BOOST_TEST(fit_width("abc", 4, false) == "abc");
  BOOST_TEST(fit_width("漢字漢字", 4, false) == "漢~");
  BOOST_TEST(fit_width("abc", 0, false) == "");
}

BOOST_AUTO_TEST_CASE(strange_text_cannot_move_the_cursor) {
  BOOST_TEST(printable("a\x1b[2Jb") == "a?[2Jb");
  BOOST_TEST(printable("line\nnext\ttab") == "line\nnext\ttab");
  BOOST_TEST(printable("\r\b\x7f") == "???");
  BOOST_TEST(printable("\xc2\x9b"
                       "31m") == "?31m");  // C1 control sequence introducer
  BOOST_TEST(printable("\xe2\x80\xae"
                       "evil") == "?evil");                      // right-to-left override
  BOOST_TEST(printable("\xff\xc3(\xed\xa0\x80") == "?\?(?\??");  // not UTF-8, a surrogate
  BOOST_TEST(printable("größe") == "größe");
}

BOOST_AUTO_TEST_CASE(long_lines_hang_below_their_beginning) {
  BOOST_TEST(hanging("short", 4, 20) == "short");
  BOOST_TEST(hanging("12:00:00  alpha  one two three four", 17, 25) == "12:00:00  alpha  one two\n            three four");
  BOOST_TEST(hanging("12:00:00  alpha  one two three four", 10, 25) == "12:00:00  alpha  one two\n          three four");
  BOOST_TEST(hanging("/a/path/without/any/blank", 2, 10) == "/a/path/wi\n  thout/an\n  y/blank");
  BOOST_TEST(hanging("äöü äöü äöü", 0, 7) == "äöü äöü\näöü");
  BOOST_TEST(hanging("", 5, 10) == "");
  for (int width = 3; width < 12; ++width) {  // whatever the text, no line is wider, and nothing but blanks is lost
    const std::string text = "ab  cdefg \xff 表示 h i jklmnopqrstuvw";
    auto whole = text;
    std::erase(whole, ' ');
    auto pieces = hanging(text, 9, width);
    for (std::size_t begin = 0; begin < pieces.size();) {
      const auto end = std::min(pieces.find('\n', begin), pieces.size());
      BOOST_TEST(text_width(pieces.substr(begin, end - begin)) <= width);
      begin = end + 1;
    }
    std::erase_if(pieces, [](char c) { return c == ' ' || c == '\n'; });
    BOOST_TEST(pieces == whole);
  }
}

BOOST_AUTO_TEST_CASE(tables_align) {
  BOOST_TEST(show_table({{"site", "step"}, {"alpha", "7"}, {"b", "1234"}}, {false, true}) == "site   step\nalpha     7\nb      1234\n");
}

BOOST_AUTO_TEST_CASE(the_estimate_comes_from_the_median) {
  eta_estimator eta;
  for (int i = 0; i < 9; ++i) eta.add(i, i * 100.0);
  BOOST_TEST(!eta.left(1000).has_value());
  for (int i = 9; i < 30; ++i) eta.add(i + (i >= 20 ? 50 : 0), i * 100.0);  // one stall of 50 s
  const auto left = eta.left(1000);
  BOOST_TEST_REQUIRE(left.has_value());
  BOOST_TEST(left->middle == 10, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(left->low <= left->middle);
  BOOST_TEST(left->high >= left->middle);
  BOOST_TEST(eta.left(-5)->middle == 0);
  eta.add(100, 0);  // back to the start: what was learned does not hold any more
  BOOST_TEST(!eta.left(1000).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
