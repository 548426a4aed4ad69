#include "framework/formats/generation_config.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(generation_configs)

BOOST_AUTO_TEST_CASE(end_tokens_of_every_form) {
  const auto ends = [](const char* text) {
    const auto read = read_generation_config(text, 32, "g.json");
    BOOST_TEST_REQUIRE(read.has_value(), (read ? "" : read.error().message));
    return read->end_tokens;
  };
  using ids = std::vector<std::int64_t>;
  BOOST_TEST((ends(R"({"eos_token_id": [2, 31], "temperature": 0.6, "anything": {"else": []}})") == ids{2, 31}));
  BOOST_TEST((ends(R"({"eos_token_id": 0})") == ids{0}));
  BOOST_TEST(ends(R"({"eos_token_id": null})").empty());
  BOOST_TEST(ends("{}").empty());
}

BOOST_AUTO_TEST_CASE(what_is_unsound_is_refused) {
  const auto refused = [](const std::string& text, errc code, const std::string& message) {
    const auto read = read_generation_config(text, 32, "g.json");
    BOOST_TEST_REQUIRE(!read.has_value());
    BOOST_TEST((read.error().code == code));
    BOOST_TEST(read.error().message.starts_with("g.json: " + message), read.error().message);
  };
  for (const char* id : {"32", "-1", "2147483648", "9223372036854775807", "18446744073709551615"})
    refused(std::string(R"({"eos_token_id": [1, )") + id + "]}", errc::out_of_range,
            std::string("eos_token_id: is ") + id + ", expected an id from 0 to 31, or null for none");
  refused(R"({"eos_token_id": "</s>"})", errc::malformed, "eos_token_id: must be a token id");
  refused(R"({"eos_token_id": 1.5})", errc::malformed, "eos_token_id: must be a token id");
  refused("[]", errc::malformed, "must be an object");
  refused("{", errc::malformed, "not valid JSON");
  refused(std::string(5 << 20, ' '), errc::too_large, "5242880 bytes, at most 4194304 allowed");
}

BOOST_AUTO_TEST_SUITE_END()
