#include "framework/core/buffer.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(buffer_test)

BOOST_AUTO_TEST_CASE(memory_is_zeroed_aligned_and_of_its_size) {
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}, (std::size_t{2} << 20) - 1,
                              std::size_t{2} << 20, (std::size_t{2} << 20) + 1, std::size_t{5} << 20}) {
    const buffer b(n);
    BOOST_TEST(b.size() == n);
    BOOST_TEST(b.bytes().size() == n);
    BOOST_TEST(std::all_of(b.bytes().begin(), b.bytes().end(), [](std::byte x) { return x == std::byte{0}; }));
    const auto address = reinterpret_cast<std::uintptr_t>(b.data());
    BOOST_TEST(address % (n < (std::size_t{2} << 20) ? 64U : 2U << 20) == 0U);
  }
}

BOOST_AUTO_TEST_CASE(as_counts_whole_numbers) {
  buffer b(16);
  b.as<std::uint32_t>()[3] = 7;
  BOOST_TEST(b.as<std::uint32_t>().size() == 4U);
  BOOST_TEST(std::to_integer<int>(b.bytes()[12]) == 7);
}

BOOST_AUTO_TEST_CASE(shared_bytes_are_a_copy) {
  std::vector<std::byte> source(100, std::byte{3});
  const shared_bytes shared = make_shared_bytes(source);
  source[0] = std::byte{4};
  BOOST_TEST(shared->size() == 100U);
  BOOST_TEST(std::to_integer<int>(shared->bytes()[0]) == 3);
  BOOST_TEST(make_shared_bytes({})->size() == 0U);
}

BOOST_AUTO_TEST_CASE(float_arrays_begin_at_zero) {
  float_array a(1'000'000);
  BOOST_TEST(a.size() == 1'000'000U);
  BOOST_TEST(std::all_of(a.span().begin(), a.span().end(), [](float x) { return x == 0.0F; }));
  a.span()[999'999] = 1;
  BOOST_TEST(a.data()[999'999] == 1.0F);
}

BOOST_AUTO_TEST_SUITE_END()
