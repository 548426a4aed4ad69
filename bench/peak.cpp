#include "bench/peak.hpp"

#include "bench/report.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace isthmus::bench {

namespace {

constexpr std::int64_t rounds = 200000;
constexpr int chains = 12;  // independent sums: more than latency times units of any CPU so far

#if defined(__x86_64__)
// clang-format off
#define ISTHMUS_CHAIN(instruction, r, n) instruction " %%" r "14, %%" r "15, %%" r #n "\n"
#define ISTHMUS_CHAINS(instruction, r)                                                                                           \
  ISTHMUS_CHAIN(instruction, r, 0) ISTHMUS_CHAIN(instruction, r, 1) ISTHMUS_CHAIN(instruction, r, 2)                             \
  ISTHMUS_CHAIN(instruction, r, 3) ISTHMUS_CHAIN(instruction, r, 4) ISTHMUS_CHAIN(instruction, r, 5)                             \
  ISTHMUS_CHAIN(instruction, r, 6) ISTHMUS_CHAIN(instruction, r, 7) ISTHMUS_CHAIN(instruction, r, 8)                             \
  ISTHMUS_CHAIN(instruction, r, 9) ISTHMUS_CHAIN(instruction, r, 10) ISTHMUS_CHAIN(instruction, r, 11)
#define ISTHMUS_BURN(instruction, r)                                                                                             \
  for (std::int64_t i = 0; i < rounds; ++i)                                                                                      \
    asm volatile(ISTHMUS_CHAINS(instruction, r)::                                                                                \
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11")
// clang-format on

void zero_256() { asm volatile("vxorps %%ymm14, %%ymm14, %%ymm14\nvxorps %%ymm15, %%ymm15, %%ymm15" ::: "xmm14", "xmm15"); }
void zero_512() { asm volatile("vpxord %%zmm14, %%zmm14, %%zmm14\nvpxord %%zmm15, %%zmm15, %%zmm15" ::: "xmm14", "xmm15"); }
void burn_fma_256() {
  zero_256();
  ISTHMUS_BURN("vfmadd231ps", "ymm");
}
void burn_fma_512() {
  zero_512();
  ISTHMUS_BURN("vfmadd231ps", "zmm");
}
void burn_int8_512() {
  zero_512();
  ISTHMUS_BURN("vpdpbusd", "zmm");
}
void burn_bf16_512() {
  zero_512();
  ISTHMUS_BURN("vdpbf16ps", "zmm");
}
#endif

void burn_scalar() {
  volatile float start = 1.0F;
  float sums[chains];
  for (float& s : sums) s = start;
  for (std::int64_t i = 0; i < rounds; ++i)
    for (float& s : sums) s = s * 0.999F + 0.5F;
  for (const float s : sums) start = s;
}

struct burner {
  void (*run)();
  double flop;  // a chain and round
  const char* name;
};

burner burner_of(peak_kind kind) {
#if defined(__x86_64__)
  if (kind == peak_kind::bf16_dot)
    return __builtin_cpu_supports("avx512bf16") ? burner{burn_bf16_512, 64, "bf16 vdpbf16ps, 512 bit"} : burner{nullptr, 0, "none"};
  if (kind == peak_kind::int8_dot)
    return __builtin_cpu_supports("avx512vnni") ? burner{burn_int8_512, 128, "int8 vpdpbusd, 512 bit"} : burner{nullptr, 0, "none"};
  if (__builtin_cpu_supports("avx512f")) return {burn_fma_512, 32, "fp32 fma, 512 bit"};
  if (__builtin_cpu_supports("fma")) return {burn_fma_256, 16, "fp32 fma, 256 bit"};
#else
  if (kind != peak_kind::fp32_fma) return {nullptr, 0, "none"};
#endif
  return {burn_scalar, 2, "fp32 scalar"};
}

/// All numbers from `from` on, each read once. Lines are fetched 8 KiB early, past the caches (locality 0) or into the second level (2):
/// what is faster differs between CPUs, by more than a factor of two.
template <class Line, int Locality>
inline __attribute__((always_inline)) std::uint64_t read_lines(const std::byte* from, std::size_t bytes) {
  Line sums[4] = {};
  for (std::size_t i = 0; i < bytes; i += 4 * sizeof(Line))
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) {
      const std::byte* at = from + i + k * sizeof(Line);
      if ((k * sizeof(Line)) % 64 == 0) __builtin_prefetch(at + 8192, 0, Locality);
      sums[k] ^= *reinterpret_cast<const Line*>(at);
    }
  const Line all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  std::uint64_t found = 0;
  for (std::size_t lane = 0; lane < sizeof(Line) / 8; ++lane) found ^= all[lane];
  return found;
}
typedef std::uint64_t line_128 __attribute__((vector_size(16), may_alias));
typedef std::uint64_t line_512 __attribute__((vector_size(64), may_alias));
template <int Locality>
std::uint64_t read_128(const std::byte* from, std::size_t bytes) {
  return read_lines<line_128, Locality>(from, bytes);
}
#if defined(__x86_64__)
template <int Locality>
__attribute__((target("avx512f"))) std::uint64_t read_512(const std::byte* from, std::size_t bytes) {
  return read_lines<line_512, Locality>(from, bytes);
}
#endif

using reader = std::uint64_t (*)(const std::byte*, std::size_t);
std::array<reader, 2> readers_of_this_cpu() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {read_512<0>, read_512<2>};
#endif
  return {read_128<0>, read_128<2>};
}

}  // namespace

double register_peak(peak_kind kind) {
  const burner b = burner_of(kind);
  if (!b.run) return 0;
  b.run();
  std::vector<double> rates;
  for (int i = 0; i < 31; ++i) {
    const double begin = process_seconds();
    b.run();
    rates.push_back(static_cast<double>(rounds * chains) * b.flop / (process_seconds() - begin));
  }
  return median(rates);
}

peak_kind fastest_for_bf16() {
  return register_peak(peak_kind::bf16_dot) > register_peak(peak_kind::fp32_fma) ? peak_kind::bf16_dot : peak_kind::fp32_fma;
}

const char* peak_name(peak_kind kind) { return burner_of(kind).name; }

double read_rate(kernels::team& workers, std::span<const std::byte> memory, double (*clock)()) {
  constexpr std::size_t tile = 128 << 10;
  const auto tiles = static_cast<std::int64_t>(memory.size() / tile);
  const auto readers = readers_of_this_cpu();
  std::atomic<std::uint64_t> kept{0};
  double best = 0;
  for (std::size_t run = 0; run < 5 * readers.size(); ++run) {
    const reader read = readers[run % readers.size()];
    const double begin = clock();
    workers.run(tiles, [&](std::int64_t t, int) {
      kept.fetch_xor(read(memory.data() + static_cast<std::size_t>(t) * tile, tile), std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(tiles) * static_cast<double>(tile) / (clock() - begin));
  }
  return best;
}

}  // namespace isthmus::bench
