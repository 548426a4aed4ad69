#pragma once

#include "bench/kernel_jobs.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace isthmus::bench {

inline double number(std::int64_t v) { return static_cast<double>(v); }

/// What several kernels read or write.
template <class Act>
struct common {
  using R = kernels::real<Act>;
  const kernels::op_table<Act>* ops;
  kernels::stream* s;
  arrays* a;
  extents x;
  std::int64_t rows = x.rows(), d = x.d, hidden = x.hidden, inner = x.inner, channels = x.channels(), ssm_heads = x.ssm_heads();
  std::int64_t wide = x.projected();
  double n = number(rows), act = sizeof(Act);
  Act *rows_d = a->numbers<Act>(rows * d), *out_d = a->numbers<Act>(rows * d);
  Act *rows_3d = a->numbers<Act>(rows * 3 * d), *out_3d = a->numbers<Act>(rows * 3 * d);
  R *stream_in = a->numbers<R>(rows * d), *stream_out = a->numbers<R>(rows * d), *rstd = a->numbers<R>(rows);
  R *gain = a->numbers<R>(std::max(d, inner)), *d_gain = a->numbers<R>(std::max(d, inner));
  Act *zxbcdt = a->numbers<Act>(rows * wide), *d_zxbcdt = a->numbers<Act>(rows * wide);
  Act *xbc = a->numbers<Act>(rows * channels, 0.3), *d_xbc = a->numbers<Act>(rows * channels, 0.3);
  Act *y = a->numbers<Act>(rows * inner), *dy = a->numbers<Act>(rows * inner);
  R *bias = a->numbers<R>(channels), *d_bias = a->numbers<R>(channels);
};

/// Short and long convolutions, modal filters and block-diagonal products.
template <class Act>
void add_convolutions(const common<Act>& c, std::vector<job>& jobs);

}  // namespace isthmus::bench
