#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// The name closest to `wanted` by edits (insert, delete, change, swap of neighbours); empty when none is close enough to be meant.
std::string nearest_name(std::string_view wanted, const std::vector<std::string>& names);

}  // namespace isthmus
