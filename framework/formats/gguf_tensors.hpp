#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/gguf.hpp"
#include "framework/formats/hf_config.hpp"

namespace isthmus {

/// The tensors of a GGUF file that a config asks for, under the names and shapes that it has for them and with its numbers
/// (gguf_model.hpp). Errors: not_found, unsupported (a shape, a tensor that nobody asked for), out_of_range (ssm_a that is not below 0),
/// and those of reading.
expected<tensor_index> gguf_tensors_as(const hf_config& config, const gguf_file& file);

}  // namespace isthmus
