#pragma once

#include "framework/core/error.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

/// How a batch goes through within model_config::activation_mib.
struct activation_plan {
  std::int64_t rows_at_once = 1;
  std::vector<bool> recomputed;  // one a mixer or channel mixer: computed again in the backward pass, so that it keeps its input alone
  std::int64_t bytes = 0;        // of activations, of one piece
};

/// A row does not fit model_config::activation_mib.
class activation_limit_error : public contract_error {
public:
  activation_limit_error(const std::string& what, std::int64_t mib) : contract_error(what), mib_needed(mib) {}
  std::int64_t mib_needed;  // with every layer computed twice
};

}  // namespace isthmus
