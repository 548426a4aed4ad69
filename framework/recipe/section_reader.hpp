#pragma once

#include "framework/recipe/collector.hpp"
#include "framework/recipe/schema.hpp"

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace toml {
inline namespace v3 {
class array;  // their header is slow to compile
class node;
class table;
struct source_region;
}  // namespace v3
}  // namespace toml

namespace isthmus {

// How places, values and types of a recipe are shown to people.
std::string place_text(const toml::source_region& source);
std::string shown(const toml::node& node);
std::string kind_of(const toml::node& node);

/// Reads one section's keys out of one table (null: the section is not there, defaults stand).
class section_reader final : public field_visitor {
public:
  section_reader(collector& out, const toml::table* table, std::string path) : out_(out), table_(table), path_(std::move(path)) {}

  void integer(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max, const char* help) override;
  void real(const char* key, double& value, double min, double max, const char* help) override;
  void real(const char* key, float& value, double min, double max, const char* help) override;
  void flag(const char* key, bool& value, const char* help) override;
  void text(const char* key, std::string& value, text_rule rule, const char* help) override;
  void texts(const char* key, std::vector<std::string>& value, text_rule rule, std::size_t most, const char* help) override;
  void choice(const char* key, std::string& value, std::initializer_list<const char*> allowed, const char* help) override;
  void word(const char* key, std::size_t& place, std::initializer_list<const char*> words, const char* help) override;
  void layers(model_config& model) override;
  void layer_options(model_config& model) override;
  /// Refuses what no field asked for.
  void finish(const std::vector<std::string>& section_keys);

private:
  const toml::node* find(std::string_view key);
  void keep(std::string_view key, std::string value, std::string_view help);
  void bad_type(const toml::node& node, std::string_view key, const std::string& allowed);
  void bad_value(const toml::node& node, std::string_view key, const std::string& allowed);
  std::optional<double> number(std::string_view key, double min, double max);
  std::optional<std::string> one_of(std::string_view key, const std::vector<std::string>& allowed);
  std::vector<std::string> strings(const toml::array& list, std::string_view key, text_rule rule);
  // Of [model], in section_model.cpp.
  std::vector<std::string> entries(const toml::node& node, std::string_view key, const model_config& model);
  std::vector<std::string> repeated(const toml::node* pattern, const toml::node* count, const model_config& model);
  std::optional<double> option(const option_field& field);
  void variants(model_config& model);
  void variant(const toml::table& table, const std::string& path, const std::vector<std::string>& kinds, model_config& model);

  collector& out_;
  const toml::table* table_;
  std::string path_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace isthmus
