#pragma once

#include "framework/layers/shared_options.hpp"
#include "framework/layers/tensor_list.hpp"

namespace isthmus {

/// How Mamba's time steps begin: the inverse of softplus at a step drawn log-uniform from [1e-3, 1e-1], at least 1e-4. Gu & Dao 2023,
/// arXiv:2312.00752, section 3.6.
initialiser time_step_biases();

}  // namespace isthmus
