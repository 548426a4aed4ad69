#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/expected.hpp"
#include "framework/models/config.hpp"
#include "framework/models/export.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// A model with all that a Hugging Face folder holds of it.
struct convert_source {
  model_config config;
  std::shared_ptr<float_array> weights;
  export_facts facts;
  std::map<std::string, std::string> files;  // of its tokenizer, by name
  std::string from;                          // a checkpoint's folder, a folder, a file
  std::vector<std::string> warnings;         // newer checkpoints that could not be used
};

/// Reads a run's newest checkpoint, a Hugging Face folder or a GGUF file; named as for `isthmus generate`. Errors: those
/// of config_json_of, before any weights are read, and of reading.
expected<convert_source> read_convert_source(const std::string& source);

}  // namespace isthmus::launcher
