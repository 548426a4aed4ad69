#pragma once

#include "kernels/backend.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace isthmus::kernels {

/// The backends of this build that can run here: the host's fastest first, then "cuda" where there is a GPU; the reference is always
/// there, and last.
std::vector<const backend*> backends();

/// By name ("cpu", "cuda", "reference"), or null when there is none of that name here.
const backend* find_backend(std::string_view name);

/// The fastest one whose memory is the host's.
const backend& default_backend();

/// Who multiplies matrices for the fastest backend: library, version and the instruction set it has chosen on this CPU.
std::string products();

/// For people: the GPU that backend "cuda" would run on, or why there is none.
std::string gpu();

}  // namespace isthmus::kernels
