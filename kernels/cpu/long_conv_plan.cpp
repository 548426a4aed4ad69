#include "kernels/cpu/long_conv_plan.hpp"

#include <cmath>
#include <numbers>

namespace isthmus::kernels::cpu {

namespace {

/// The first levels are the widest; a factor of three comes second, so that both ends see powers of two alone.
std::vector<int> radices_of(std::int64_t points, int radix_max) {
  const bool three = points % 3 == 0;
  std::int64_t left = three ? points / 3 : points;
  std::vector<int> radices;
  while (left > 1) {
    const bool eight = radix_max == 8 && left >= 8 && left != 16;
    const int radix = eight ? 8 : left >= 4 ? 4 : 2;
    radices.push_back(radix);
    left /= radix;
  }
  if (three) radices.insert(radices.begin() + 1, 3);
  return radices;
}

std::int64_t points_for(std::int64_t length) {
  std::int64_t points = 16;
  while (points < length) points *= 2;
  return points >= 64 && points / 4 * 3 >= length ? points / 4 * 3 : points;
}

}  // namespace

fourier_plan::fourier_plan(std::int64_t of_length, int radix_max) : long_conv_plan(of_length), points(points_for(of_length)) {
  std::vector<double> angles{0.25};  // of the blocks of a level, in turns
  for (const int radix : radices_of(points, radix_max)) {
    level l{radix, {}};
    std::vector<double> next;
    for (const double angle : angles) {
      for (int j = 1; j < radix; ++j) {
        const double turn = 2 * std::numbers::pi * angle * j / radix;
        l.factors.push_back(static_cast<float>(std::cos(turn)));
        l.factors.push_back(static_cast<float>(std::sin(turn)));
      }
      for (int k = 0; k < radix; ++k) next.push_back((angle + k) / radix);
    }
    levels.push_back(std::move(l));
    angles = std::move(next);
  }
}

}  // namespace isthmus::kernels::cpu
