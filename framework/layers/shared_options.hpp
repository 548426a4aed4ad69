#pragma once

#include "framework/layers/option.hpp"

namespace isthmus {

// Options that several kinds have, so that a recipe says them once.
constexpr option_field conv_width_option = integer_option("conv_width", 4, 1, 16, "width of the causal convolution");
constexpr option_field ssm_inner_option = integer_option("ssm_inner", 512, 16, 262144, "inner width of a Mamba mixer");
constexpr option_field ffn_hidden_option = integer_option("ffn_hidden", 704, 16, 262144, "hidden width of a channel mixer");

}  // namespace isthmus
