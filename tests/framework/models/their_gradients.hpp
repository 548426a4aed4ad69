#pragma once

#include "framework/formats/hf_config.hpp"
#include "framework/models/hybrid_model.hpp"

#include <nlohmann/json_fwd.hpp>

namespace isthmus::testing {

/// Compares the gradients of an imported model with those that the golden file tells of the checkpoint's tensors, one by one by their names: each norm
/// within 1e-3, each of the numbers told within 1e-3 of the largest. Ours are put in the order of the file, which differs in StripedHyena's
/// rows that lie head by head and in M2-BERT's gates; filters that channels share are summed; of what the import multiplies (Granite's
/// multipliers, M2-BERT's hyena_w_mod), the chain rule has the factor. Every tensor that the file tells a gradient of is compared.
void check_their_gradients(hybrid_model& model, const nlohmann::json& golden);

}  // namespace isthmus::testing
