// Transforms of many channels at once, one in each lane: point i is a vector of real parts, then one of imaginary parts. No
// transposition, and all that differs between channels is data. See long_conv_plan.hpp for the algebra.

struct complex_vector {
  vf re, im;
};
ISTHMUS_INLINE complex_vector operator+(complex_vector a, complex_vector b) { return {a.re + b.re, a.im + b.im}; }
ISTHMUS_INLINE complex_vector operator-(complex_vector a, complex_vector b) { return {a.re - b.re, a.im - b.im}; }
ISTHMUS_INLINE complex_vector operator*(complex_vector a, complex_vector b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
ISTHMUS_INLINE complex_vector conjugate(complex_vector a) { return {a.re, -a.im}; }
ISTHMUS_INLINE complex_vector load_point(const float* data, std::int64_t i) {
  return {load(data + 2 * width * i), load(data + 2 * width * i + width)};
}
ISTHMUS_INLINE void store_point(float* data, std::int64_t i, complex_vector x) {
  store(data + 2 * width * i, x.re);
  store(data + 2 * width * i + width, x.im);
}

/// x e^(2 pi i / 4), or by the negative angle.
template <bool Inverse>
ISTHMUS_INLINE complex_vector quarter_turn(complex_vector x) {
  return Inverse ? complex_vector{x.im, -x.re} : complex_vector{-x.im, x.re};
}

/// a <- sum_j a_j e^(2 pi i j k / R), or by the negative angle.
template <bool Inverse>
ISTHMUS_INLINE void butterfly(complex_vector (&a)[2]) {
  const complex_vector sum = a[0] + a[1];
  a[1] = a[0] - a[1];
  a[0] = sum;
}
template <bool Inverse>
ISTHMUS_INLINE void butterfly(complex_vector (&a)[3]) {
  const complex_vector sum = a[1] + a[2], difference = quarter_turn<Inverse>(a[1] - a[2]);
  const complex_vector middle{a[0].re - 0.5F * sum.re, a[0].im - 0.5F * sum.im};
  const complex_vector side{difference.re * 0.866025404F, difference.im * 0.866025404F};
  a[0] = a[0] + sum;
  a[1] = middle + side;
  a[2] = middle - side;
}
template <bool Inverse>
ISTHMUS_INLINE void butterfly(complex_vector (&a)[4]) {
  const complex_vector s0 = a[0] + a[2], d0 = a[0] - a[2], s1 = a[1] + a[3], d1 = quarter_turn<Inverse>(a[1] - a[3]);
  a[0] = s0 + s1;
  a[1] = d0 + d1;
  a[2] = s0 - s1;
  a[3] = d0 - d1;
}
template <bool Inverse>
ISTHMUS_INLINE void butterfly(complex_vector (&a)[8]) {
  complex_vector even[4] = {a[0], a[2], a[4], a[6]}, odd[4] = {a[1], a[3], a[5], a[7]};
  butterfly<Inverse>(even);
  butterfly<Inverse>(odd);
  const complex_vector third = quarter_turn<Inverse>(odd[2]), eighth = odd[1] + quarter_turn<Inverse>(odd[1]);
  const complex_vector turned = quarter_turn<Inverse>(odd[3]) - odd[3];
  constexpr float r = 0.707106781F;
  a[0] = even[0] + odd[0];
  a[4] = even[0] - odd[0];
  a[1] = {even[1].re + r * eighth.re, even[1].im + r * eighth.im};
  a[5] = {even[1].re - r * eighth.re, even[1].im - r * eighth.im};
  a[2] = even[2] + third;
  a[6] = even[2] - third;
  a[3] = {even[3].re + r * turned.re, even[3].im + r * turned.im};
  a[7] = {even[3].re - r * turned.re, even[3].im - r * turned.im};
}

/// a_j <- a_j f_j, j = 1 ..., or by their conjugates.
template <bool Inverse, int R>
ISTHMUS_INLINE void turn(complex_vector (&a)[R], const float* factors) {
#pragma GCC unroll 8
  for (int j = 1; j < R; ++j) {
    const vf re = splat(factors[2 * j - 2]), im = splat(factors[2 * j - 1]);
    a[j] = a[j] * (Inverse ? complex_vector{re, -im} : complex_vector{re, im});
  }
}

/// One block of R * step points: forwards or back.
template <bool Inverse, int R>
__attribute__((noinline)) void level_of(float* data, std::int64_t step, const float* factors) {
  for (std::int64_t i = 0; i < step; ++i) {
    complex_vector a[R];
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) a[j] = load_point(data, i + j * step);
    if (!Inverse) turn<false>(a, factors);
    butterfly<Inverse>(a);
    if (Inverse) turn<true>(a, factors);
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) store_point(data, i + j * step, a[j]);
  }
}

/// f.operator()<R>() for a radix known at run time.
template <class F>
ISTHMUS_INLINE void for_radix(int radix, F&& f) {
  switch (radix) {
    case 2: return f.template operator()<2>();
    case 3: return f.template operator()<3>();
    case 4: return f.template operator()<4>();
    default: return f.template operator()<8>();
  }
}
ISTHMUS_INLINE const float* factors_of(const fourier_plan::level& l, std::int64_t node) {
  return l.factors.data() + node * 2 * (l.radix - 1);
}

/// From the second level to the last but one and, unless a job only goes forwards, back again, block by block, so that what was
/// computed last is still in a cache: job.down() and job.up() are the arrays that go there; job.last<R>(factors, first point, blocks)
/// does the last level, and what belongs between the two directions.
template <class Job>
void descend(const fourier_plan& p, std::size_t at, std::int64_t node, std::int64_t first, std::int64_t n, const Job& job) {
  const auto& l = p.levels[at];
  if (at + 1 == p.levels.size()) return for_radix(l.radix, [&]<int R>() { job.template last<R>(factors_of(l, node), first, 1); });
  const std::int64_t step = n / l.radix;
  const float* factors = factors_of(l, node);
  for (float* data : job.down()) for_radix(l.radix, [&]<int R>() { level_of<false, R>(data + 2 * width * first, step, factors); });
  if (at + 2 == p.levels.size()) {
    const auto& below = p.levels[at + 1];
    for_radix(below.radix, [&]<int R>() { job.template last<R>(factors_of(below, node * l.radix), first, l.radix); });
  } else {
    for (int k = 0; k < l.radix; ++k) descend(p, at + 1, node * l.radix + k, first + k * step, step, job);
  }
  for (float* data : job.up()) for_radix(l.radix, [&]<int R>() { level_of<true, R>(data + 2 * width * first, step, factors); });
}

/// All levels but the first, which reads or writes rows.
template <class Job>
void below_first(const fourier_plan& p, const Job& job) {
  const int radix = p.levels[0].radix;
  const std::int64_t step = p.points / radix;
  for (int k = 0; k < radix; ++k) descend(p, 1, k, k * step, step, job);
}

constexpr std::int64_t points_ahead = 8;  // what is fetched early: rows lie too far apart for the CPU to foresee them

/// The first level of a real sequence: in(t) is row t < rows as a vector, after fetch(t); there are zeros behind.
template <class In, class Fetch>
__attribute__((noinline)) void first_level(const fourier_plan& p, std::int64_t rows, float* data, In in, Fetch fetch) {
  const std::int64_t step = p.points / p.levels[0].radix;
  const float* factors = p.levels[0].factors.data();
  for_radix(p.levels[0].radix, [&]<int R>() {
    for (std::int64_t i = 0; i < step; ++i) {
      complex_vector a[R];
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) {
        const std::int64_t t = i + j * step;
        if (t + points_ahead < rows) fetch(t + points_ahead);
        const vf x = t < rows ? in(t) : vf{};
        a[j] = j == 0 ? complex_vector{x, vf{}} : complex_vector{x * factors[2 * j - 2], x * factors[2 * j - 1]};
      }
      butterfly<false>(a);
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) store_point(data, i + j * step, a[j]);
    }
  });
}

/// Back to rows: out(t, x) for t < rows, after fetch(t).
template <class Out, class Fetch>
__attribute__((noinline)) void last_level(const fourier_plan& p, std::int64_t rows, const float* data, Out out, Fetch fetch) {
  const std::int64_t step = p.points / p.levels[0].radix;
  const float* factors = p.levels[0].factors.data();
  for_radix(p.levels[0].radix, [&]<int R>() {
    for (std::int64_t i = 0; i < step; ++i) {
      complex_vector a[R];
#pragma GCC unroll 8
      for (int j = 0; j < R; ++j) {
        a[j] = load_point(data, i + j * step);
        if (i + j * step + points_ahead < rows) fetch(i + j * step + points_ahead);
      }
      butterfly<true>(a);
      if (i < rows) out(i, a[0].re);
#pragma GCC unroll 8
      for (int j = 1; j < R; ++j)
        if (const std::int64_t t = i + j * step; t < rows) out(t, a[j].re * factors[2 * j - 2] + a[j].im * factors[2 * j - 1]);
    }
  });
}
