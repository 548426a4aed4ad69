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

/// Numbers in the memory of a backend. A copy has memory of its own.
template <class T>
class tensor {
public:
  tensor(const memory_table& memory, stream& s, const std::vector<T>& values)
      : memory_(&memory), stream_(&s), count_(values.size()), data_(static_cast<T*>(memory.allocate(count_ * sizeof(T)))) {
    set(values);
  }
  tensor(const tensor& other) : tensor(*other.memory_, *other.stream_, other.values()) {}
  tensor& operator=(const tensor&) = delete;
  ~tensor() { memory_->release(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return count_; }
  /// What lies there now.
  std::vector<T> values() const {
    std::vector<T> found(count_);
    memory_->download(*stream_, found.data(), data_, count_ * sizeof(T));
    return found;
  }
  void set(const std::vector<T>& values) { memory_->upload(*stream_, data_, values.data(), count_ * sizeof(T)); }

private:
  const memory_table* memory_;
  stream* stream_;
  std::size_t count_;
  T* data_;
};

/// Random arguments in the memory of a backend.
class placed_inputs {
public:
  placed_inputs(std::uint64_t seed, bool exact_in_bf16, const memory_table& memory, stream& s)
      : host(seed, exact_in_bf16), memory_(memory), stream_(s) {}

  template <class T>
  tensor<T> place(const std::vector<T>& values) {
    return {memory_, stream_, values};
  }
  template <class Act>
  tensor<Act> act(std::int64_t count, double scale = 1) {
    return place(host.act<Act>(count, scale));
  }
  template <class Act>
  tensor<real<Act>> reals(std::int64_t count, double scale = 1, double offset = 0) {
    return place(host.reals<Act>(count, scale, offset));
  }
  tensor<std::int32_t> ids(std::int64_t count, std::int64_t bound) { return place(host.ids(count, bound)); }
  /// Ids of which every third is none.
  tensor<std::int32_t> targets(std::int64_t count, std::int64_t bound) {
    auto ids = host.ids(count, bound);
    for (std::size_t i = 0; i < ids.size(); i += 3) ids[i] = no_target;
    return place(ids);
  }
  /// To be overwritten, or it is an error: not zero.
  template <class T>
  tensor<T> blank(std::int64_t count) {
    return place(std::vector<T>(static_cast<std::size_t>(count), static_cast<T>(static_cast<real<T>>(-77))));
  }
  /// Activations or matrices as the master weights of a matrix of type Act.
  template <class Act>
  std::vector<real<Act>> weights(std::int64_t count, double scale = 1) {
    std::vector<real<Act>> wide;
    for (const Act v : host.act<Act>(count, scale)) wide.push_back(static_cast<real<Act>>(v));
    return wide;
  }

  inputs host;

private:
  const memory_table& memory_;
  stream& stream_;
};

/// What a case wrote, by name.
class outputs {
public:
  template <class T>
  void add(std::string name, const tensor<T>& values) {
    std::vector<double> wide;
    for (const T v : values.values()) wide.push_back(static_cast<double>(static_cast<real<T>>(v)));
    tensors.emplace_back(std::move(name), std::move(wide));
  }
  std::vector<std::pair<std::string, std::vector<double>>> tensors;
};

/// A kernel, or its forward and backward pass, with extents: runs on any table. b16: empty where not every backend has these in bf16.
struct kernel_case {
  std::string name;
  std::function<outputs(const op_table<float>&, stream&, placed_inputs&)> f32;
  std::function<outputs(const op_table<bf16>&, stream&, placed_inputs&)> b16;
  std::function<outputs(const op_table<double>&, stream&, placed_inputs&)> f64;

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

/// The one list that every backend is tested with. `kernels_test ... -- attention ssd` keeps the cases whose names begin so.
std::vector<kernel_case> kernel_cases();

/// The largest difference of any tensor between the backend and the reference in double, in units of the tensor's largest
/// magnitude, with the tensor's name. Infinite where a result is not finite.
template <class Act>
std::pair<double, std::string> distance_from_reference(const kernel_case& c, const backend& b, stream& s, std::uint64_t seed);

}  // namespace isthmus::kernels::testing
