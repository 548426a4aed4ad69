// Products with quantised weights. With AVX-512 VNNI they are kernels/cpu/int_product.hpp's; here for any other CPU: steps become fp32
// numbers, in registers beside few rows, else a panel at a time in the cache.

/// Steps as they lie in a vector: input `byte` of `width` outputs.
template <weight_format Format>
ISTHMUS_INLINE vf steps_of(vu words, int k) {
  constexpr int bits = Format == weight_format::int8 ? 8 : 4, offset = 1 << (bits - 1);
  const int at = Format == weight_format::int8 ? 8 * k : 8 * (k % 4) + 4 * (k / 4);
  return __builtin_convertvector(reinterpret_cast<vi>((words >> at) & ((1U << bits) - 1)) - offset, vf);
}
/// Inputs that a vector of 64 bytes holds of each output.
template <weight_format Format>
constexpr std::int64_t vector_inputs = Format == weight_format::int8 ? 4 : 8;

/// Calls body(input, output, steps, scales) for outputs 0, width, ... of a block and all its inputs in ascending order; steps and scales
/// are of `width` outputs.
template <weight_format Format, class Body>
ISTHMUS_INLINE void over_group(const std::byte* unit, std::int64_t half, std::int64_t lane, Body&& body) {
  const std::byte* at = unit + scale_bytes + half * (unit_bytes(Format) - scale_bytes) / 2 + 4 * lane;
  for (std::int64_t i = 0; i < 32; i += vector_inputs<Format>, at += 64) {
    const vu words = *reinterpret_cast<const vu*>(at);
#pragma GCC unroll 8
    for (int k = 0; k < vector_inputs<Format>; ++k) body(i + k, steps_of<Format>(words, k));
  }
}
ISTHMUS_INLINE vf scales_of(const std::byte* unit, std::int64_t half, std::int64_t lane) {
  return load(reinterpret_cast<const bf16*>(unit) + half * block_outputs + lane);
}

/// A block of 16 outputs times few rows of fp32, [rows][units * 64] with zeros behind the last input.
template <weight_format Format, int Rows, class Act>
void few_rows_of_block(const std::byte* block, std::int64_t units, const float* x, Act* y, std::int64_t y_stride, std::int64_t columns) {
  for (std::int64_t lane = 0; lane < block_outputs && lane < columns; lane += width) {
    vf total[Rows] = {};
    for (std::int64_t u = 0; u < 2 * units; ++u) {
      const std::byte* unit = block + u / 2 * unit_bytes(Format);
      vf sums[Rows] = {};
      over_group<Format>(unit, u % 2, lane, [&](std::int64_t i, vf steps) {
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) sums[r] += steps * x[(r * 2 * units + u) * 32 + i];
      });
      const vf scales = scales_of(unit, u % 2, lane);
      for (int r = 0; r < Rows; ++r) total[r] += sums[r] * scales;
    }
    for (int r = 0; r < Rows; ++r) {
      Act* to = y + r * y_stride + lane;
      if (columns - lane >= width) store(to, total[r]);
      else store_part(to, total[r], columns - lane);
    }
  }
}

/// Blocks [first, last) as panels of a right operand: [blocks / 2][in][32], zeros where blocks end inside a panel.
template <weight_format Format>
void unpack_blocks(const std::byte* weights, std::int64_t in, std::int64_t first, std::int64_t last, float* panels) {
  for (std::int64_t b = first; b < first + round_up(last - first, 2); ++b) {
    const std::byte* block = weights + b * block_bytes(in, Format);
    float* to = panels + (b - first) / 2 * in * panel + (b - first) % 2 * block_outputs;
    for (std::int64_t g = 0; g * 32 < in; ++g)
      for (std::int64_t lane = 0; lane < block_outputs; lane += width) {
        const std::int64_t left = in - g * 32;
        if (b >= last) {
          for (std::int64_t i = 0; i < 32 && i < left; ++i) store(to + (g * 32 + i) * panel + lane, vf{});
          continue;
        }
        const std::byte* unit = block + g / 2 * unit_bytes(Format);
        const vf scales = scales_of(unit, g % 2, lane);
        over_group<Format>(unit, g % 2, lane, [&](std::int64_t i, vf steps) {
          if (i < left) store(to + (g * 32 + i) * panel + lane, steps * scales);
        });
      }
  }
}

template <weight_format Format, class Act>
void multiply_few_rows_grouped(stream& s, const linear_args<Act>& a, const std::byte* weights) {
  const std::int64_t units = units_of(a.w->in), row = units * unit_inputs, bytes = block_bytes(a.w->in, Format);
  float* x = shared_floats(s, a.rows * row);
  for (std::int64_t r = 0; r < a.rows; ++r) copy_rows(a.x + r * a.x_stride, 0, 1, a.w->in, nullptr, x + r * row, row);
  using function = void (*)(const std::byte*, std::int64_t, const float*, Act*, std::int64_t, std::int64_t);
  static constexpr function by_rows[few_rows] = {few_rows_of_block<Format, 1, Act>, few_rows_of_block<Format, 2, Act>,
                                                 few_rows_of_block<Format, 3, Act>, few_rows_of_block<Format, 4, Act>};
  s.workers.run(blocks_of(a.w->out), [&](std::int64_t block, int) {
    by_rows[a.rows - 1](weights + block * bytes, units, x, a.y + block * block_outputs, a.y_stride, a.w->out - block * block_outputs);
  });
}

/// y = x W^T where `unpack(first panel, panels, to)` gives weights as panels of a right operand.
template <class Act, class Unpack>
void multiply_unpacking(stream& s, const linear_args<Act>& a, Unpack&& unpack) {
  const std::int64_t in = a.w->in, out = a.w->out;
  s.workers.run((out + panel - 1) / panel, [&](std::int64_t tile, int worker) {
    const std::int64_t first = tile * panel, columns = out - first < panel ? out - first : panel;
    float* memory = own_floats(s, worker, panel * in + product_scratch<Act>(tile_rows, columns, in));
    unpack(first, columns, memory);
    for (std::int64_t r = 0; r < a.rows; r += tile_rows)
      rows_times_panels(a.rows - r < tile_rows ? a.rows - r : tile_rows, columns, in, a.x + r * a.x_stride, a.x_stride, memory,
                        a.y + r * a.y_stride + first, a.y_stride, memory + panel * in);
  });
}

template <weight_format Format, class Act>
void multiply_grouped(stream& s, const linear_args<Act>& a, const std::byte* weights) {
  if (a.rows <= few_rows) return multiply_few_rows_grouped<Format>(s, a, weights);
  multiply_unpacking(s, a, [&](std::int64_t first, std::int64_t columns, float* to) {
    unpack_blocks<Format>(weights, a.w->in, first / block_outputs, blocks_of(first + columns), to);
  });
}

/// y = x W^T with int8 or int4 weights.
template <class Act>
void grouped_linear(stream& s, const linear_args<Act>& a) {
  auto& form = static_cast<packed_matrix<Act>*>(a.w)->grouped;
  const weight_format format = a.w->format;
  std::byte* weights = form.panels.at_least(static_cast<std::size_t>(blocks_of(a.w->out) * block_bytes(a.w->in, format)));
  if (!form.fresh) group_weights(s.workers, a.w->master, a.w->out, a.w->in, format, weights);
  form.fresh = true;
#if ISTHMUS_WIDTH == 16
  if (static_cast<cpu_stream&>(s).int_products)
    return int_multiply(s.workers, format, weights, a.rows, a.w->out, a.w->in, a.x, a.x_stride, a.y, a.y_stride);
#endif
  format == weight_format::int8 ? multiply_grouped<weight_format::int8>(s, a, weights) : multiply_grouped<weight_format::int4>(s, a, weights);
}

#if ISTHMUS_WIDTH == 16
/// y = x W^T with weights as pairs, by what is fastest for the number of rows.
template <class Act>
void pair_linear(stream& s, const linear_args<Act>& a) {
  const std::byte* weights = paired_weights(s, a.w);
  const auto& own = static_cast<cpu_stream&>(s);
  gemm_library* library = own.products.get();
  if (a.rows >= library_rows && library && library->knows_bf16() && library_pair_multiply(s, *library, a, weights)) return;
  pair_multiply(s.workers, own.way_of_pairs, weights, a.rows, a.w->out, a.w->in, a.x, a.x_stride, a.y, a.y_stride);
}
#endif

/// y = x W^T with weights in bf16, by AVX-512 BF16 where the CPU has it.
template <class Act>
void rounded_linear(stream& s, const linear_args<Act>& a) {
#if ISTHMUS_WIDTH == 16
  if (static_cast<cpu_stream&>(s).pair_products) return pair_linear(s, a);
#endif
  const bf16* weights = rounded_weights(s, a.w);
  if (a.rows <= few_rows) return multiply_few_rows(s, a.rows, a.w->out, a.w->in, weights, a.x, a.x_stride, a.y, a.y_stride);
  multiply_unpacking(s, a, [&](std::int64_t first, std::int64_t columns, float* to) {
    transposed_panels(weights + first * a.w->in, a.w->in, columns, a.w->in, to);
  });
}
