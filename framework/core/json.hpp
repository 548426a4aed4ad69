#pragma once

#include "framework/core/expected.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace isthmus {

/// Parses a stranger's JSON: one value and nothing behind it, UTF-8 without a byte-order mark, no duplicate keys, at most depth_max
/// levels of objects and arrays (an array of numbers is level 1). `where` names the text in messages, which give the byte.
/// Errors: malformed.
expected<nlohmann::json> parse_json(std::string_view text, const std::string& where, std::size_t depth_max = 16);

/// Of an object; null when there is none of that name, or no object. Lives as long as the object.
const nlohmann::json& value_at(const nlohmann::json& object, const std::string& name);

/// The value for a message, at most 80 bytes of it.
std::string excerpt(const nlohmann::json& value);

}  // namespace isthmus
