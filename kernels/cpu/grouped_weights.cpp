#include "kernels/cpu/grouped_weights.hpp"

#include "kernels/quantise.hpp"

#include <algorithm>
#include <cstring>

namespace isthmus::kernels::cpu {

namespace {

/// One group of one output into its unit: at points to the vectors of the group, at the output's bytes.
void put_steps(const std::int8_t* steps, weight_format format, std::uint8_t* at) {
  if (format == weight_format::int8) {
    for (std::int64_t k = 0; k < quantised_group; ++k) at[k / 4 * 64 + k % 4] = static_cast<std::uint8_t>(steps[k] + 128);
  } else {
    for (std::int64_t k = 0; k < quantised_group; k += 8)
      for (std::int64_t i = 0; i < 4; ++i) at[k / 8 * 64 + i] = static_cast<std::uint8_t>((steps[k + i] + 8) | (steps[k + 4 + i] + 8) << 4);
  }
}

}  // namespace

void group_weights(team& workers, const float* master, std::int64_t out, std::int64_t in, weight_format format, std::byte* to) {
  workers.run(blocks_of(out), [&](std::int64_t block, int) {
    std::byte* unit = to + block * block_bytes(in, format);
    const std::int64_t vectors = (unit_bytes(format) - scale_bytes) / 2;  // bytes of a group's
    for (std::int64_t i = 0; i < units_of(in) * unit_inputs; i += quantised_group) {
      const std::int64_t half = i % unit_inputs / quantised_group;
      for (std::int64_t o = 0; o < block_outputs; ++o) {
        const std::int64_t row = block * block_outputs + o, here = row < out ? std::clamp<std::int64_t>(in - i, 0, quantised_group) : 0;
        const quantised_weights q = quantise(here > 0 ? master + row * in + i : nullptr, here, format);
        std::memcpy(unit + (half * block_outputs + o) * 2, &q.scale, sizeof(bf16));
        put_steps(q.steps, format, reinterpret_cast<std::uint8_t*>(unit) + scale_bytes + half * vectors + o * 4);
      }
      if (half == 1) unit += unit_bytes(format);
    }
  });
}

}  // namespace isthmus::kernels::cpu
