#pragma once

#include "framework/core/probe.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace isthmus {

/// How a home makes one sum of a round's contributions. All but the mean bear some that are wrong, fewer than half of them.
enum class aggregate_kind {
  mean,              // the sum of all
  clip_to_median,    // none is longer than the median one, by weight
  centred_clipping,  // Karimireddy, He & Jaggi 2021, arXiv:2012.10333: distances from a centre are clipped, again and again
  trimmed_mean,      // Yin, Chen, Ramchandran & Bartlett 2018, arXiv:1803.01498: of each element the largest and smallest are left out
};

/// A contribution as it comes to the sum. value: [n], weight times a direction; weight > 0.
struct weighed {
  std::span<const float> value;
  float weight = 1;
  measured size;       // of the value, with the group's key
  double clipped = 0;  // set: the probe of what was taken off, so that size.probe - clipped is this one's part in the sum
};

/// sum: [n], overwritten by (sum of weights) * (aggregate of value / weight), each line in fp32, in the order of `parts`:
///   mean:             sum += value
///   clip_to_median:   sum += c * value, c = min(1, m * weight / |value|), m the lower median of |value| / weight
///   centred_clipping: three times v := sum of weight / W * (v + c * (value / weight - v)), W the sum of the weights,
///                     c = min(1, t / |value / weight - v|), t the lower median of those distances; sum = W * v
///   trimmed_mean:     of value / weight the `trimmed` largest and smallest of each element are left out, of equal ones the first in order
///                     is smaller; sum += W / (parts - 2 * trimmed) * what is left. At most (parts - 1) / 2 are trimmed.
/// centre: [n] or empty (zeros), what centred clipping begins from. Norms are fp64 sums in the probe's sixteen lanes.
void robust_sum(aggregate_kind kind, std::size_t trimmed, std::span<weighed> parts, std::span<const float> centre, std::span<float> sum,
                std::uint64_t key);

/// Sum of a * b in fp64, in sixteen lanes as those of measure().
double dot(std::span<const float> a, std::span<const float> b);

/// The ceil(n/2)-th smallest: more than half of the values must be wrong to move it anywhere. values: not empty; reordered.
double lower_median(std::span<double> values);

}  // namespace isthmus
