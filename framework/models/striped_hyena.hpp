#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"

#include <cstdint>
#include <span>
#include <string_view>

/// How StripedHyena's checkpoints differ from our `hyena` (Poli et al. 2023, arXiv:2302.10866; Massaroli et al. 2023, arXiv:2310.18780).
namespace isthmus {

/// The tensors under the names that the config gives: a model saved by itself has them without "backbone." in front. The frequencies
/// `inv_freq` that some checkpoints keep are compared with the config's base, within the rounding of bf16, and left out.
/// Errors: unsupported, when they differ, and those of reading.
expected<hugging_face_weights> without_wrapping(const hf_config& config, const hugging_face_weights& from);

/// Puts a tensor of a hyena layer, which lies at the front of ours, in our order. tensor: the whole of ours. Rows that lie head by head as
/// [x2 | x1 | v] become all x2, all x1, all v; a filter that several channels share is written once for each of them.
void arrange_hyena(const hf_hyena& hyena, std::int64_t d_model, std::string_view role, std::span<float> tensor);

/// Whether a tensor of theirs lies head by head.
bool moves_in_hyena(const hf_hyena& hyena, std::string_view role);
/// Puts such a tensor of ours, whole, in their order.
void arrange_for_hyena(const hf_hyena& hyena, std::span<float> tensor);

}  // namespace isthmus
