#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/gguf.hpp"
#include "framework/formats/hf_config.hpp"

namespace isthmus {

/// The model of a GGUF file, told as Hugging Face Transformers would: what makes a model of config.json makes one of this.
struct gguf_model {
  hf_config config;      // LlamaForCausalLM or MambaForCausalLM
  tensor_index tensors;  // those of model_tensors and layer_tensors, and no others: their names, shapes and numbers
};

/// Reads the metadata of architectures "llama" and "mamba" and finds their tensors. What llama.cpp's converter changes is undone: rows of
/// q and k that it interleaves for rotating neighbours lie in halves again (still in their encoding), A_log is log(-ssm_a), and the
/// factors of rope_freqs.weight become Llama 3's four numbers, if these give the same factors. The other tensors stay in the file.
/// A key of the architecture and a tensor that we do not know are refused by name, for they may change the mathematics.
/// Errors: unsupported, malformed, out_of_range, not_found, and those of reading; they name file and key or tensor.
expected<gguf_model> read_gguf_model(const gguf_file& file);

}  // namespace isthmus
