#pragma once

#include "framework/core/expected.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// Takes typed values out of an object of config.json and remembers which keys were asked for. The first fault is kept and answered at
/// the end; after it, values are the lowest allowed ones, so that what is computed from them stays sound. null counts as absent.
/// A key may have several spellings; when more than one is there they must agree.
class hf_keys {
public:
  using names = std::initializer_list<const char*>;

  /// Borrows both. `at` stands before a key's name in messages: "", or "rope_parameters.".
  hf_keys(const nlohmann::json& object, const std::string& where, std::string at = "");

  bool has(const char* key) const;
  /// Also where the value is null.
  bool has_key(const char* key) const;
  std::int64_t whole(names keys, std::int64_t low, std::int64_t high);
  std::int64_t whole(names keys, std::int64_t low, std::int64_t high, std::int64_t otherwise);
  double number(names keys, double low, double high, double otherwise);
  bool flag(names keys, bool otherwise);
  std::string text(names keys, const std::string& otherwise);
  /// The value as it is, null when absent.
  const nlohmann::json* value(names keys);
  std::vector<std::int64_t> wholes(names keys, std::int64_t low, std::int64_t high);
  std::vector<std::string> texts(names keys);

  /// These are known to be without effect on the numbers.
  void ignore(names keys);
  /// A fault unless `holds`.
  void must(bool holds, errc code, const std::string& key, const std::string& what);
  /// A fault unless the value, if there is one, is this one.
  void only(const char* key, bool allowed);
  void only(const char* key, const char* allowed);
  /// Calls read with the keys of an object inside this one, which are then finished; takes over their fault.
  void read_inner(const nlohmann::json& object, const std::string& name, const std::function<void(hf_keys&)>& read);

  /// The first fault; else a key that nobody asked for is one.
  expected<void> finish();
  bool failed() const { return fault_.has_value(); }

private:
  /// The key's value under whichever spelling is there; null: absent.
  const nlohmann::json* take(names keys);
  /// Also a fault where it is none, or has too many entries.
  bool is_array(const nlohmann::json& value);

  const nlohmann::json& object_;
  const std::string& where_;
  std::string at_;
  std::string last_;  // the spelling that take() found
  std::set<std::string, std::less<>> known_;
  std::optional<error> fault_;
};

}  // namespace isthmus
