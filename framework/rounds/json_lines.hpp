#pragma once

#include "framework/core/expected.hpp"
#include "framework/rounds/messages.hpp"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>
#include <vector>

/// Lines of the run's logs: one JSON object each, closed by a checksum of what stands before it (docs/ledger.md).
namespace isthmus::json_lines {

/// `{...}` -> `{...,"sum":"<16 hex>"}` and a newline.
std::string seal(std::string_view object);
/// The object of a sealed line without newline. Errors: truncated, checksum_mismatch, malformed; `where` is "file:line".
expected<nlohmann::json> open(std::string_view line, const std::string& where);

struct numbered_line {
  std::size_t number = 0;  // 1-based
  std::string_view text;
  bool whole = true;  // ends with a newline
};
std::vector<numbered_line> split(std::string_view text);

nlohmann::json to_json(const lease& l);
nlohmann::json to_json(const contributor& c);
nlohmann::json to_json(const round_record& r);
nlohmann::json to_json(const epoch_view& v);
// These throw a std::exception on a missing or wrong field: catch it beside the parse.
hash128 hash_from(const nlohmann::json& j);
lease lease_from(const nlohmann::json& j);
contributor contributor_from(const nlohmann::json& j);
round_record record_from(const nlohmann::json& j);
epoch_view view_from(const nlohmann::json& j);

}  // namespace isthmus::json_lines
