#pragma once

#include "kernels/backend.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace isthmus::kernels {

/// The backends of this build, fastest first; the reference is always there, and last.
std::vector<const backend*> backends();

/// By name ("cpu", "reference"), or null when this build has none of that name.
const backend* find_backend(std::string_view name);

/// The fastest one.
const backend& default_backend();

/// Who multiplies matrices for the fastest backend: library, version and the instruction set it has chosen on this CPU.
std::string products();

}  // namespace isthmus::kernels
