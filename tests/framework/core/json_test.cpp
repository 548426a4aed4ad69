#include "framework/core/json.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

using namespace isthmus;
using json = nlohmann::json;

namespace {
void refused(std::string_view text, const std::string& says, std::size_t depth = 16) {
  const auto parsed = parse_json(text, "f.json", depth);
  BOOST_REQUIRE(!parsed.has_value());
  BOOST_TEST(describe(parsed.error().code) == "malformed");
  BOOST_TEST(parsed.error().message.find("f.json: ") == 0U, parsed.error().message);
  BOOST_TEST(parsed.error().message.find(says) != std::string::npos, parsed.error().message);
}
}  // namespace

BOOST_AUTO_TEST_SUITE(json_test)

BOOST_AUTO_TEST_CASE(values_come_back) {
  for (const char* text : {"null", "true", "0", "-7", "18446744073709551615", "1.5e-300", "\"\\u00e9\\n\"", "[]", "{}",
                           "[1,[2,{\"a\":[]}],3]", R"({"a":{"b":[{"c":1},{"d":null}],"e":"f"},"g":[true,false]})"})
    BOOST_TEST((*parse_json(text, "f.json") == json::parse(text)), text);
  BOOST_TEST((parse_json(" [1]\n\t", "f.json")->size() == 1U));
}

BOOST_AUTO_TEST_CASE(broken_text_is_refused_with_its_place) {
  refused("", "byte 1");
  refused("{\"a\":1,}", "byte 8");
  refused("[1] 2", "byte 5");
  refused("[1e999]", "byte 6");
  refused("[NaN]", "byte 2");
  refused("[\"\xC3(\"]", "byte ");
  refused("[\"\\ud800\"]", "byte ");
  refused(std::string_view("[1]\0", 4), "byte 4: a NUL character");
  refused("\xEF\xBB\xBF[1]", "byte-order mark");
}

BOOST_AUTO_TEST_CASE(duplicate_keys_are_refused_at_every_level) {
  refused(R"({"a":1,"a":2})", "\"a\" stands twice");
  refused(R"([{"x":{"k":1,"j":2,"k":3}}])", "\"k\" stands twice");
  BOOST_TEST(parse_json(R"([{"a":1},{"a":2},{"b":{"a":1},"a":2}])", "f.json").has_value());
}

BOOST_AUTO_TEST_CASE(depth_is_bounded) {
  BOOST_TEST(parse_json("[[[1]]]", "f.json", 3).has_value());
  refused("[[[[1]]]]", "nested deeper than 3 levels", 3);
  refused(std::string(1'000'000, '['), "nested deeper");
}

BOOST_AUTO_TEST_SUITE_END()
