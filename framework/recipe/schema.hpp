#pragma once

#include "framework/recipe/recipe.hpp"

#include <initializer_list>

namespace isthmus {

/// What a text value must look like.
enum class text_rule {
  name,  // [A-Za-z0-9][A-Za-z0-9_.-]{0,63}: safe as part of a file name
  optional_name,
  address,  // "127.0.0.1:0": IPv4 and port
  path,     // 1 to 4096 bytes without NUL
  ports,    // "20000-20100", or empty
  etcd,     // "http://127.0.0.1:2379": IPv4 or [IPv6], and port
};

/// Walks over the keys of a recipe. The reader, the writer and the help are three visitors of one list, so that they cannot differ.
class field_visitor {
public:
  virtual ~field_visitor() = default;
  virtual void integer(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max, const char* help) = 0;
  virtual void real(const char* key, double& value, double min, double max, const char* help) = 0;
  virtual void real(const char* key, float& value, double min, double max, const char* help) = 0;
  virtual void flag(const char* key, bool& value, const char* help) = 0;
  virtual void text(const char* key, std::string& value, text_rule rule, const char* help) = 0;
  /// A list of up to `most`.
  virtual void texts(const char* key, std::vector<std::string>& value, text_rule rule, std::size_t most, const char* help) = 0;
  /// One that ends in ".*" allows every name that begins so: "own.*".
  virtual void choice(const char* key, std::string& value, std::initializer_list<const char*> allowed, const char* help) = 0;
  /// One of the words, by its place.
  virtual void word(const char* key, std::size_t& place, std::initializer_list<const char*> words, const char* help) = 0;
  /// Which layers there are: layers, or pattern repeated over n_layers; channel_mixer; variants.
  virtual void layers(model_config& model) = 0;
  /// What kinds of layers can be told, each its own keys.
  virtual void layer_options(model_config& model) = 0;
};

void visit_fields(recipe::run_section& s, field_visitor& v);
void visit_fields(model_config& s, field_visitor& v);
void visit_fields(recipe::train_section& s, field_visitor& v);
void visit_fields(recipe::round_section& s, field_visitor& v);
void visit_fields(recipe::guard_section& s, field_visitor& v);
void visit_fields(recipe::data_section& s, field_visitor& v);
void visit_fields(recipe::links_section& s, field_visitor& v);
void visit_fields(recipe::coordinator_section& s, field_visitor& v);
void visit_fields(recipe::checkpoint_section& s, field_visitor& v);
void visit_fields(recipe::site& s, field_visitor& v);
void visit_fields(recipe::fault& s, field_visitor& v);
void visit_fields(recipe::scenario_section& s, field_visitor& v);

/// Calls f(section name, section) for each plain section in file order.
template <class F>
void for_each_section(recipe& r, F&& f) {
  f("run", r.run);
  f("model", r.model);
  f("train", r.train);
  f("round", r.round);
  f("guard", r.guard);
  f("data", r.data);
  f("links", r.links);
  f("coordinator", r.coordinator);
  f("checkpoint", r.checkpoint);
  f("scenario", r.scenario);
}

inline constexpr std::size_t layers_max = 1024, variants_max = 64, sites_max = 256, faults_max = 256, etcd_members_max = 9;
inline constexpr std::size_t recipe_bytes_max = 1 << 20;

// Values as canonical TOML.
std::string toml_text(double value);
std::string toml_text(float value);
std::string toml_text(bool value);
std::string toml_text(const std::string& value);
std::string toml_text(const std::vector<std::string>& value);

/// Empty when the text obeys the rule, else what is allowed.
std::string breaks_rule(const std::string& value, text_rule rule);

/// Where the keys of a recipe stand. place_of: of a key path ("train.context"), of its section when the key is not written.
class place_finder {
public:
  virtual ~place_finder() = default;
  virtual std::string place_of(const std::string& key_path) const = 0;
  /// No error was found inside this section, so its values are what the user meant.
  virtual bool clean(const std::string& section) const = 0;
};
/// The checks between keys; those on sections that are not clean are left for the next time.
void check_between_keys(const recipe& r, const place_finder& places, std::vector<recipe_problem>& problems);

}  // namespace isthmus
