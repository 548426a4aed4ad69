#include "framework/core/hash.hpp"

#include <cstdio>

/// Linked with every object of kernels and framework, and with neither CAF nor UCX: that it links is the test.
int main() {
  std::puts(isthmus::hash_bytes({}).hex().c_str());
  return 0;
}
