#include "framework/transport/secret.hpp"

#include "framework/core/error.hpp"

#include <sodium.h>

namespace isthmus {

void start_sodium() { ensure(sodium_init() >= 0, "libsodium does not start"); }

secret::secret(secret&& other) noexcept : bytes_(other.bytes_) { sodium_memzero(other.bytes_.data(), size); }

secret& secret::operator=(secret&& other) noexcept {
  if (this == &other) return *this;
  bytes_ = other.bytes_;
  sodium_memzero(other.bytes_.data(), size);
  return *this;
}

secret::~secret() { sodium_memzero(bytes_.data(), size); }

}  // namespace isthmus
