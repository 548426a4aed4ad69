#include "kernels/cpu/traits.hpp"

#include <limits>

namespace isthmus::kernels::cpu {

namespace {

constexpr std::int64_t whole_panel = std::numeric_limits<std::int32_t>::max();

constexpr cpu_traits like_zen_4{.fast_bf16_dots = true,
                                .library_rows = 64,
                                .fp32_piece_steps = whole_panel,
                                .bf16_piece_steps = 1024,  // 256 KiB: they stay in the second-level cache beside as many of what comes next
                                .fetch_two_streams = false,
                                .fetch_near = true,
                                .lone_bytes_ahead = 0,
                                .stream_past_caches = true};
// 32 KiB of weights serve all strips from the first-level cache.
constexpr cpu_traits like_emerald_rapids{.fast_bf16_dots = false,
                                         .library_rows = 256,
                                         .fp32_piece_steps = 128,
                                         .bf16_piece_steps = 128,
                                         .fetch_two_streams = true,
                                         .fetch_near = false,
                                         .lone_bytes_ahead = 32 << 10,
                                         .stream_past_caches = false};

}  // namespace

const cpu_traits& this_cpu() {
#if defined(__x86_64__)
  static const bool intel = __builtin_cpu_is("intel") != 0;
  return intel ? like_emerald_rapids : like_zen_4;
#else
  return like_zen_4;
#endif
}

}  // namespace isthmus::kernels::cpu
