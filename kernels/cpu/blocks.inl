// Moves blocks of activations into the forms that product() reads.

/// dst[c * dst_row + r] = src[r * stride + c].
template <class T>
ISTHMUS_INLINE void transpose(const T* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, float* dst, std::int64_t dst_row) {
  std::int64_t done = 0;
#if ISTHMUS_WIDTH == 16
  for (; done + 16 <= rows; done += 16) {
    std::int64_t c = 0;
    for (; c + 16 <= cols; c += 16) transpose_square(src + done * stride + c, stride, dst + c * dst_row + done, dst_row);
    for (; c < cols; ++c)
      for (std::int64_t r = done; r < done + 16; ++r) dst[c * dst_row + r] = static_cast<float>(src[r * stride + c]);
  }
#endif
  for (std::int64_t r = done; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) dst[c * dst_row + r] = static_cast<float>(src[r * stride + c]);
}

/// The transpose of src [rows, depth] as a right operand: dst [rows / 32][depth][32], zeros behind the last row.
template <class T>
ISTHMUS_INLINE fp32_right transposed_panels(const T* src, std::int64_t stride, std::int64_t rows, std::int64_t depth, float* dst) {
  for (std::int64_t r = 0; r < rows; r += panel) {
    const std::int64_t here = rows - r < panel ? rows - r : panel;
    float* at = dst + r / panel * depth * panel;
    if (here < panel) __builtin_memset(at, 0, static_cast<std::size_t>(depth * panel) * sizeof(float));
    transpose(src + r * stride, stride, here, depth, at, panel);
  }
  return {dst, panel, depth * panel};
}

/// src [rows, cols] * scale[r] (or 1) in rows of `row` floats, zeros behind the last column.
template <class T>
ISTHMUS_INLINE void copy_rows(const T* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, const float* scale, float* dst,
                              std::int64_t row) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const vf by = splat(scale ? scale[r] : 1.0F);
    over(cols, [&](std::int64_t c, auto mask) { mask.put(dst + r * row + c, mask.get(src + r * stride + c) * by); });
    for (std::int64_t c = cols; c < row; ++c) dst[r * row + c] = 0;
  }
}

/// Rows of fp32 that may be read as left or right operand of products with `cols` columns.
struct rows_view {
  const float* a;
  std::int64_t row;
  fp32_left as_left() const { return {a, row, 1}; }
  fp32_left as_left_transposed() const { return {a, 1, row}; }
  fp32_right as_right() const { return {a, row, panel}; }
  rows_view from(std::int64_t r) const { return {a + r * row, row}; }
};

/// fp32 rows lie well where they are if full panels can be read; else, and for bf16, they are copied to `memory`
/// [rows, round_up(cols, 32)].
template <class Act>
ISTHMUS_INLINE rows_view view_rows(const Act* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, float* memory) {
  if constexpr (std::is_same_v<Act, float>)
    if (cols % panel == 0) return {src, stride};
  const std::int64_t row = round_up(cols, panel);
  copy_rows(src, stride, rows, cols, nullptr, memory, row);
  return {memory, row};
}

/// dst = src, rounded to Act.
template <class Act>
ISTHMUS_INLINE void store_rows(const float* src, std::int64_t row, std::int64_t rows, std::int64_t cols, Act* dst, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r)
    over(cols, [&](std::int64_t c, auto mask) { mask.put(dst + r * stride + c, mask.get(src + r * row + c)); });
}

/// How many elements of a product's depth hold n numbers.
template <class E>
constexpr std::int64_t depth_of(std::int64_t n) {
  return std::is_same_v<E, float> ? n : (n + 1) / 2;
}

// What attention makes of rows, by the elements of its products: a left operand, a right one, the transpose as a right one.
template <class Act>
ISTHMUS_INLINE fp32_left left_rows(const Act* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, float* memory) {
  return view_rows(src, stride, rows, cols, memory).as_left();
}
template <class Act>
ISTHMUS_INLINE fp32_right right_rows(const Act* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, float* memory) {
  return view_rows(src, stride, rows, cols, memory).as_right();
}
template <class Act>
ISTHMUS_INLINE fp32_right turned_rows(const Act* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, float* memory) {
  return transposed_panels(src, stride, rows, cols, memory);
}
/// Rows as the left operand of one product and the right one of another.
template <class E>
struct both_sides {
  left_of<E> as_left;
  right_of<E> as_right;
};
template <class Act>
ISTHMUS_INLINE both_sides<float> both_rows(const Act* src, std::int64_t stride, std::int64_t rows, std::int64_t cols, float* memory) {
  const rows_view view = view_rows(src, stride, rows, cols, memory);
  return {view.as_left(), view.as_right()};
}

/// Cuts one piece of memory into arrays of floats or others as large, each on a cache line of its own. First count with null, then take.
class carver {
public:
  explicit carver(std::byte* memory) : at_(memory) {}
  template <class T = float>
  T* take(std::int64_t count) {
    static_assert(sizeof(T) == sizeof(float));
    auto* here = reinterpret_cast<T*>(at_);
    at_ += round_up(count, 16) * 4;
    return here;
  }

private:
  std::byte* at_;
};
