#include "tests/framework/formats/gguf_golden.hpp"

#include "tests/framework/models/golden_values.hpp"

#include <nlohmann/json.hpp>

#include <fstream>
#include <iterator>
#include <string_view>

namespace isthmus::testing {

namespace {

/// value_of of tests/golden/make_gguf_models.py.
float gguf_value_of(std::string_view name, std::uint64_t seed, std::uint64_t i) {
  const double u = golden_uniform(name, seed, i);
  if (name.ends_with("norm.weight") || name.ends_with("ssm_d")) return static_cast<float>(1 + 0.5 * u);
  if (name.ends_with("ssm_a")) return static_cast<float>(-1.5 + 2 * u);
  if (name.ends_with("ssm_dt.bias")) return static_cast<float>(-2 + 2 * u);
  const bool outside = name.starts_with("token_embd") || name.starts_with("output");
  return static_cast<float>(outside || name.find("conv1d") != name.npos ? u : 0.75 * u);
}

}  // namespace

std::string text_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

nlohmann::json golden_gguf(const std::string& name) { return nlohmann::json::parse(text_of_file("tests/golden/gguf/" + name + ".json")); }

std::string gguf_file_of(const nlohmann::json& golden) {
  std::string file = text_of_file("tests/golden/gguf/" + golden.at("name").get<std::string>() + ".front");
  for (const nlohmann::json& t : golden.at("tensors")) {
    file.resize((file.size() + 31) / 32 * 32);
    for (std::uint64_t i = 0; i < t.at("count").get<std::uint64_t>(); ++i) {
      const float value =
          t.contains("values") ? t.at("values")[i].get<float>() : gguf_value_of(t.at("name").get<std::string>(), golden.at("seed"), i);
      file.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  file.resize((file.size() + 31) / 32 * 32);
  return file;
}

}  // namespace isthmus::testing
