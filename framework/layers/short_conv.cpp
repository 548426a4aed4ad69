#include "framework/layers/short_conv.hpp"

namespace isthmus {

template <class Act>
void short_conv<Act>::run(const layer_pass<Act>& p, const Act* x, Act* y, Act* state) const {
  p.ops.conv1d(p.stream, {.x = x,
                          .weight = weight_.weight,
                          .bias = bias_.weight,
                          .skip = nullptr,
                          .y = y,
                          .initial = state,
                          .final = state,
                          .batch = p.batch,
                          .length = p.length,
                          .channels = channels_,
                          .filters = channels_,
                          .width = width_,
                          .x_stride = x_stride_,
                          .activation = activation_});
}

template <class Act>
void short_conv<Act>::advance(const layer_pass<Act>& p, Act* state, const Act* x, Act* y) const {
  if (p.length > 1) return run(p, x, y, state);
  p.ops.conv1d_step(p.stream, {.x = x,
                               .weight = weight_.weight,
                               .bias = bias_.weight,
                               .skip = nullptr,
                               .state = state,
                               .y = y,
                               .channels = channels_,
                               .filters = channels_,
                               .width = width_,
                               .activation = activation_});
}

template <class Act>
void short_conv<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const Act* before, Act* d_state) const {
  p.ops.conv1d_backward(p.stream, {.x = x,
                                   .weight = weight_.weight,
                                   .bias = bias_.weight,
                                   .skip = nullptr,
                                   .dy = dy,
                                   .dx = dx,
                                   .d_weight = weight_.gradient,
                                   .d_bias = bias_.gradient,
                                   .d_skip = nullptr,
                                   .initial = before,
                                   .d_final = d_state,
                                   .d_initial = d_state,
                                   .batch = p.batch,
                                   .length = p.length,
                                   .channels = channels_,
                                   .filters = channels_,
                                   .width = width_,
                                   .x_stride = x_stride_,
                                   .dx_stride = x_stride_,
                                   .activation = activation_});
}

template class short_conv<float>;
template class short_conv<kernels::bf16>;
template class short_conv<double>;

}  // namespace isthmus
