#pragma once

#include "framework/layers/layer_kind.hpp"

#include <array>
#include <memory>
#include <vector>

namespace isthmus {

/// What an implicit filter is told.
struct implicit_shape {
  std::int64_t d = 1;         // channels, a filter each
  std::int64_t context = 1;   // taps; times and features are scaled by it
  std::int64_t features = 5;  // odd: the time, then cosines and sines of (features - 1) / 2 frequencies
  std::int64_t order = 16;    // width of the network
  double frequency = 10;      // that the sines begin with
  bool both_ways = false;     // a second filter, for what comes later; it has a network of its own and shares the sines' frequencies
  bool learned = false;       // the features are weights, which begin as the formula says; both networks see the same
};

/// Memory of filters of so many taps and of their gradients; one way, or both.
template <class Real>
struct implicit_memory {
  struct way {
    std::int64_t taps = 0;
    Real* before[3] = {};                                                 // [taps, order]: what the sines are taken of
    Real *after = nullptr, *rows = nullptr, *h = nullptr, *dh = nullptr;  // [taps, order], [taps, d], [d, taps] twice
    Real* d_features = nullptr;                                           // [taps, features], if they are learned
  };
  std::array<way, 2> ways;  // null what is not there

  std::int64_t taps() const { return ways[0].taps; }
  const Real* forward_taps() const { return ways[0].h; }
  const Real* backward_taps() const { return ways[1].h; }
  Real* d_forward_taps() const { return ways[0].dh; }
  Real* d_backward_taps() const { return ways[1].dh; }
};

/// Filters that a small network of the tap's time gives: h[c, t] = (W6 s(W4 s(W2 s(W0 z_t + b0) + b2) + b4))_c exp(-t' |decay_c|) with
/// s(x) = sin(freq x), t' = t / (context - 1), z_t = [t', cos(f_k 2 pi t / context), -sin(f_k 2 pi t / context)], f_k evenly from 1e-4 to
/// bands - 1. Poli et al. 2023, arXiv:2302.10866, section 3.3; Fu et al. 2023, arXiv:2310.12109. Network and filters are real whatever the
/// activations; each is computed once a pass.
template <class Act>
class implicit_filter {
public:
  using real = kernels::real<Act>;
  /// Tensors: prefix + "0.weight", ..., "freq", "decay"; "reverse." before the numbers of the second network; "features" if they are
  /// learned.
  implicit_filter(const implicit_shape& shape, const layer_parts<Act>& parts, const std::string& prefix);

  using filter_memory = implicit_memory<real>;
  /// For filters of min(length, context) taps.
  filter_memory place(std::int64_t length, arena& shared) const;
  /// Fills forward_taps(), and backward_taps() if there are two, in [d, taps].
  void materialise(const layer_pass<Act>& p, const filter_memory& m) const;
  /// The same after it, for a backward pass: from the gradients in d_forward_taps() and d_backward_taps(), which clear() zeroes.
  void clear(const filter_memory& m) const;
  void backward(const layer_pass<Act>& p, const filter_memory& m) const;
  void weights_changed();
  /// The whole forward filter, [context, d], in memory of its own.
  std::vector<real> rows_of_taps(const layer_pass<Act>& p) const;

private:
  struct linear {
    std::unique_ptr<kernels::matrix<real>> w;
    real* gradient;
    parameter<real> bias;  // null of the last
  };
  using workspace = typename filter_memory::way;
  /// One network and the filter that it gives.
  struct way {
    std::vector<linear> layers;  // four
  };
  workspace take(std::int64_t taps, arena& memory) const;
  /// Fills before and rows.
  void run(const layer_pass<Act>& p, const way& w, const workspace& memory) const;
  void run_back(const layer_pass<Act>& p, const way& w, const workspace& memory) const;
  void sine(const workspace& memory, std::size_t layer) const;
  void sine_back(const workspace& memory, std::size_t layer) const;
  /// Of tap t in channel c.
  real fading(std::int64_t t, std::int64_t c) const;
  /// What the networks see, [context, features].
  const real* features() const { return learned_.weight ? learned_.weight : computed_.data(); }

  implicit_shape shape_;
  const kernels::op_table<real>& ops_;
  parameter<real> freq_, decay_, learned_{};
  std::vector<way> ways_;
  std::vector<real> computed_;  // [context, features]: those of the formula, with the times t'
};

/// Its tensors.
void declare_implicit_filter(const implicit_shape& shape, const std::string& prefix, tensor_list& tensors);

}  // namespace isthmus
