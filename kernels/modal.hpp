#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// How a filter that is a sum of exponentials is written down, modes n = 0 ... of each filter:
///   complex: h_k = Re sum_n R_n p_n^k, poles p and residues R as (re, im), [filters, modes, 2]: StripedHyena
///   decays:  h_k = sum_n R_n exp(k l_n), poles l = log p and residues R real, [filters, modes]: StripedHyena 2
/// Massaroli et al. 2023, arXiv:2310.18780, eq. 3; Ku et al. 2025, arXiv:2503.01868.
enum class modal_form { complex, decays };

/// h from poles and residues. Powers of a pole are taken in double or from few of its powers, so that late taps are as good as early ones.
template <class Real>
struct modal_filter_args {
  modal_form form;
  const Real *poles, *residues;
  Real* h;  // [filters, taps]
  std::int64_t filters, modes, taps;
};

/// d_poles and d_residues add: for complex ones the derivatives in the real and in the imaginary part, for decays that in l.
template <class Real>
struct modal_filter_backward_args {
  modal_form form;
  const Real *poles, *residues;
  const Real* dh;  // [filters, taps]
  Real *d_poles, *d_residues;
  std::int64_t filters, modes, taps;
};

constexpr std::int64_t modal_scan_chunk = 64;  // rows between two states that are kept for the backward pass

/// The same convolution as a recurrence, a filter for each channel: with w = x1 * v
///   s_t = p s_{t-1} + w_t,  y_t = x2_t * (d w_t + Re sum_n R_n s_{t,n})
template <class Act>
struct modal_scan_args {
  modal_form form;
  const real<Act>*poles, *residues;  // as above, filters = channels
  const real<Act>* d;                // [channels], or null for zero
  const Act *v, *x1, *x2;            // [batch * length, channels], rows x_stride apart; the gates x1, x2 may be null for one
  Act* y;                            // [batch * length, channels], rows y_stride apart; no alias
  const real<Act>* initial;          // s before the first row, [batch, channels, modes, 2] or [batch, channels, modes]; null for zero
  real<Act>* final;                  // s after the last row, shaped as initial and may alias it; or null
  real<Act>* states;                 // s before each modal_scan_chunk rows, [batch, chunks, channels, modes, 2 or none]; or null
  std::int64_t batch, length, channels, modes, x_stride, y_stride;
};

/// dv, dx1 and dx2 overwrite; d_poles, d_residues and d_d add: of poles and residues as in modal_filter_backward_args. s is computed again from
/// `states`. The gradient of the final state enters by d_final; that of the initial one leaves by d_initial.
template <class Act>
struct modal_scan_backward_args {
  modal_form form;
  const real<Act>*poles, *residues, *d;  // as in the forward pass
  const Act *v, *x1, *x2;
  const Act* dy;                         // [batch * length, channels], rows dy_stride apart
  const real<Act>* states;               // as the forward pass wrote them
  Act *dv, *dx1, *dx2;                   // [batch * length, channels], rows dx_stride apart; unused where the gate is null
  real<Act>*d_poles, *d_residues, *d_d;  // shaped as poles, residues, d; d_d is unused where d is null
  const real<Act>* d_final;              // shaped as the final state, or null for zero
  real<Act>* d_initial;                  // the same shape, overwritten; may alias d_final; or null
  std::int64_t batch, length, channels, modes, x_stride, dy_stride, dx_stride;
};

/// One token of one sequence.
template <class Act>
struct modal_step_args {
  modal_form form;
  const real<Act>*poles, *residues, *d;
  const Act *v, *x1, *x2;  // [channels]; the gates may be null
  real<Act>* state;        // [channels, modes, 2] or [channels, modes], moved on by this token
  Act* y;                  // [channels]
  std::int64_t channels, modes;
};

/// The same as a scan over one row, which is how backends do it.
template <class Act>
modal_scan_args<Act> one_row_of(const modal_step_args<Act>& a) {
  return {.form = a.form,
          .poles = a.poles,
          .residues = a.residues,
          .d = a.d,
          .v = a.v,
          .x1 = a.x1,
          .x2 = a.x2,
          .y = a.y,
          .initial = a.state,
          .final = a.state,
          .states = nullptr,
          .batch = 1,
          .length = 1,
          .channels = a.channels,
          .modes = a.modes,
          .x_stride = a.channels,
          .y_stride = a.channels};
}

}  // namespace isthmus::kernels
