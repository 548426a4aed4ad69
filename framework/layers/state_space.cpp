#include "framework/layers/state_space.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus {

initialiser time_step_biases() {
  return drawn_values([](rng& random) {
    const double low = std::log(1e-3), high = std::log(1e-1);
    const double step = std::max(1e-4, std::exp(low + random.uniform() * (high - low)));
    return step + std::log(-std::expm1(-step));
  });
}

}  // namespace isthmus
