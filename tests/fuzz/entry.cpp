// What libFuzzer calls; compiled once for each target.
#include "tests/fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  isthmus::fuzz::ISTHMUS_FUZZ_TARGET({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
