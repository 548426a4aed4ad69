#pragma once

#include "framework/core/expected.hpp"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace isthmus::bench {

/// What `isthmus sim --real --json` answered, also when a promise was broken. Its progress goes to standard error. Errors: environment,
/// when it answered nothing.
expected<nlohmann::json> rehearse(const std::string& program, const std::string& recipe, const std::vector<std::string>& overrides);

}  // namespace isthmus::bench
