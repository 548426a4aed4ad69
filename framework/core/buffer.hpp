#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace isthmus {

/// Owned memory, 2 MiB aligned and marked for huge pages when it is large (weights read 1.4 to 2 times faster so),
/// 64-byte aligned otherwise. Zeroed. Neither copies nor moves; share it by shared_ptr.
class buffer {
public:
  explicit buffer(std::size_t bytes);
  ~buffer();
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  std::span<std::byte> bytes() { return {data_, bytes_}; }
  std::span<const std::byte> bytes() const { return {data_, bytes_}; }
  /// Its memory as numbers: size() must be a multiple of sizeof(T).
  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data_), bytes_ / sizeof(T)};
  }
  template <class T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data_), bytes_ / sizeof(T)};
  }

private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// How payloads travel between actors and over links: one owner count, never a copy.
using shared_bytes = std::shared_ptr<const buffer>;

shared_bytes make_shared_bytes(std::span<const std::byte> bytes);

/// An array of fp32 numbers in huge pages.
class float_array {
public:
  explicit float_array(std::size_t count) : memory_(count * sizeof(float)) {}
  float* data() { return reinterpret_cast<float*>(memory_.data()); }
  const float* data() const { return reinterpret_cast<const float*>(memory_.data()); }
  std::size_t size() const { return memory_.size() / sizeof(float); }
  std::span<float> span() { return {data(), size()}; }
  std::span<const float> span() const { return {data(), size()}; }

private:
  buffer memory_;
};

}  // namespace isthmus
