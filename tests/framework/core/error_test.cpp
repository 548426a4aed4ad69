#include "framework/core/exit_code.hpp"
#include "framework/core/expected.hpp"

#include <boost/test/unit_test.hpp>

#include <cctype>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(error_test)

BOOST_AUTO_TEST_CASE(every_code_has_a_stable_name_of_its_own) {
  std::set<std::string_view> names;
  int count = 0;
  for (; describe(static_cast<errc>(count)) != "unknown"; ++count) {
    const std::string_view name = describe(static_cast<errc>(count));
    BOOST_TEST(names.insert(name).second, name);
    BOOST_TEST(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos, name);
  }
  BOOST_TEST(count == static_cast<int>(errc::ledger_violated) + 1);  // the last one: all have a name
  BOOST_TEST(describe(errc::checksum_mismatch) == "checksum_mismatch");
}

BOOST_AUTO_TEST_CASE(every_code_ends_a_process_as_the_errors_page_says) {
  std::ifstream page("docs/errors.md");
  std::map<std::string, int> said;
  for (std::string line; std::getline(page, line);) {
    const auto words = line.substr(0, line.find('|', 1)), rest = line.substr(words.size());
    if (!rest.starts_with("| ") || rest.size() < 3 || std::isdigit(static_cast<unsigned char>(rest[2])) == 0) continue;
    for (auto at = words.find('`'); at != std::string::npos; at = words.find('`', words.find('`', at + 1) + 1))
      said[words.substr(at + 1, words.find('`', at + 1) - at - 1)] = std::stoi(rest.substr(2));
  }
  for (int i = 1; i <= static_cast<int>(errc::ledger_violated); ++i) {
    const auto code = static_cast<errc>(i);
    const auto word = std::string(describe(code));
    BOOST_TEST_REQUIRE(said.contains(word), word);
    BOOST_TEST(static_cast<int>(exit_code_of(code)) == said[word], word);
  }
}

BOOST_AUTO_TEST_CASE(a_value_or_an_error) {
  const expected<std::string> value(std::string("here"));
  BOOST_TEST(value.has_value());
  BOOST_TEST(*value == "here");
  BOOST_TEST(value->size() == 4U);
  BOOST_CHECK_THROW(static_cast<void>(value.error()), contract_error);

  const expected<std::string> none = fail(errc::timed_out, "too late");
  BOOST_TEST(!none);
  BOOST_TEST(none.error().message == "too late");
  BOOST_CHECK_THROW(static_cast<void>(*none), contract_error);
  const expected<int> handed_up = none.failure();
  BOOST_TEST((handed_up.error().code == errc::timed_out));
}

BOOST_AUTO_TEST_CASE(nothing_or_an_error) {
  const expected<void> fine;
  BOOST_TEST(fine.has_value());
  BOOST_CHECK_THROW(static_cast<void>(fine.error()), contract_error);
  const expected<void> wrong = fail(errc::refused, "no");
  BOOST_TEST(!wrong.has_value());
  BOOST_TEST((wrong.failure().value.code == errc::refused));
}

BOOST_AUTO_TEST_CASE(a_value_that_only_moves) {
  expected<std::unique_ptr<int>> owned(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = std::move(*owned);
  BOOST_TEST(*taken == 5);
}

BOOST_AUTO_TEST_CASE(ensure_speaks_of_our_own_bugs) {
  BOOST_CHECK_NO_THROW(ensure(true, "fine"));
  BOOST_CHECK_THROW(ensure(false, "broken"), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
