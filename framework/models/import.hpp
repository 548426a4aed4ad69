#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/expected.hpp"
#include "framework/formats/gguf.hpp"
#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/config.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace isthmus {

/// A checkpoint of others as a model of ours.
struct imported_model {
  model_config config;
  std::shared_ptr<float_array> weights;       // [hybrid_layout(config).size]
  std::vector<std::int64_t> end_tokens = {};  // that the checkpoint's config names
};

/// Our layers for what a config.json describes. unsupported names the layer and what of it they cannot do; nothing is left out silently.
expected<model_config> config_from(const hf_config& config, const std::string& where);

/// A model of a config and of tensors under its names. Errors: those of config_from; unsupported, when there are other tensors than it
/// asks for; not_finite, naming the tensor and the place of a NaN or an infinity; and those of reading.
expected<imported_model> import_checkpoint(const hf_config& config, const hugging_face_weights& weights, const std::string& where);

/// The model of a GGUF file. Errors: those of open_gguf, read_gguf_model and config_from.
expected<imported_model> import_gguf(const gguf_file& file);
expected<imported_model> import_gguf(const std::string& path);

/// What config.json of a Hugging Face folder says, without its tensors. Errors: those of read_hf_config and config_from.
expected<model_config> config_of_hugging_face(const std::string& folder);

/// Reads config.json and the tensors of a Hugging Face folder. Multipliers of embedding, residual branches and logits are folded into
/// the weights, which unties the head. Errors: those of read_hf_config, open_hugging_face and config_from.
expected<imported_model> import_hugging_face(const std::string& folder);

}  // namespace isthmus
