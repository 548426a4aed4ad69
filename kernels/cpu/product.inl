// Products of small blocks with fp32 sums, the heart of everything below. The left operand is read where it lies; the right one is packed
// in panels of 32 columns, [columns / 32][depth][32], or lies in rows that can be read as such. An element E of both is a float or, where
// the CPU multiplies such, a pair of neighbours in bf16 (pairs.inl); a depth counts elements.

constexpr int strip_rows = ISTHMUS_STRIP;  // rows of the result kept in registers
constexpr int strip_vectors = ISTHMUS_STRIP_VECTORS;
constexpr std::int64_t strip_columns = strip_vectors * width;  // divides panel

/// What a product does with the result that is there.
enum class into { overwrite, add };

/// Left operand [m, k]: element (i, l) at a[i * row + l * step]; one of row, step is 1.
template <class E>
struct left_of {
  const E* a;
  std::int64_t row, step;
};
/// Right operand [k, n]: element (l, j) at b[j / 32 * panel_stride + l * row + j % 32].
template <class E>
struct right_of {
  const E* b;
  std::int64_t row, panel_stride;
};
using fp32_left = left_of<float>;
using fp32_right = right_of<float>;
/// Result [m, n]: element (i, j) at c[i * row + j / 32 * panel_stride + j % 32]; panels are written whole unless n ends inside one.
struct result {
  float* c;
  std::int64_t row, panel_stride;
};

/// sum + x y by elements of the type that the pointer tells.
ISTHMUS_INLINE vf multiply_add(vf sum, vf x, vf y, const float*) { return sum + x * y; }

template <int Rows, bool Steps, class E>
ISTHMUS_INLINE void strip(std::int64_t k, const E* a, std::int64_t lda, const E* b, std::int64_t ldb, float* c, std::int64_t ldc,
                          std::int64_t columns, bool adds) {
  vf sum[Rows][strip_vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < strip_vectors; ++j) sum[i][j] = vf{};
  const E* rows[Rows];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    rows[i] = a + i * lda;
    for (int j = 0; j < strip_vectors; ++j) __builtin_prefetch(c + i * ldc + j * width, 1);  // written at the end, often from far
  }
  for (std::int64_t l = 0; l < k; ++l, b += ldb) {
    vf right_row[strip_vectors];
#pragma GCC unroll 4
    for (int j = 0; j < strip_vectors; ++j) right_row[j] = load(b + j * width);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      vf left_value = splat(Steps ? a[l * lda + i] : rows[i][l]);
      asm("" : "+v"(left_value));  // one load for all products with it
#pragma GCC unroll 4
      for (int j = 0; j < strip_vectors; ++j) sum[i][j] = multiply_add(sum[i][j], left_value, right_row[j], b);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < strip_vectors; ++j) {
      float* at = c + i * ldc + j * width;
      const std::int64_t left_over = columns - j * width;
      if (left_over >= width)
        store(at, adds ? load(at) + sum[i][j] : sum[i][j]);
      else if (left_over > 0)
        store_part(at, adds ? load_part(at, left_over) + sum[i][j] : sum[i][j], left_over);
    }
  }
}

template <class E>
using strip_function = void (*)(std::int64_t, const E*, std::int64_t, const E*, std::int64_t, float*, std::int64_t, std::int64_t, bool);
template <int Rows, bool Steps, class E>
__attribute__((noinline)) void strip_of(std::int64_t k, const E* a, std::int64_t lda, const E* b, std::int64_t ldb, float* c,
                                        std::int64_t ldc, std::int64_t columns, bool adds) {
  strip<Rows, Steps>(k, a, lda, b, ldb, c, ldc, columns, adds);
}
template <class E, bool Steps, int... Rows>
constexpr std::array<strip_function<E>, sizeof...(Rows)> strips_of(std::integer_sequence<int, Rows...>) {
  return {strip_of<Rows + 1, Steps, E>...};
}
template <class E>
constexpr auto row_strips = strips_of<E, false>(std::make_integer_sequence<int, strip_rows>());
template <class E>
constexpr auto step_strips = strips_of<E, true>(std::make_integer_sequence<int, strip_rows>());

/// c (+)= a b. Rows are shared out evenly over strips, so that none is much shorter than the registers allow.
template <class E>
void product_by(std::int64_t m, std::int64_t n, std::int64_t k, const left_of<E>& a, const right_of<E>& b, const result& c, into mode) {
  const std::int64_t n_strips = (m + strip_rows - 1) / strip_rows;
  const auto& strips = a.step == 1 ? row_strips<E> : step_strips<E>;
  const std::int64_t lda = a.step == 1 ? a.row : a.step;
  for (std::int64_t j = 0; j < n; j += strip_columns) {
    const E* bj = b.b + j / panel * b.panel_stride + j % panel;
    float* cj = c.c + j / panel * c.panel_stride + j % panel;
    for (std::int64_t s = 0, i = 0; s < n_strips; ++s) {
      const std::int64_t next = m * (s + 1) / n_strips;
      strips[static_cast<std::size_t>(next - i - 1)](k, a.a + i * a.row, lda, bj, b.row, cj + i * c.row, c.row, n - j, mode == into::add);
      i = next;
    }
  }
}
inline void product(std::int64_t m, std::int64_t n, std::int64_t k, const fp32_left& a, const fp32_right& b, const result& c, into mode) {
  product_by(m, n, k, a, b, c, mode);
}
