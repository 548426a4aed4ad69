#pragma once

#include "framework/checkpoint/safetensors.hpp"
#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/config.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

/// What a config.json says beside the mathematics.
struct export_facts {
  std::int64_t context = 0;  // tokens that the model was trained on at once; 0: nobody knows
  std::optional<std::int64_t> begin_token = {}, pad_token = {};
  std::vector<std::int64_t> end_tokens = {};
};

/// The config.json under which Hugging Face Transformers computes what our layers do, of the architecture that docs/formats.md lists for
/// them. Read again it gives the same layers: where it would not, the model is refused.
/// type: f32, bf16 or f16 (contract_error for others). Errors: unsupported, naming the layer and what of it no such architecture has.
expected<std::string> config_json_of(const model_config& model, const export_facts& facts, dtype type);

/// Writes config.json and the weights, rounded to the nearest of that type, into a folder without weights; weights:
/// [hybrid_layout(model).size]. Errors: those of config_json_of and of the disk; out_of_range, when a weight is too large for f16.
expected<void> export_hugging_face(storage& disk, const std::string& folder, const model_config& model, std::span<const float> weights,
                                   const export_facts& facts, dtype type, const shard_options& options = {});

}  // namespace isthmus
