#pragma once

#include "framework/core/expected.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// What is read of generation_config.json: how its author would sample is left to who generates.
struct generation_config {
  std::vector<std::int64_t> end_tokens;  // any of them ends a text; none where the file names none
};

/// In Transformers this file, if it is there, holds in place of config.json, also where it names no end. vocabulary: of the model. Errors:
/// malformed, out_of_range, too_large; they name `where` and the key.
expected<generation_config> read_generation_config(std::string_view text, std::int64_t vocabulary, const std::string& where);

/// The value of a key like eos_token_id: null, an id in [0, vocabulary), or an array of them. Errors: malformed, out_of_range; they tell what
/// is expected.
expected<std::vector<std::int64_t>> read_token_ids(const nlohmann::json& value, std::int64_t vocabulary);

}  // namespace isthmus
