#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/parameter_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// Takes the numbers of a decoded frame in ascending order, each element of the group at most once; what is not told is 0.
/// The spans are borrowed for the call. Offsets are relative to the group.
class frame_sink {
public:
  virtual ~frame_sink() = default;
  /// values: the elements [offset, offset + values.size()).
  virtual void dense(std::int64_t offset, std::span<const float> values) = 0;
  /// values[i] is element base + index[i]; index ascends strictly, below 4096.
  virtual void sparse(std::int64_t base, std::span<const std::uint16_t> index, std::span<const float> values) = 0;
};

/// Where the bytes of a frame go.
struct codec_size {
  std::size_t header = 0;  // framing: magic, codec, group size
  std::size_t sparse = 0;  // indices and values of full chunks
  std::size_t tables = 0;  // scales and tables of means
  std::size_t dense = 0;   // numbers sent one by one
  std::size_t payload() const { return sparse + tables + dense; }
};

/// How a contribution of one parameter group becomes bytes and numbers again. Stateless: residuals belong to the caller.
/// Specified to the bit: the same input gives the same bytes, the same bytes the same numbers, on every CPU (fp32, round to
/// nearest, no contraction). A frame is self-describing: magic, codec id, group size, payload; layouts in docs/codecs.md.
class codec {
public:
  virtual ~codec() = default;
  virtual std::string_view name() const = 0;
  /// value: [group.size], magnitudes up to limit(), else contract_error -> frame. Then value := value - decode(frame), which is
  /// the next residual (error feedback). Gaps between tensors are neither sent nor touched.
  virtual std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const = 0;
  /// Checks the whole frame, then hands its numbers to the sink; on an error the sink hears nothing.
  /// Errors: truncated, malformed, out_of_range, not_finite, unsupported (another codec's frame).
  virtual expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const = 0;
  /// The bytes of a frame for this group. Of the exact union, whose size depends on the data, only what is fixed.
  virtual codec_size size(const group_shape& group) const = 0;
  /// The largest magnitude that frames may carry, so that a stranger's numbers cannot overflow a sum.
  virtual float limit() const = 0;

  /// Exact payload size in bytes of a frame for this group, framing excluded; 0 when it depends on the data.
  virtual std::size_t payload_bytes(const group_shape& group) const { return size(group).payload(); }
  /// sum: [group.size] += decode(frame). On an error sum is left as it was.
  expected<void> add_to(const group_shape& group, std::span<const std::byte> frame, std::span<float> sum) const;
  /// The probe (framework/core/probe.hpp) of decode(frame): the frame's mass in the ledger.
  expected<double> mass(const group_shape& group, std::span<const std::byte> frame, std::uint64_t key) const;
};

/// The pair a group uses: up for contributions; down for the reduced contribution (for sparse codecs the exact union).
struct codec_pair {
  std::shared_ptr<const codec> up, down;
  bool down_has_residual = false;  // a lossy down codec keeps an aggregator residual at the home
};

/// A run's codecs by round: a denser pair for the first rounds, while gradients still agree and a sparse codec would hold most of the
/// change back (the warm-up of deep gradient compression, arXiv:1712.01887, section 3.3), then the one that the recipe names.
struct codec_plan {
  codec_pair steady;
  codec_pair warm_up;  // of rounds 1 to warm_up_rounds
  std::uint64_t warm_up_rounds = 0;

  const codec_pair& of(std::uint64_t round) const { return round <= warm_up_rounds ? warm_up : steady; }
};

/// Users' own codecs, by the name that a recipe gives them: "own." and more. main fills it and hands it on; all sites of a run need the
/// same. docs/custom_codec.md.
using own_codecs = std::map<std::string, codec_pair>;

/// name: "none" (fp32), "int8", "sparse_loco", or one of `own`. Unknown names give errc::unsupported with the list; a name in `own`
/// that does not begin with "own." throws contract_error, and so does a pair that lacks one half.
expected<codec_pair> make_codec_pair(const std::string& name, const own_codecs& own = {});

}  // namespace isthmus
