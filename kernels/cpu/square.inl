// A square of 16 x 16 numbers, turned in registers.

#if ISTHMUS_WIDTH == 16
ISTHMUS_INLINE __m512 low_pairs(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
ISTHMUS_INLINE __m512 high_pairs(__m512 a, __m512 b) {
  return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

/// dst[c * dst_row + r] = src[r * stride + c], r, c < 16.
template <class T>
ISTHMUS_INLINE void transpose_square(const T* src, std::int64_t stride, float* dst, std::int64_t dst_row) {
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = reinterpret_cast<__m512>(load(src + i * stride));
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = low_pairs(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = high_pairs(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = low_pairs(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = high_pairs(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
    const __m512 c = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd), d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    store(dst + j * dst_row, reinterpret_cast<vf>(_mm512_shuffle_f32x4(a, b, 0x88)));
    store(dst + (4 + j) * dst_row, reinterpret_cast<vf>(_mm512_shuffle_f32x4(c, d, 0x88)));
    store(dst + (8 + j) * dst_row, reinterpret_cast<vf>(_mm512_shuffle_f32x4(a, b, 0xdd)));
    store(dst + (12 + j) * dst_row, reinterpret_cast<vf>(_mm512_shuffle_f32x4(c, d, 0xdd)));
  }
}
#endif
