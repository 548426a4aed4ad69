#pragma once

#include <cstdint>
#include <vector>

namespace isthmus {

/// How a batch goes through within model_config::activation_mib.
struct activation_plan {
  std::int64_t rows_at_once = 1;
  std::vector<bool> recomputed;  // one a mixer or channel mixer: computed again in the backward pass, so that it keeps its input alone
  std::int64_t bytes = 0;        // of activations, of one piece
};

}  // namespace isthmus
