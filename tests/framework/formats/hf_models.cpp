#include "tests/framework/formats/hf_models.hpp"

#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

namespace isthmus::testing {

using nlohmann::json;

const json& golden() {
  static const json models = json::parse(file_text("tests/golden/formats/hf_configs.json"));
  return models;
}

hf_config read(const json& object) {
  auto config = read_hf_config(object.dump(), "config.json");
  BOOST_TEST_REQUIRE(config.has_value(), (config ? "" : config.error().message));
  return std::move(*config);
}
hf_config read(const char* name) { return read(golden().at(name).at("config")); }

hf_config changed(const char* name, const std::function<void(json&)>& change) {
  json object = golden().at(name).at("config");
  change(object);
  return read(object);
}

void refused_text(const std::string& text, errc code, const std::string& part) {
  const auto config = read_hf_config(text, "config.json");
  BOOST_TEST_REQUIRE(!config.has_value(), "not refused: " << part);
  BOOST_TEST(describe(config.error().code) == describe(code), config.error().message);
  BOOST_TEST(config.error().message.find(part) != std::string::npos, config.error().message << " lacks: " << part);
  BOOST_TEST(config.error().message.starts_with("config.json: "), config.error().message);
}
void refused(const char* name, const std::function<void(json&)>& change, errc code, const std::string& part) {
  json object = golden().at(name).at("config");
  change(object);
  refused_text(object.dump(), code, part);
}
void refused(const char* name, const char* key, const json& value, errc code, const std::string& part) {
  refused(
      name, [&](json& o) { o[key] = value; }, code, part);
}

}  // namespace isthmus::testing
