#include "framework/formats/generation_config.hpp"

#include "framework/core/json.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isthmus {

namespace {

using nlohmann::json;

constexpr std::size_t file_bytes_max = 4 << 20;

}  // namespace

expected<std::vector<std::int64_t>> read_token_ids(const json& value, std::int64_t vocabulary) {
  std::vector<std::int64_t> out;
  const json ids = value.is_null() ? json::array() : value.is_array() ? value : json::array({value});
  for (const json& id : ids) {
    if (!id.is_number_integer()) return fail(errc::malformed, "must be a token id or an array of them");
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocabulary))
      return fail(errc::out_of_range, fmt::format("is {}, expected an id from 0 to {}, or null for none", id.dump(), vocabulary - 1));
    out.push_back(id.get<std::int64_t>());
  }
  return out;
}

expected<generation_config> read_generation_config(std::string_view text, std::int64_t vocabulary, const std::string& where) {
  if (text.size() > file_bytes_max)
    return fail(errc::too_large, fmt::format("{}: {} bytes, at most {} allowed", where, text.size(), file_bytes_max));
  const auto object = parse_json(text, where);
  if (!object) return object.failure();
  if (!object->is_object()) return fail(errc::malformed, where + ": must be an object");
  const auto ends = object->find("eos_token_id");
  if (ends == object->end()) return generation_config{};
  auto ids = read_token_ids(*ends, vocabulary);
  if (!ids) return fail(ids.error().code, fmt::format("{}: eos_token_id: {}", where, ids.error().message));
  return generation_config{std::move(*ids)};
}

}  // namespace isthmus
