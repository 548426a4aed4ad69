#include "framework/formats/hf_keys.hpp"

#include "framework/core/json.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <utility>

namespace isthmus {

namespace {

using json = nlohmann::json;

constexpr std::size_t entries_max = 4096;  // of an array: as many as layers

bool is_whole(const json& value, std::int64_t low, std::int64_t high) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return false;
  const auto number = value.get<std::int64_t>();
  return number >= low && number <= high;
}

}  // namespace

hf_keys::hf_keys(const json& object, const std::string& where, std::string at) : object_(object), where_(where), at_(std::move(at)) {
  ensure(object.is_object(), "hf_keys: not an object");
}

bool hf_keys::has(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

bool hf_keys::has_key(const char* key) const { return object_.contains(key); }

const json* hf_keys::take(names keys) {
  const json* value = nullptr;
  last_ = *keys.begin();
  for (const char* key : keys) {
    known_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end() || found->is_null()) continue;
    if (value != nullptr)
      must(*value == *found, errc::malformed, key, fmt::format("is {}, but {} is {}", excerpt(*found), last_, excerpt(*value)));
    if (value == nullptr) last_ = key;
    value = &*found;
  }
  return value;
}

const json* hf_keys::value(names keys) { return take(keys); }

std::int64_t hf_keys::whole(names keys, std::int64_t low, std::int64_t high) {
  const json* value = take(keys);
  if (value != nullptr && is_whole(*value, low, high)) return value->get<std::int64_t>();
  const bool absent = value == nullptr;
  must(false,
       absent               ? errc::malformed
       : value->is_number() ? errc::out_of_range
                            : errc::malformed,
       last_, fmt::format("{}, expected a whole number from {} to {}", absent ? "is missing" : "is " + excerpt(*value), low, high));
  return low;
}

std::int64_t hf_keys::whole(names keys, std::int64_t low, std::int64_t high, std::int64_t otherwise) {
  return take(keys) == nullptr ? otherwise : whole(keys, low, high);
}

double hf_keys::number(names keys, double low, double high, double otherwise) {
  const json* value = take(keys);
  if (value == nullptr) return otherwise;
  if (value->is_number()) {
    const auto number = value->get<double>();
    if (number >= low && number <= high) return number;
  }
  must(false, value->is_number() ? errc::out_of_range : errc::malformed, last_,
       fmt::format("is {}, expected a number from {} to {}", excerpt(*value), low, high));
  return low;
}

bool hf_keys::flag(names keys, bool otherwise) {
  const json* value = take(keys);
  if (value == nullptr) return otherwise;
  must(value->is_boolean(), errc::malformed, last_, fmt::format("is {}, expected true or false", excerpt(*value)));
  return value->is_boolean() && value->get<bool>();
}

std::string hf_keys::text(names keys, const std::string& otherwise) {
  const json* value = take(keys);
  if (value == nullptr) return otherwise;
  must(value->is_string(), errc::malformed, last_, fmt::format("is {}, expected a string", excerpt(*value)));
  return value->is_string() ? value->get<std::string>() : otherwise;
}

bool hf_keys::is_array(const json& value) {
  must(value.is_array(), errc::malformed, last_, fmt::format("is {}, expected an array", excerpt(value)));
  if (!value.is_array()) return false;
  must(value.size() <= entries_max, errc::too_large, last_, fmt::format("has {} entries, at most {} allowed", value.size(), entries_max));
  return value.size() <= entries_max;
}

std::vector<std::int64_t> hf_keys::wholes(names keys, std::int64_t low, std::int64_t high) {
  std::vector<std::int64_t> numbers;
  const json* value = take(keys);
  if (value == nullptr) return numbers;
  if (is_array(*value))
    for (const json& entry : *value) {
      must(is_whole(entry, low, high), errc::out_of_range, last_,
           fmt::format("holds {}, expected whole numbers from {} to {}", excerpt(entry), low, high));
      if (failed()) return {};
      numbers.push_back(entry.get<std::int64_t>());
    }
  return numbers;
}

std::vector<std::string> hf_keys::texts(names keys) {
  std::vector<std::string> words;
  const json* value = take(keys);
  if (value == nullptr) return words;
  if (is_array(*value))
    for (const json& entry : *value) {
      must(entry.is_string(), errc::malformed, last_, fmt::format("holds {}, expected strings", excerpt(entry)));
      if (failed()) return {};
      words.push_back(entry.get<std::string>());
    }
  return words;
}

void hf_keys::ignore(names keys) {
  for (const char* key : keys) known_.insert(key);
}

void hf_keys::must(bool holds, errc code, const std::string& key, const std::string& what) {
  if (!holds && !fault_) fault_ = error{code, fmt::format("{}: {}{}: {}", where_, at_, key, what)};
}

void hf_keys::only(const char* key, bool allowed) {
  const json* value = take({key});
  if (value != nullptr)
    must(*value == json(allowed), errc::unsupported, key, fmt::format("{} is not supported, only {}", excerpt(*value), allowed));
}

void hf_keys::only(const char* key, const char* allowed) {
  const json* value = take({key});
  if (value != nullptr)
    must(*value == json(allowed), errc::unsupported, key, fmt::format("{} is not supported, only \"{}\"", excerpt(*value), allowed));
}

void hf_keys::read_inner(const json& object, const std::string& name, const std::function<void(hf_keys&)>& read) {
  hf_keys inner(object, where_, at_ + name + ".");
  read(inner);
  if (auto ok = inner.finish(); !ok && !fault_) fault_ = ok.error();
}

expected<void> hf_keys::finish() {
  for (const auto& [key, value] : object_.items())
    must(known_.contains(key), errc::unsupported, key.substr(0, 80),
         fmt::format("is {}: a key that this reader does not know may change the mathematics, so that it is refused", excerpt(value)));
  if (fault_) return unexpected{*fault_};
  return {};
}

}  // namespace isthmus
