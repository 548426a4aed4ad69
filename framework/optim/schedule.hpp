#pragma once

#include <cstdint>

namespace isthmus {

/// Learning rate over the run, in tokens, so that it does not depend on how many sites share the work: linear from 0 to peak over
/// the warm-up, then half a cosine down to floor at total_tokens, then floor. Loshchilov & Hutter 2016, arXiv:1608.03983. With
/// decay_tokens the peak is kept until so many are left, and falls linearly: warm-up, stable, decay. Hu et al. 2024, arXiv:2404.06395.
struct rate_schedule {
  double peak = 1e-3, floor = 1e-4;
  std::int64_t warmup_tokens = 0, total_tokens = 1;
  std::int64_t decay_tokens = 0;  // 0: the cosine
  double learning_rate(std::int64_t tokens_done) const;
};

}  // namespace isthmus
