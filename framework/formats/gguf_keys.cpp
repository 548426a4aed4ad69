#include "framework/formats/gguf_keys.hpp"

#include <fmt/format.h>

namespace isthmus {

std::int64_t gguf_keys::whole(const std::string& name, std::int64_t low, std::int64_t high) {
  known_.insert(prefix_ + name);
  const auto value = file_.whole(prefix_ + name);
  if (!value) {
    keep(value.error());
    return low;
  }
  must(*value >= low && *value <= high, errc::out_of_range, name, fmt::format("is {}, expected {} to {}", *value, low, high));
  return *value >= low && *value <= high ? *value : low;
}

std::int64_t gguf_keys::whole(const std::string& name, std::int64_t low, std::int64_t high, std::int64_t otherwise) {
  known_.insert(prefix_ + name);
  return has(name) ? whole(name, low, high) : otherwise;
}

double gguf_keys::number(const std::string& name, double low, double high) {
  known_.insert(prefix_ + name);
  const auto value = file_.number(prefix_ + name);
  if (!value) {
    keep(value.error());
    return low;
  }
  must(*value >= low && *value <= high, errc::out_of_range, name, fmt::format("is {}, expected {} to {}", *value, low, high));
  return *value >= low && *value <= high ? *value : low;
}

double gguf_keys::number(const std::string& name, double low, double high, double otherwise) {
  known_.insert(prefix_ + name);
  return has(name) ? number(name, low, high) : otherwise;
}

std::string gguf_keys::text(const std::string& name, const std::string& otherwise) {
  known_.insert(prefix_ + name);
  if (!has(name)) return otherwise;
  auto value = file_.text(prefix_ + name);
  if (value) return std::move(*value);
  keep(value.error());
  return otherwise;
}

void gguf_keys::only(const std::string& name, bool allowed) {
  known_.insert(prefix_ + name);
  if (!has(name)) return;
  const auto value = file_.flag(prefix_ + name);
  if (!value) return keep(value.error());
  must(*value == allowed, errc::unsupported, name, fmt::format("{} is not supported", *value));
}

void gguf_keys::ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(prefix_ + name);
}

void gguf_keys::must(bool holds, errc code, const std::string& name, const std::string& what) {
  if (!holds) keep({code, fmt::format("{}: {}{}: {}", file_.where, prefix_, name, what)});
}

expected<void> gguf_keys::finish() {
  if (fault_) return unexpected{*fault_};
  for (const auto& [key, value] : file_.metadata)
    if (key.starts_with(prefix_) && !known_.contains(key))
      return fail(errc::unsupported, fmt::format("{}: unknown key \"{}\": it may change the mathematics", file_.where, key.substr(0, 120)));
  return {};
}

}  // namespace isthmus
