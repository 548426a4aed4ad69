#pragma once

#include "kernels/backend.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace isthmus::kernels::testing {

/// Random arguments, the same numbers for every type: exact in bf16 where activations and matrices are concerned (if so asked),
/// in fp32 elsewhere, so that a result in double is what every backend should come near to.
class inputs {
public:
  inputs(std::uint64_t seed, bool exact_in_bf16) : state_(seed), exact_in_bf16_(exact_in_bf16) {}

  /// Activations or matrices: about normal, times scale.
  template <class Act>
  std::vector<Act> act(std::int64_t count, double scale = 1) {
    std::vector<Act> values;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto narrow = static_cast<float>(next() * scale);
      values.push_back(static_cast<Act>(static_cast<real<Act>>(exact_in_bf16_ ? static_cast<float>(bf16(narrow)) : narrow)));
    }
    return values;
  }
  /// Vectors of weights and the like: offset + about normal, times scale.
  template <class Act>
  std::vector<real<Act>> reals(std::int64_t count, double scale = 1, double offset = 0) {
    std::vector<real<Act>> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(offset + next() * scale));
    return values;
  }
  std::vector<std::int32_t> ids(std::int64_t count, std::int64_t bound) {
    std::vector<std::int32_t> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<std::int32_t>(bits() % static_cast<std::uint64_t>(bound)));
    return values;
  }

private:
  std::uint64_t bits();
  double next();

  std::uint64_t state_;
  bool exact_in_bf16_;
};

/// What a case wrote, by name.
class outputs {
public:
  template <class T>
  void add(std::string name, const std::vector<T>& values) {
    std::vector<double> wide;
    for (const T v : values) wide.push_back(static_cast<double>(static_cast<real<T>>(v)));
    tensors.emplace_back(std::move(name), std::move(wide));
  }
  std::vector<std::pair<std::string, std::vector<double>>> tensors;
};

/// A kernel, or its forward and backward pass, with extents: runs on any table.
struct kernel_case {
  std::string name;
  std::function<outputs(const op_table<float>&, stream&, inputs&)> f32;
  std::function<outputs(const op_table<bf16>&, stream&, inputs&)> b16;
  std::function<outputs(const op_table<double>&, stream&, inputs&)> f64;

  template <class Act>
  const auto& of() const {
    if constexpr (std::is_same_v<Act, float>)
      return f32;
    else if constexpr (std::is_same_v<Act, bf16>)
      return b16;
    else
      return f64;
  }
};

/// The one list that every backend is tested with.
std::vector<kernel_case> kernel_cases();

/// The largest difference of any tensor between the backend and the reference in double, in units of the tensor's largest
/// magnitude, with the tensor's name. Infinite where a result is not finite.
template <class Act>
std::pair<double, std::string> distance_from_reference(const kernel_case& c, const op_table<Act>& ops, stream& s, std::uint64_t seed);

}  // namespace isthmus::kernels::testing
