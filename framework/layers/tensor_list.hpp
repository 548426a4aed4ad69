#pragma once

#include "framework/core/parameter_layout.hpp"
#include "framework/core/rng.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// Fills a fresh tensor, row-major; draws from a generator of the tensor's own.
using initialiser = std::function<void(rng&, std::span<float>)>;

initialiser constant_values(float value);
/// Uniform within +-bound.
initialiser uniform_values(double bound);
/// Normal with mean zero.
initialiser normal_values(double deviation);
/// Draws each element by itself.
initialiser drawn_values(std::function<double(rng&)> draw);

/// The tensors of a model in the making: where each lies in the flat array, and how it begins.
class tensor_list {
public:
  /// n_layers: what writes to the residual stream is divided by sqrt(2 n_layers).
  explicit tensor_list(std::int64_t n_layers) : n_layers_(n_layers) {}

  /// Names of tensors that follow begin so.
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }
  void add(std::string_view name, std::vector<std::int64_t> shape, bool decays, initialiser begin);
  /// A matrix [out, in], uniform within +-1/sqrt(in); takes weight decay.
  void add_matrix(std::string_view name, std::int64_t out, std::int64_t in);
  /// The same for one whose product is added to the residual stream: divided by sqrt(2 n_layers).
  void add_output(std::string_view name, std::int64_t out, std::int64_t in);
  /// A projection's bias: zeros that take no weight decay.
  void add_bias(std::string_view name, std::int64_t out) { add_vector(name, out, constant_values(0)); }
  /// A vector that takes no weight decay.
  void add_vector(std::string_view name, std::int64_t count, initialiser begin);

  std::int64_t n_layers() const { return n_layers_; }
  const parameter_layout& layout() const { return layout_; }
  const initialiser& beginning(std::size_t slot) const { return beginnings_[slot]; }

private:
  std::int64_t n_layers_;
  std::string prefix_;
  parameter_layout layout_;
  std::vector<initialiser> beginnings_;  // one a slot
};

}  // namespace isthmus
