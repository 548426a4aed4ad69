#pragma once

#include <cstdint>
#include <vector>

namespace isthmus {

enum class mixer_kind { attention, mamba2 };
enum class precision_kind { fp32, bf16 };  // of matrix products; master weights, norms, softmax and state math stay fp32

/// A hybrid language model: embedding, then per layer x += mixer(rms_norm(x)), x += swiglu(rms_norm(x)), then a final norm and a
/// head tied to the embedding. Mirrors ../recipe keys [model].
struct model_config {
  std::int64_t vocabulary = 2048;
  std::int64_t d_model = 256;
  std::vector<mixer_kind> layers;  // one entry a layer
  std::int64_t n_heads = 4;        // attention; head_dim * n_heads need not equal d_model
  std::int64_t n_kv_heads = 4;     // divides n_heads
  std::int64_t head_dim = 64;      // even
  float rope_theta = 10000.0F;
  std::int64_t ffn_hidden = 704;   // SwiGLU
  std::int64_t ssm_inner = 512;    // Mamba-2: E = expand * d_model
  std::int64_t ssm_head_dim = 64;  // P, divides ssm_inner
  std::int64_t ssm_state = 64;     // N
  std::int64_t ssm_groups = 1;     // G, divides the number of ssm heads
  std::int64_t conv_width = 4;     // K
  std::int64_t ssm_chunk = 64;     // Q
  float norm_eps = 1e-5F;
  precision_kind precision = precision_kind::fp32;
  bool operator==(const model_config&) const = default;
};

}  // namespace isthmus
