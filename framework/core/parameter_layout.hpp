#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

/// One named tensor inside a flat fp32 array.
struct tensor_slot {
  std::string name;                 // Hugging Face style, e.g. "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;  // row-major
  std::int64_t offset = 0;          // in floats, a multiple of 16
  std::int64_t count = 0;           // product of shape
  bool decays = false;              // takes weight decay (matrices do; norms, biases, A_log, D, dt_bias do not)
};

/// Where every tensor of a model lies in one flat array: weights, gradients, moments, anchor and residual share it.
/// Slots ascend; the gaps that align them hold zeros for ever.
struct parameter_layout {
  std::vector<tensor_slot> slots;
  std::int64_t size = 0;  // floats, gaps included

  /// Appends a tensor behind the last one.
  void add(std::string name, std::vector<std::int64_t> shape, bool decays);
  std::int64_t parameter_count() const;  // gaps excluded
};

/// A parameter group: consecutive slots [first_slot, last_slot) of a layout, the unit of exchange, versioning and repair.
/// tensors are relative to offset; codecs see nothing else of the model.
struct group_shape {
  struct extent {
    std::int64_t offset = 0, count = 0;
  };
  std::uint32_t id = 0;
  std::int64_t offset = 0, size = 0;  // floats, in the flat array
  std::vector<extent> tensors;        // ascending, inside [0, size)
};

/// Cuts a layout into at most `count` groups of consecutive tensors, of sizes as even as the order allows; never an empty one.
std::vector<group_shape> cut_groups(const parameter_layout& layout, std::uint32_t count);

}  // namespace isthmus
