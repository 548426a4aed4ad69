// Highway's include guard: this header is read once for each instruction set.
#if defined(ISTHMUS_PROBE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef ISTHMUS_PROBE_INL
#undef ISTHMUS_PROBE_INL
#else
#define ISTHMUS_PROBE_INL
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#undef ISTHMUS_PLAIN_LOOPS  // a CPU without vectors takes the plain loops
#define ISTHMUS_PLAIN_LOOPS (HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128)

#if !ISTHMUS_PLAIN_LOOPS
HWY_BEFORE_NAMESPACE();
namespace isthmus::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using floats_tag = hn::CappedTag<float, 16>;
using doubles_tag = hn::CappedTag<double, 8>;
constexpr std::size_t width = HWY_MIN(HWY_MAX_BYTES / 4, 16);  // floats in a vector
constexpr floats_tag tag;
constexpr doubles_tag dtag;
using floats = hn::Vec<floats_tag>;
using doubles = hn::Vec<doubles_tag>;

/// The probe's sixteen fp64 lanes in registers.
struct lanes {
  static constexpr std::size_t parts = 32 / width;
  doubles sum[parts];
  explicit lanes(const double* from) {
    for (std::size_t p = 0; p < parts; ++p) sum[p] = hn::LoadU(dtag, from + p * (width / 2));
  }
  HWY_INLINE void add(std::size_t part, const floats& v) {
    const hn::Half<floats_tag> half;
    sum[2 * part] = hn::Add(sum[2 * part], hn::PromoteTo(dtag, hn::LowerHalf(half, v)));
    sum[2 * part + 1] = hn::Add(sum[2 * part + 1], hn::PromoteTo(dtag, hn::UpperHalf(half, v)));
  }
  HWY_INLINE void add_square(std::size_t part, const floats& v) {
    const hn::Half<floats_tag> half;
    const doubles low = hn::PromoteTo(dtag, hn::LowerHalf(half, v)), high = hn::PromoteTo(dtag, hn::UpperHalf(half, v));
    sum[2 * part] = hn::Add(sum[2 * part], hn::Mul(low, low));
    sum[2 * part + 1] = hn::Add(sum[2 * part + 1], hn::Mul(high, high));
  }
  HWY_INLINE void add_difference(std::size_t part, const floats& a, const floats& b) {
    const hn::Half<floats_tag> half;
    const doubles low = hn::Sub(hn::PromoteTo(dtag, hn::LowerHalf(half, a)), hn::PromoteTo(dtag, hn::LowerHalf(half, b)));
    const doubles high = hn::Sub(hn::PromoteTo(dtag, hn::UpperHalf(half, a)), hn::PromoteTo(dtag, hn::UpperHalf(half, b)));
    sum[2 * part] = hn::Add(sum[2 * part], low);
    sum[2 * part + 1] = hn::Add(sum[2 * part + 1], high);
  }
  void store(double* to) const {
    for (std::size_t p = 0; p < parts; ++p) hn::StoreU(sum[p], dtag, to + p * (width / 2));
  }
};

HWY_INLINE floats sign_mask(std::uint64_t signs) {
  std::uint8_t bits[8];
  __builtin_memcpy(bits, &signs, 8);
  return hn::IfThenElseZero(hn::LoadMaskBits(tag, bits), hn::Set(tag, -0.0F));
}

}  // namespace isthmus::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

#endif
