#pragma once

#include "kernels/backend.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace isthmus::bench {

/// A model's extents. Rows: batch * length tokens.
struct extents {
  std::int64_t batch = 4, length = 2048, d = 1024, head_dim = 64, hidden = 2816, vocabulary = 32768;
  std::int64_t inner = 2048, state = 64, chunk = 64, conv_width = 4, parameters = std::int64_t{100} << 20;
  std::int64_t scan_state = 16, scan_chunk = 32, window = 256;
  std::int64_t rows() const { return batch * length; }
  std::int64_t heads() const { return d / head_dim; }
  std::int64_t ssm_heads() const { return inner / head_dim; }
  std::int64_t channels() const { return inner + 2 * state; }
  std::int64_t projected() const { return inner + channels() + ssm_heads(); }
};

/// Memory of a backend, filled with numbers that look random and repeat after a while.
class arrays {
public:
  arrays(const kernels::memory_table& memory, kernels::stream& s) : memory_(memory), stream_(s) {}
  ~arrays() {
    for (void* place : taken_) memory_.release(place);
  }
  template <class T>
  T* numbers(std::int64_t count, double scale = 1) {
    std::vector<T> values(static_cast<std::size_t>(std::min<std::int64_t>(count, 1 << 20)));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = T(static_cast<float>(scale * std::sin(1.7 * static_cast<double>(i * i % 10007))));
    return filled(values, count);
  }
  std::int32_t* ids(std::int64_t count, std::int64_t bound) {
    std::vector<std::int32_t> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<std::int32_t>(i * 2654435761U % static_cast<std::size_t>(bound));
    return filled(values, count);
  }

private:
  template <class T>
  T* filled(const std::vector<T>& values, std::int64_t count) {
    auto* place = static_cast<T*>(memory_.allocate(static_cast<std::size_t>(count) * sizeof(T)));
    taken_.push_back(place);
    for (std::int64_t at = 0; at < count; at += static_cast<std::int64_t>(values.size()))
      memory_.upload(stream_, place + at, values.data(),
                     static_cast<std::size_t>(std::min<std::int64_t>(static_cast<std::int64_t>(values.size()), count - at)) * sizeof(T));
    return place;
  }
  const kernels::memory_table& memory_;
  kernels::stream& stream_;
  std::vector<void*> taken_;
};

/// What is timed: its work by the least that any program has to do, in bytes through memory or in operations.
struct job {
  std::string name;
  double bytes, operations;
  std::function<void()> run;
};

/// Every kernel that has activations of type Act (float, kernels::bf16); the arrays live in `a`.
template <class Act>
std::vector<job> kernel_jobs(const kernels::backend& b, kernels::stream& s, arrays& a, const extents& x);
/// The selective scan and its backward pass, added to jobs.
template <class Act>
void add_selective_scan(const kernels::backend& b, kernels::stream& s, arrays& a, const extents& x, std::vector<job>& jobs);
/// AdamW and the sum of squares.
std::vector<job> optimizer_jobs(const kernels::backend& b, kernels::stream& s, arrays& a, const extents& x);

}  // namespace isthmus::bench
