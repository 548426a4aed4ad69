#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace isthmus {

/// What one layer remembers of a sequence. Attention: keys (rotated) and values of every token, [tokens, kv_heads * head_dim] in the
/// model's activation type. Mamba-2: the last conv_width - 1 inputs of the convolution, [conv_width - 1, channels] in the
/// activation type, and S, [heads, head_dim, state] in fp32.
struct layer_state {
  std::vector<std::byte> keys, values;
  std::vector<std::byte> conv, ssm;
  bool operator==(const layer_state&) const = default;
};

/// All that decoding needs to go on: a value, so a copy is a snapshot and going back is an assignment.
struct sequence_state {
  std::int64_t position = 0;  // tokens read
  std::vector<layer_state> layers;
  bool operator==(const sequence_state&) const = default;
};

}  // namespace isthmus
