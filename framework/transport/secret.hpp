#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace isthmus {

/// Picks libsodium's fast implementations; any thread, any number of times. Everything here that uses libsodium calls it first.
void start_sodium();

/// 32 secret bytes, wiped when they go. They move, and never copy unseen.
class secret {
public:
  static constexpr std::size_t size = 32;
  secret() = default;
  secret(secret&& other) noexcept;
  secret& operator=(secret&& other) noexcept;
  ~secret();

  std::span<std::byte, size> bytes() { return bytes_; }
  std::span<const std::byte, size> bytes() const { return bytes_; }
  unsigned char* raw() { return reinterpret_cast<unsigned char*>(bytes_.data()); }
  const unsigned char* raw() const { return reinterpret_cast<const unsigned char*>(bytes_.data()); }

private:
  std::array<std::byte, size> bytes_{};
};

}  // namespace isthmus
