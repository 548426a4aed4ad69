#include "kernels/reference/backend.hpp"
#include "kernels/stealing_team.hpp"
#include "tests/framework/models/model_fixture.hpp"

#ifdef ISTHMUS_CPU_BACKEND
#include "kernels/cpu/backend.hpp"
#endif

#include <boost/test/unit_test.hpp>

#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::atomic<std::size_t> allocations = 0, of_libraries = 0;

/// Who took memory: oneDNN and OpenMP make some small objects in each product (docs/model.md), and what they make is not ours to choose.
void count(const void* caller) {
  Dl_info where{};
  const bool known = ::dladdr(caller, &where) != 0 && where.dli_fname != nullptr;
  const std::string_view name = known ? where.dli_fname : "";
  const bool library = name.find("libdnnl") != name.npos || name.find("libgomp") != name.npos;
  ++(library ? of_libraries : allocations);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
}
void* take(std::size_t bytes) { return __libc_malloc(bytes); }
#define ISTHMUS_COUNTS_MALLOC
#else  // a sanitizer has these functions for itself
void* take(std::size_t bytes) { return std::malloc(bytes); }
#endif

}  // namespace

// None is inlined: GCC 12 would take one for the partner of the standard's.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  count(__builtin_return_address(0));
  if (void* memory = take(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
// std::stable_sort asks so; a sanitizer's own form would not fit the delete below.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  count(__builtin_return_address(0));
  return take(bytes ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

#ifdef ISTHMUS_COUNTS_MALLOC
extern "C" {
void* malloc(std::size_t bytes) noexcept {
  count(__builtin_return_address(0));
  return __libc_malloc(bytes);
}
void* calloc(std::size_t items, std::size_t bytes) noexcept {
  count(__builtin_return_address(0));
  return __libc_calloc(items, bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  count(__builtin_return_address(0));
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
  count(__builtin_return_address(0));
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
}
#endif

using namespace isthmus;
using namespace isthmus::testing;

namespace {

std::vector<const kernels::backend*> host_backends() {
  std::vector<const kernels::backend*> all{&kernels::reference_backend()};
#ifdef ISTHMUS_CPU_BACKEND
  for (const auto* b : kernels::cpu_backends()) all.push_back(b);
#endif
  return all;
}

/// How much a pass allocates that is like one before.
template <class Pass>
void check_repeats(const std::string& what, Pass pass) {
  for (int warm_up = 0; warm_up < 2; ++warm_up) pass();
  for (int step = 0; step < 2; ++step) {
    const std::size_t before = allocations;
    pass();
    const std::size_t more = allocations - before;
    BOOST_TEST(more == 0U, what << ": " << more << " allocations");
  }
}

/// Room for the rows to come: that a state grows is no matter of the pass.
void reserve(sequence_state& state, std::int64_t tokens) {
  for (auto& layer : state.layers)
    for (auto& part : layer) {
      const std::int64_t rows = part.window > 0 ? 2 * part.window : tokens;
      part.bytes.reserve(static_cast<std::size_t>(rows) * part.row_bytes);
    }
}

/// Reads a token of one sequence, then a token of each of three.
void decode(hybrid_model& model, std::span<sequence_state> states, std::span<const std::int32_t> ids) {
  model.advance(states[0], ids.first(1));
  const sequence_input together[] = {{&states[1], ids.subspan(1, 1)}, {&states[2], ids.subspan(2, 1)}, {&states[3], ids.subspan(3, 1)}};
  model.advance(together);
}

void check_decoding(const std::string& what, hybrid_model& model) {
  const auto ids = random_ids(2, 128, model.config().vocabulary);
  const auto start = [&] {
    std::vector<sequence_state> states(4, model.start());
    for (auto& state : states) reserve(state, 8);
    return states;
  };
  for (std::size_t at = 0; at + 4 <= ids.size(); ++at) {  // until each expert has been read once: its weights are packed then
    auto states = start();
    decode(model, states, std::span(ids).subspan(at));
  }
  auto states = start();
  std::size_t at = 0;
  check_repeats(what + ", decoding", [&] { decode(model, states, std::span(ids).subspan(at++)); });
}

void check(const model_config& config, const kernels::backend& backend, kernels::team& team, std::int64_t rows, std::int64_t context) {
  const std::string what = std::string(backend.name) + (config.precision == precision_kind::bf16 ? ", bf16" : ", fp32") +
                           (config.encoder ? ", encoder" : "") + ", " + std::to_string(config.d_model) + " wide, " +
                           std::to_string(team.size()) + " threads";
  hybrid_model model(config, backend, team, rows / 2 * context);
  initial_weights(config, 1, model.weights());
  const auto ids = random_ids(1, rows * (context + 1), config.vocabulary);
  check_repeats(what, [&] {
    model.weights_changed();
    model.accumulate({ids, rows, context}, 1);
    model.evaluate({ids, rows, context});
  });
  if (config.encoder) return;
  check_decoding(what, model);
  check_repeats(what + ", training after decoding", [&] { model.accumulate({ids, rows, context}, 1); });
}

model_config decoder_of_all_kinds() {
  auto c = with_experts(tiny_config("awmshdegr", 2));
  c.layers.emplace_back("attention");
  c.document_mark = 3;
  c.medusa_heads = 2;
  return c;
}

#ifdef ISTHMUS_CPU_BACKEND
/// Wide enough for a library's products.
model_config wide_decoder() {
  auto c = decoder_of_all_kinds();
  c.vocabulary = 512;
  c.d_model = 128;
  c.options["head_dim"] = 32;
  c.options["ffn_hidden"] = 256;
  c.options["moe_hidden"] = 64;
  c.options["ssm_inner"] = 256;
  c.options["ssm_head_dim"] = 32;
  c.options["ssm_state"] = 16;
  c.options["ssm_chunk"] = 32;
  c.options["monarch_context"] = 64;
  return c;
}
#endif

}  // namespace

BOOST_AUTO_TEST_SUITE(allocation)

BOOST_AUTO_TEST_CASE(a_pass_like_the_one_before_allocates_nothing) {
  for (const auto* backend : host_backends())
    for (auto config : {decoder_of_all_kinds(), tiny_encoder("ba", true), tiny_encoder("ba", false)})
      for (const auto precision : {precision_kind::fp32, precision_kind::bf16}) {
        config.precision = precision;
        kernels::serial_team alone;
        kernels::stealing_team several(3);
        check(config, *backend, alone, 6, 8);
        check(config, *backend, several, 6, 8);
      }
}

#ifdef ISTHMUS_CPU_BACKEND
BOOST_AUTO_TEST_CASE(nor_do_the_products_of_a_library) {
  for (const auto* backend : kernels::cpu_backends())
    for (const auto precision : {precision_kind::fp32, precision_kind::bf16}) {
      auto config = wide_decoder();
      config.precision = precision;
      kernels::stealing_team team(2);
      check(config, *backend, team, 4, 64);
    }
}
#endif

BOOST_AUTO_TEST_SUITE_END()
