#include "framework/core/hash.hpp"

#include <cstdio>

/// Linked with every object of the framework (see check_bare.cmake): that it links is the test.
int main() {
  std::puts(isthmus::hash_bytes({}).hex().c_str());
  return 0;
}
