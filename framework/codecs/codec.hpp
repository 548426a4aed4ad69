#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/parameter_layout.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// How a contribution of one parameter group becomes bytes and numbers again. Stateless: residuals belong to the caller.
/// Specified to the bit: the same input gives the same bytes, the same bytes the same numbers, on every CPU (fp32, round to
/// nearest, no contraction). A frame is self-describing: magic, codec id, group size, payload; layouts in docs/codecs.md.
class codec {
public:
  virtual ~codec() = default;
  virtual std::string_view name() const = 0;
  /// value: [group.size], finite -> frame. Then value := value - decode(frame), which is the next residual (error feedback).
  virtual std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const = 0;
  /// sum: [group.size] += decode(frame). On an error sum is left as it was. Errors: truncated, malformed, out_of_range, not_finite.
  virtual expected<void> add_to(const group_shape& group, std::span<const std::byte> frame, std::span<float> sum) const = 0;
  /// Exact payload size in bytes of a frame for this group, framing excluded; 0 when it depends on the data.
  virtual std::size_t payload_bytes(const group_shape& group) const = 0;
};

/// The pair a group uses: up for contributions; down for the reduced contribution (for sparse codecs the exact union).
struct codec_pair {
  std::shared_ptr<const codec> up, down;
  bool down_has_residual = false;  // a lossy down codec keeps an aggregator residual at the home
};

/// name: "none" (fp32), "int8", "sparse_loco". Unknown names give errc::unsupported with the list.
expected<codec_pair> make_codec_pair(const std::string& name);

}  // namespace isthmus
