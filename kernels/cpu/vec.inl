// Vectors of the widest kind that the target pragma before this header allows. Included once by each backend_*.cpp, inside the
// namespace of its instruction set: no two of them share a symbol.

typedef float vf __attribute__((vector_size(ISTHMUS_WIDTH * 4), aligned(4), may_alias));
typedef std::int32_t vi __attribute__((vector_size(ISTHMUS_WIDTH * 4), aligned(4), may_alias));
typedef std::uint32_t vu __attribute__((vector_size(ISTHMUS_WIDTH * 4), aligned(4), may_alias));
typedef std::uint16_t vh __attribute__((vector_size(ISTHMUS_WIDTH * 2), aligned(2), may_alias));
typedef double vd __attribute__((vector_size(ISTHMUS_WIDTH * 4), aligned(8), may_alias));

constexpr std::int64_t width = ISTHMUS_WIDTH;  // floats in a vector
constexpr std::int64_t panel = 32;             // columns that a packed operand keeps together

#define ISTHMUS_INLINE inline __attribute__((always_inline))

ISTHMUS_INLINE std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

ISTHMUS_INLINE vf splat(float x) { return x - vf{}; }  // folds to a broadcast, also of -0
ISTHMUS_INLINE vf load(const float* p) { return *reinterpret_cast<const vf*>(p); }
ISTHMUS_INLINE void store(float* p, vf x) { *reinterpret_cast<vf*>(p) = x; }
ISTHMUS_INLINE vf load(const bf16* p) {
  return reinterpret_cast<vf>(__builtin_convertvector(*reinterpret_cast<const vh*>(p), vu) << 16);
}
ISTHMUS_INLINE vh round_to_bf16(vf x) {
  const vu u = reinterpret_cast<vu>(x);
  const vu rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
  const vu quiet = (u >> 16) | 0x40U;
  return __builtin_convertvector((u & 0x7fffffffU) > 0x7f800000U ? quiet : rounded, vh);
}
ISTHMUS_INLINE void store(bf16* p, vf x) { *reinterpret_cast<vh*>(p) = round_to_bf16(x); }

/// A vector that is not full: its first `count` elements; the others read as zero.
#if ISTHMUS_WIDTH == 16
ISTHMUS_INLINE vf load_part(const float* p, std::int64_t count) {
  return reinterpret_cast<vf>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << count) - 1), p));
}
ISTHMUS_INLINE vf load_part(const bf16* p, std::int64_t count) {
  const auto half = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << count) - 1), p);
  return reinterpret_cast<vf>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
ISTHMUS_INLINE void store_part(float* p, vf x, std::int64_t count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << count) - 1), reinterpret_cast<__m512>(x));
}
ISTHMUS_INLINE void store_part(bf16* p, vf x, std::int64_t count) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1U << count) - 1), reinterpret_cast<__m256i>(round_to_bf16(x)));
}
#else
template <class T>
ISTHMUS_INLINE vf load_part(const T* p, std::int64_t count) {
  T whole[width] = {};
  __builtin_memcpy(whole, p, static_cast<std::size_t>(count) * sizeof(T));
  return load(whole);
}
template <class T>
ISTHMUS_INLINE void store_part(T* p, vf x, std::int64_t count) {
  T whole[width];
  store(whole, x);
  __builtin_memcpy(p, whole, static_cast<std::size_t>(count) * sizeof(T));
}
#endif

/// How much of a vector a loop body sees: all of it, known at compile time, or the tail of a row.
struct full {
  template <class T>
  static ISTHMUS_INLINE vf get(const T* p) { return load(p); }
  template <class T>
  static ISTHMUS_INLINE void put(T* p, vf x) { store(p, x); }
};
struct part {
  std::int64_t count;
  template <class T>
  ISTHMUS_INLINE vf get(const T* p) const { return load_part(p, count); }
  template <class T>
  ISTHMUS_INLINE void put(T* p, vf x) const { store_part(p, x, count); }
};

/// body(c, mask) for c = 0, width, ... below n.
template <class Body>
ISTHMUS_INLINE void over(std::int64_t n, Body&& body) {
  std::int64_t c = 0;
  for (; c + width <= n; c += width) body(c, full{});
  if (c < n) body(c, part{n - c});
}

#if ISTHMUS_WIDTH == 16
ISTHMUS_INLINE float sum(vf x) { return _mm512_reduce_add_ps(reinterpret_cast<__m512>(x)); }
ISTHMUS_INLINE float largest(vf x) { return _mm512_reduce_max_ps(reinterpret_cast<__m512>(x)); }
#else
ISTHMUS_INLINE float sum(vf x) {
  float s = 0;
  for (std::int64_t i = 0; i < width; ++i) s += x[i];
  return s;
}
ISTHMUS_INLINE float largest(vf x) {
  float m = x[0];
  for (std::int64_t i = 1; i < width; ++i) m = x[i] > m ? x[i] : m;
  return m;
}
#endif
ISTHMUS_INLINE vf max(vf a, vf b) { return a > b ? a : b; }
ISTHMUS_INLINE vf min(vf a, vf b) { return a < b ? a : b; }

/// e^x to 2 ulp for x in [-87, 88]; outside it saturates. Cody & Waite's reduction, degree 6.
ISTHMUS_INLINE vf exp(vf x) {
  x = max(min(x, splat(88.3F)), splat(-87.3F));
  const vf magic = splat(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const vf shifted = x * 1.44269504F + magic;
  const vf n = shifted - magic;
  vf r = x - n * 0.693359375F;
  r = r + n * 2.12194440e-4F;
  vf y = splat(1.9875691500e-4F);
  y = y * r + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * (r * r) + r + 1.0F;
  return reinterpret_cast<vf>(reinterpret_cast<vi>(y) + (reinterpret_cast<vi>(shifted) << 23));
}
constexpr float log2_of_e = 1.44269504F;
/// 2^x to 2 ulp for x <= 126, zero or nearly so far below: 2^floor(x) times a minimax polynomial in the fraction, exact at both of its ends.
ISTHMUS_INLINE vf power_of_two(vf x) {
#if ISTHMUS_WIDTH == 16
  const vf r = reinterpret_cast<vf>(_mm512_reduce_ps(reinterpret_cast<__m512>(x), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
#else
  x = max(x, splat(-126.0F));
  const vf magic = splat(12582912.0F);  // 1.5 * 2^23, as in exp
  const vf shifted = x - 0.5F + magic;
  const vf r = x - (shifted - magic);
#endif
  vf y = splat(1.87931862e-3F);
  y = y * r + 8.99099465e-3F;
  y = y * r + 5.58186769e-2F;
  y = y * r + 2.40159273e-1F;
  y = y * r + 6.93151712e-1F;
  y = y * r + 1.0F;
#if ISTHMUS_WIDTH == 16
  return reinterpret_cast<vf>(_mm512_scalef_ps(reinterpret_cast<__m512>(y), reinterpret_cast<__m512>(x)));
#else
  return reinterpret_cast<vf>(reinterpret_cast<vi>(y) + (reinterpret_cast<vi>(shifted) << 23));
#endif
}
/// 1 / x to 2 ulp for 1 <= x <= 2^100.
ISTHMUS_INLINE vf reciprocal(vf x) {
#if ISTHMUS_WIDTH == 16
  const vf near = reinterpret_cast<vf>(_mm512_rcp14_ps(reinterpret_cast<__m512>(x)));
  return near * (2.0F - x * near);
#else
  return 1.0F / x;
#endif
}
/// log(1 + x) for x in [0, 1]: x times a minimax polynomial.
ISTHMUS_INLINE vf log_of_one_and(vf x) {
  vf y = splat(5.232694111e-3F);
  y = y * x - 2.950523728e-2F;
  y = y * x + 7.822594782e-2F;
  y = y * x - 1.366324530e-1F;
  y = y * x + 1.910600644e-1F;
  y = y * x - 2.484298211e-1F;
  y = y * x + 3.331909679e-1F;
  y = y * x - 4.999949314e-1F;
  y = y * x + 9.999999699e-1F;
  return y * x;
}
ISTHMUS_INLINE vf sigmoid(vf x) { return 1.0F / (1.0F + exp(-x)); }
/// silu'(x), s = sigmoid(x).
ISTHMUS_INLINE vf silu_slope(vf x, vf s) { return s * (1.0F + x * (1.0F - s)); }
ISTHMUS_INLINE vf square_root(vf x) {
  vf y{};
  for (std::int64_t i = 0; i < width; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
}
