#include "framework/layers/pass.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

template <class Real>
const tensor_slot& parameter_view<Real>::find(const std::string& name) const {
  const auto at = std::find_if(layout.slots.begin(), layout.slots.end(), [&](const tensor_slot& s) { return s.name == name; });
  ensure(at != layout.slots.end(), "parameter_view: no tensor of that name");
  return *at;
}

namespace {

/// "q_proj.bias" of "q_proj.weight".
std::string bias_name(const std::string& weight) { return weight.substr(0, weight.rfind('.')) + ".bias"; }

}  // namespace

template <class Act>
projection<Act>::projection(const layer_parts<Act>& parts, std::initializer_list<std::string> names, bool biases) {
  const auto& parameters = parts.parameters;
  const tensor_slot& first = parameters.find(parts.prefix + *names.begin());
  const std::int64_t in = first.shape.back();
  std::int64_t end = first.offset;
  for (const auto& name : names) {
    const tensor_slot& slot = parameters.find(parts.prefix + name);
    if (biases) biases_.push_back({parts.vector(bias_name(name)), (end - first.offset) / in, slot.shape.front()});
    ensure(slot.shape.size() == 2 && slot.shape.back() == in && slot.offset == end, "projection: tensors do not join");
    end = slot.offset + slot.count;
  }
  matrix_ = parts.ops.make_quantised_matrix(parameters.weights + first.offset, (end - first.offset) / in, in, parameters.formats.weights);
  gradient_ = parameters.gradient(first.name);
}

template <class Act>
void projection<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) const {
  p.ops.linear(p.stream, {.w = matrix(), .x = x, .y = y, .rows = p.rows(), .x_stride = in(), .y_stride = out()});
  for (const auto& b : biases_)
    p.ops.bias(p.stream, {.bias = b.values.weight, .y = y + b.first, .rows = p.rows(), .cols = b.count, .y_stride = out()});
}

template <class Act>
void projection<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) const {
  backward_input(p, dy, dx);
  backward_weight(p, x, dy);
}

template <class Act>
void projection<Act>::backward_input(const layer_pass<Act>& p, const Act* dy, Act* dx) const {
  p.ops.linear_backward_input(p.stream, {.w = matrix(), .dy = dy, .dx = dx, .rows = p.rows(), .dy_stride = out(), .dx_stride = in()});
}

template <class Act>
void projection<Act>::backward_weight(const layer_pass<Act>& p, const Act* x, const Act* dy) const {
  p.ops.linear_backward_weight(p.stream,
                               {.w = matrix(), .x = x, .dy = dy, .dw = gradient_, .rows = p.rows(), .x_stride = in(), .dy_stride = out()});
  for (const auto& b : biases_)
    p.ops.bias_backward(p.stream, {.dy = dy + b.first, .d_bias = b.values.gradient, .rows = p.rows(), .cols = b.count, .dy_stride = out()});
}

template struct parameter_view<float>;
template struct parameter_view<double>;
template class projection<float>;
template class projection<kernels::bf16>;
template class projection<double>;

}  // namespace isthmus
