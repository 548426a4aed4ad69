#include "kernels/reference/backend.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> allocations = 0;
}

// None is inlined: GCC 12 would take one for the partner of the standard's.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
// std::stable_sort asks so; a sanitizer's own form would not fit the delete below.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(allocation)

BOOST_AUTO_TEST_CASE(a_pass_like_the_one_before_allocates_nothing) {
  auto decoder = with_experts(tiny_config("awmshdegr", 2));
  decoder.layers.emplace_back("attention");
  decoder.document_mark = 3;
  decoder.medusa_heads = 2;
  auto narrow_decoder = decoder, narrow_encoder = tiny_encoder("ba", true);
  narrow_decoder.precision = narrow_encoder.precision = precision_kind::bf16;
  for (const auto& config : {decoder, narrow_decoder, tiny_encoder("ba", false), narrow_encoder}) {
    kernels::serial_team team;
    hybrid_model model(config, kernels::reference_backend(), team, 24);  // three rows at once
    initial_weights(config, 1, model.weights());
    const auto ids = random_ids(1, 6 * 9, config.vocabulary);
    model.accumulate({ids, 6, 8}, 1);
    model.evaluate({ids, 6, 8});
    for (int step = 0; step < 2; ++step) {
      const std::size_t before = allocations;
      model.weights_changed();
      model.accumulate({ids, 6, 8}, 1);
      model.evaluate({ids, 6, 8});
      BOOST_TEST(allocations - before == 0U);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
