#include "framework/layers/hyena/long_filter.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace isthmus {

template <class Act>
long_filter<Act>::long_filter(kernels::modal_form form, std::int64_t d, std::int64_t modes, const layer_parts<Act>& parts,
                              parameter<real> skip)
    : form_(form),
      d_(d),
      modes_(modes),
      numbers_(form == kernels::modal_form::complex ? 2 : 1),
      poles_(parts.vector("filter.poles")),
      residues_(parts.vector("filter.residues")),
      skip_(skip) {}

template <class Act>
void long_filter<Act>::place(std::int64_t length, arena& shared) {
  h_ = shared.take<real>(d_ * length);
  dh_ = shared.take<real>(d_ * length);
}

template <class Act>
void long_filter<Act>::materialise(const layer_pass<Act>& p) const {
  p.ops.modal_filter(
      p.stream,
      {.form = form_, .poles = poles_.weight, .residues = residues_.weight, .h = h_, .filters = d_, .modes = modes_, .taps = p.length});
}

template <class Act>
void long_filter<Act>::forward(const layer_pass<Act>& p, const Act* u, Act* y) {
  materialise(p);
  p.ops.long_conv(p.stream, {.plan = plans_.of(p),
                             .v = u + 2 * d_,
                             .x1 = u + d_,
                             .x2 = u,
                             .h = h_,
                             .h_back = nullptr,
                             .d = skip_.weight,
                             .y = y,
                             .batch = p.batch,
                             .length = p.length,
                             .channels = d_,
                             .filters = d_,
                             .taps = p.length,
                             .x_stride = 3 * d_,
                             .y_stride = d_});
}

template <class Act>
void long_filter<Act>::backward(const layer_pass<Act>& p, const Act* u, const Act* dy, Act* d_u) {
  materialise(p);  // the memory is shared: other layers have been here since
  std::fill_n(dh_, d_ * p.length, real{0});
  p.ops.long_conv_backward(p.stream, {.plan = plans_.of(p),
                                      .v = u + 2 * d_,
                                      .x1 = u + d_,
                                      .x2 = u,
                                      .h = h_,
                                      .h_back = nullptr,
                                      .d = skip_.weight,
                                      .dy = dy,
                                      .dv = d_u + 2 * d_,
                                      .dx1 = d_u + d_,
                                      .dx2 = d_u,
                                      .dh = dh_,
                                      .dh_back = nullptr,
                                      .dd = skip_.gradient,
                                      .batch = p.batch,
                                      .length = p.length,
                                      .channels = d_,
                                      .filters = d_,
                                      .taps = p.length,
                                      .x_stride = 3 * d_,
                                      .dy_stride = d_,
                                      .dx_stride = 3 * d_});
  p.ops.modal_filter_backward(p.stream, {.form = form_,
                                         .poles = poles_.weight,
                                         .residues = residues_.weight,
                                         .dh = dh_,
                                         .d_poles = poles_.gradient,
                                         .d_residues = residues_.gradient,
                                         .filters = d_,
                                         .modes = modes_,
                                         .taps = p.length});
}

template <class Act>
void long_filter<Act>::scan(const layer_pass<Act>& p, real* state, real* chunk_states, const Act* u, Act* y) const {
  p.ops.modal_scan(p.stream, {.form = form_,
                              .poles = poles_.weight,
                              .residues = residues_.weight,
                              .d = skip_.weight,
                              .v = u + 2 * d_,
                              .x1 = u + d_,
                              .x2 = u,
                              .y = y,
                              .initial = state,
                              .final = state,
                              .states = chunk_states,
                              .batch = 1,
                              .length = p.length,
                              .channels = d_,
                              .modes = modes_,
                              .x_stride = 3 * d_,
                              .y_stride = d_});
}

template <class Act>
void long_filter<Act>::forward_from(const layer_pass<Act>& p, real* state, const Act* u, Act* y) {
  const std::int64_t chunks = (p.length + kernels::modal_scan_chunk - 1) / kernels::modal_scan_chunk;
  states_.resize(static_cast<std::size_t>(chunks * state_size()));
  scan(p, state, states_.data(), u, y);
}

template <class Act>
void long_filter<Act>::backward_from(const layer_pass<Act>& p, const Act* u, const Act* dy, Act* d_u, real* d_state) const {
  p.ops.modal_scan_backward(p.stream, {.form = form_,
                                       .poles = poles_.weight,
                                       .residues = residues_.weight,
                                       .d = skip_.weight,
                                       .v = u + 2 * d_,
                                       .x1 = u + d_,
                                       .x2 = u,
                                       .dy = dy,
                                       .states = states_.data(),
                                       .dv = d_u + 2 * d_,
                                       .dx1 = d_u + d_,
                                       .dx2 = d_u,
                                       .d_poles = poles_.gradient,
                                       .d_residues = residues_.gradient,
                                       .d_d = skip_.gradient,
                                       .d_final = d_state,
                                       .d_initial = d_state,
                                       .batch = 1,
                                       .length = p.length,
                                       .channels = d_,
                                       .modes = modes_,
                                       .x_stride = 3 * d_,
                                       .dy_stride = d_,
                                       .dx_stride = 3 * d_});
}

void declare_long_filter(kernels::modal_form form, std::int64_t d, std::int64_t modes, tensor_list& tensors) {
  const auto residue = normal_values(1 / std::sqrt(static_cast<double>(modes)));
  if (form == kernels::modal_form::decays) {
    // Memories of 1 to 1000 tokens: log p from -1 to -1/1000, log-uniform.
    tensors.add("filter.poles", {d, modes}, false, drawn_values([](rng& r) { return -std::pow(10.0, -3 * r.uniform()); }));
    tensors.add("filter.residues", {d, modes}, false, residue);
    return;
  }
  // |p| from 0.5 to 0.999, 1 - |p| log-uniform, angles uniform in the upper half: inside the unit circle, whatever the state size.
  tensors.add("filter.poles", {d, modes, 2}, false, [](rng& r, std::span<float> w) {
    for (std::size_t i = 0; i + 1 < w.size(); i += 2) {
      const double size = 1 - 0.5 * std::pow(500.0, -r.uniform()), angle = std::numbers::pi * r.uniform();
      w[i] = static_cast<float>(size * std::cos(angle));
      w[i + 1] = static_cast<float>(size * std::sin(angle));
    }
  });
  tensors.add("filter.residues", {d, modes, 2}, false, residue);
}

template class long_filter<float>;
template class long_filter<kernels::bf16>;
template class long_filter<double>;

}  // namespace isthmus
