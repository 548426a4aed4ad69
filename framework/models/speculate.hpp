#pragma once

#include "framework/models/generate.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace isthmus {

/// What a model with Medusa heads wrote.
struct speculated_text {
  std::vector<std::int32_t> ids;
  std::int64_t passes = 0;  // through the model, that of the prompt included: plain decoding makes one a token
  double tokens_per_pass() const { return passes == 0 ? 0 : static_cast<double>(ids.size()) / static_cast<double>(passes); }
};

/// generate() with temperature 0, faster: the heads propose tokens, one pass reads them all on trial, and those that are the most likely
/// ones stay (Cai et al. 2024, arXiv:2401.10774, section 2.1, with a single candidate and exact acceptance). Works with layers of any kind:
/// a state that cannot drop a rejected suffix is restored, and what was accepted is read again in front of the next proposal.
/// The ids are those of generate(), but where the two best logits lie nearer than the rounding of products over one and over several rows.
/// on_token as there. The model has heads (contract_error).
speculated_text generate_by_heads(hybrid_model& model, std::span<const std::int32_t> prompt, const generate_options& options,
                                  const std::function<bool(std::int32_t)>& on_token = {});

}  // namespace isthmus
