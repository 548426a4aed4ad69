#pragma once

#include "kernels/long_conv.hpp"

#include <vector>

namespace isthmus::kernels::cpu {

/// A real sequence of n numbers stands for the polynomial sum_t x_t z^t. Products of polynomials modulo z^(2N) + 1 hold all lags of
/// sequences of length <= N apart, and a real polynomial modulo z^(2N) + 1 is a complex one modulo z^N - i: its upper half is the
/// imaginary part. So a convolution is a transform of N complex points, with nothing wasted on zeros and nothing to pack or unpack.
/// Each level of the transform takes blocks modulo z^n - e^(2 pi i a) to `radix` blocks modulo z^(n/radix) - e^(2 pi i (a + k) / radix):
/// the factors in front of its butterflies belong to a block, not to a row in it. What comes out is in an order of its own, which
/// nobody needs to know. Crandall & Fagin 1994, Math. Comp. 62(205); Bernstein 2008, "Fast multiplication and its applications", sec. 3.
class fourier_plan final : public long_conv_plan {
public:
  struct level {
    int radix;
    std::vector<float> factors;  // [blocks][radix - 1][re, im]: e^(2 pi i a j / radix), j = 1 ...
  };
  /// Levels of at most radix_max (4 or 8).
  fourier_plan(std::int64_t of_length, int radix_max);

  std::int64_t points;        // N >= length: 2^k or 3 * 2^k
  std::vector<level> levels;  // two at least
};

}  // namespace isthmus::kernels::cpu
