#pragma once

#include "kernels/bf16.hpp"
#include "kernels/linear.hpp"
#include "kernels/quantise.hpp"
#include "kernels/stream.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace isthmus::kernels::reference {

template <class Act>
real<Act> load(Act value) {
  return static_cast<real<Act>>(value);
}

// Transcendental functions of fp32 go through double: the last bit of a libm's double does not survive the rounding, so every
// machine sees the same fp32 result.
template <class Real>
Real exp_of(Real x) {
  return static_cast<Real>(std::exp(static_cast<double>(x)));
}
template <class Real>
Real log_of(Real x) {
  return static_cast<Real>(std::log(static_cast<double>(x)));
}
template <class Real>
Real sigmoid(Real x) {
  return static_cast<Real>(1 / (1 + std::exp(-static_cast<double>(x))));
}
template <class Real>
Real softplus(Real x) {
  return x > 20 ? x : static_cast<Real>(std::log1p(std::exp(static_cast<double>(x))));
}
/// silu'(x) = s (1 + x (1 - s)), s = sigmoid(x).
template <class Real>
Real silu_slope(Real x, Real s) {
  return s * (1 + x * (1 - s));
}

/// Eight partial sums of fixed order: the compiler may use vectors, the result is the same with any.
template <class A, class B>
real<A> dot(const A* a, const B* b, std::int64_t n) {
  std::array<real<A>, 8> sums{};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::int64_t k = 0; k < 8; ++k) sums[k] += load(a[i + k]) * load(b[i + k]);
  for (; i < n; ++i) sums[0] += load(a[i]) * load(b[i]);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/// y += scale * x.
template <class A, class Real>
void add_scaled(Real* y, std::type_identity_t<Real> scale, const A* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += scale * load(x[i]);
}

/// out = x, rounded to Act.
template <class Act>
void store(Act* out, const real<Act>* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Act>(x[i]);
}

/// The kernel's own memory for `count` numbers.
template <class Act>
real<Act>* scratch(stream& s, std::int64_t count) {
  return reinterpret_cast<real<Act>*>(s.workers.shared_scratch(static_cast<std::size_t>(count) * sizeof(real<Act>)));
}

/// The weights as products read them: the master itself, or a copy that is rounded (for bf16 activations) or went through a format.
template <class Act>
class reference_matrix final : public matrix<Act> {
public:
  using matrix<Act>::matrix;
  void weights_changed() override { stale_ = true; }
  const real<Act>* values() {
    if (std::is_same_v<Act, real<Act>> && this->format == weight_format::master) return this->master;
    if (stale_) round();
    return rounded_.data();
  }

private:
  void round() {
    const std::int64_t count = this->out * this->in;
    rounded_.resize(static_cast<std::size_t>(count));
    if (this->format == weight_format::master)
      for (std::int64_t i = 0; i < count; ++i) rounded_[static_cast<std::size_t>(i)] = load(static_cast<Act>(this->master[i]));
    else
      for (std::int64_t o = 0; o < this->out; ++o) round_row(this->master + o * this->in, rounded_.data() + o * this->in);
    stale_ = false;
  }
  void round_row(const real<Act>* from, real<Act>* to) const {
    for (std::int64_t i = 0; i < this->in; i += quantised_group) {
      const std::int64_t n = this->in - i < quantised_group ? this->in - i : quantised_group;
      float group[quantised_group];
      for (std::int64_t k = 0; k < n; ++k) group[k] = static_cast<float>(from[i + k]);
      through_format(group, n, this->format, group);
      for (std::int64_t k = 0; k < n; ++k) to[i + k] = static_cast<real<Act>>(group[k]);
    }
  }
  std::vector<real<Act>> rounded_;
  bool stale_ = true;
};

template <class Act>
const real<Act>* values_of(matrix<Act>* w) {
  return static_cast<reference_matrix<Act>*>(w)->values();
}

}  // namespace isthmus::kernels::reference
