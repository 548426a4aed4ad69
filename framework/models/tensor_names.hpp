#pragma once

#include "framework/formats/hf_config.hpp"

#include <string>
#include <vector>

namespace isthmus {

/// The tensors of ours that hold one of theirs, by its role, in the order in which they lie in it: several when theirs joins what ours
/// keeps apart (q, k and v; gate and up; all experts). prefix: "model.layers.0." for those of a layer. Empty: none does.
std::vector<std::string> our_tensor_names(hf_family family, const std::string& prefix, const hf_tensor& tensor);

}  // namespace isthmus
