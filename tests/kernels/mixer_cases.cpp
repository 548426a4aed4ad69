#include "tests/kernels/make_case.hpp"

#include <cmath>
#include <cstdint>

namespace isthmus::kernels::testing {

namespace {

struct attention_shape {
  std::int64_t batch, length, heads, kv_heads, head_dim;
  std::string name() const {
    return "attention " + std::to_string(batch) + "x" + std::to_string(length) + " heads " + std::to_string(heads) + "/" +
           std::to_string(kv_heads) + " of " + std::to_string(head_dim);
  }
};

/// What a case's queries see; documents: at which places of every row one begins, besides its first.
struct sight_shape {
  bool causal = true;
  std::int64_t window = 0;
  std::vector<std::int64_t> documents = {};
  std::string name() const {
    return (causal ? "" : " both ways") + (window > 0 ? " window " + std::to_string(window) : "") +
           (documents.empty() ? "" : " documents " + std::to_string(documents.size() + 1));
  }
  /// [batch * length]; rows after the first have their documents one place further on, so that rows differ.
  std::vector<std::int32_t> first_keys(std::int64_t batch, std::int64_t length) const {
    std::vector<std::int32_t> first;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; i < length; ++i) {
        std::int64_t at = 0;
        for (const std::int64_t d : documents)
          if (d + b <= i) at = d + b;
        first.push_back(static_cast<std::int32_t>(at));
      }
    return first;
  }
};

kernel_case attention_case(attention_shape a, const sight_shape& seen = {}) {
  return make(a.name() + seen.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, dim = a.head_dim, width = (a.heads + 2 * a.kv_heads) * dim;
    const std::int64_t k = a.heads * dim, v = k + a.kv_heads * dim;
    const auto qkv = random.act<Act>(rows * width), d_o = random.act<Act>(rows * k);
    auto o = random.blank<Act>(rows * k), d_qkv = random.blank<Act>(rows * width);
    auto lse = random.blank<R>(a.batch * a.heads * a.length);
    const R scale = static_cast<R>(1 / std::sqrt(static_cast<float>(dim)));
    const auto first_keys = random.place(seen.first_keys(a.batch, a.length));
    const attention_sight sight{seen.causal, seen.window, seen.documents.empty() ? nullptr : first_keys.data()};
    ops.attention(s, {.q = qkv.data(),
                      .k = qkv.data() + k,
                      .v = qkv.data() + v,
                      .o = o.data(),
                      .lse = lse.data(),
                      .batch = a.batch,
                      .length = a.length,
                      .heads = a.heads,
                      .kv_heads = a.kv_heads,
                      .head_dim = dim,
                      .qkv_stride = width,
                      .scale = scale,
                      .sight = sight});
    ops.attention_backward(s, {.q = qkv.data(),
                               .k = qkv.data() + k,
                               .v = qkv.data() + v,
                               .o = o.data(),
                               .d_o = d_o.data(),
                               .lse = lse.data(),
                               .dq = d_qkv.data(),
                               .dk = d_qkv.data() + k,
                               .dv = d_qkv.data() + v,
                               .batch = a.batch,
                               .length = a.length,
                               .heads = a.heads,
                               .kv_heads = a.kv_heads,
                               .head_dim = dim,
                               .qkv_stride = width,
                               .d_qkv_stride = width,
                               .scale = scale,
                               .sight = sight});
    outputs out;
    out.add("o", o);
    out.add("lse", lse);
    out.add("d_qkv", d_qkv);
    return out;
  });
}

/// The GPU has heads over 128 wide in fp32 alone.
kernel_case without_bf16(kernel_case c) {
  c.b16 = nullptr;
  return c;
}

kernel_case attention_cached_case(attention_shape a, std::int64_t past, std::int64_t window = 0) {
  return make("cached after " + std::to_string(past) + ", " + a.name() + sight_shape{.window = window}.name(),
              [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
                const std::int64_t dim = a.head_dim, stride = (a.heads + 2 * a.kv_heads) * dim;
                const auto q = random.act<Act>(a.length * stride);
                const auto keys = random.act<Act>((past + a.length) * a.kv_heads * dim);
                const auto values = random.act<Act>((past + a.length) * a.kv_heads * dim);
                auto o = random.blank<Act>(a.length * a.heads * dim);
                ops.attention_cached(s, {.q = q.data(),
                                         .keys = keys.data(),
                                         .values = values.data(),
                                         .o = o.data(),
                                         .tokens = a.length,
                                         .past = past,
                                         .heads = a.heads,
                                         .kv_heads = a.kv_heads,
                                         .head_dim = dim,
                                         .q_stride = stride,
                                         .scale = real<Act>(0.25F),
                                         .window = window});
                outputs out;
                out.add("o", o);
                return out;
              });
}

kernel_case rope_case(attention_shape a, std::int64_t rotary, bool inverse) {
  return make("rope", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t stride = (a.heads + 3) * a.head_dim, half = rotary / 2;
    auto x = random.act<Act>(a.batch * a.length * stride);
    auto cosines = random.host.reals<Act>(a.length * half), sines = cosines;
    for (std::size_t i = 0; i < sines.size(); ++i) {
      cosines[i] = static_cast<float>(std::cos(static_cast<double>(sines[i])));
      sines[i] = static_cast<float>(std::sin(static_cast<double>(sines[i])));
    }
    const auto cosine = random.place(cosines), sine = random.place(sines);
    ops.rope(s, {.x = x.data(),
                 .cosine = cosine.data(),
                 .sine = sine.data(),
                 .batch = a.batch,
                 .length = a.length,
                 .heads = a.heads,
                 .head_dim = a.head_dim,
                 .rotary = rotary,
                 .x_stride = stride,
                 .inverse = inverse});
    outputs o;
    o.add("x", x);
    return o;
  });
}

}  // namespace

std::vector<kernel_case> mixer_cases() {
  // Attention has blocks of 64 or 128 rows, tiles 32, 64 or 128 columns wide; heads of 44 or 100 columns cannot be copied 16 bytes at a time.
  return {
      attention_case({1, 1, 1, 1, 16}), attention_case({2, 33, 4, 2, 16}), attention_case({1, 150, 2, 1, 64}),
      attention_case({2, 128, 3, 3, 64}), attention_case({1, 70, 4, 1, 6}), attention_case({2, 200, 4, 2, 128}),
      attention_case({1, 257, 2, 1, 32}), attention_case({1, 1, 2, 2, 64}), attention_case({1, 521, 4, 1, 64}),
      attention_case({2, 65, 6, 2, 48}), attention_case({1, 70, 2, 1, 44}), attention_case({1, 90, 2, 1, 100}),
      attention_case({1, 300, 2, 1, 96}), attention_case({1, 449, 2, 2, 128}), without_bf16(attention_case({1, 100, 2, 1, 160})),
      // Windows narrower than a block, as wide as one, over several, over the whole row; documents of one token, ending within and between
      // blocks; heads of every kernel.
      attention_case({2, 33, 4, 2, 16}, {.window = 1}), attention_case({1, 300, 2, 1, 64}, {.window = 9}),
      attention_case({2, 449, 4, 2, 64}, {.window = 64}), attention_case({1, 521, 2, 1, 128}, {.window = 150}),
      attention_case({1, 257, 2, 1, 44}, {.window = 65}), attention_case({1, 100, 2, 1, 32}, {.window = 1000}),
      attention_case({2, 150, 2, 1, 64}, {.documents = {1, 2, 40, 64, 130}}),
      attention_case({2, 521, 4, 1, 32}, {.documents = {200, 256, 500}}),
      attention_case({1, 449, 2, 2, 128}, {.window = 70, .documents = {100, 129, 300}}),
      attention_case({2, 65, 6, 2, 48}, {.window = 3, .documents = {31, 32}}), attention_case({2, 33, 4, 2, 16}, {.causal = false}),
      attention_case({1, 521, 4, 1, 64}, {.causal = false}), attention_case({1, 300, 2, 1, 96}, {.causal = false}),
      attention_case({1, 128, 2, 1, 128}, {.causal = false}),
      without_bf16(attention_case({2, 170, 2, 1, 160}, {.window = 40, .documents = {80, 90}})),
      without_bf16(attention_case({1, 100, 2, 1, 160}, {.causal = false})), attention_cached_case({1, 1, 4, 2, 16}, 0),
      attention_cached_case({1, 1, 4, 2, 64}, 131, 40), attention_cached_case({1, 5, 2, 2, 32}, 60, 3),
      attention_cached_case({1, 5, 2, 2, 32}, 2, 64), attention_cached_case({1, 1, 4, 2, 64}, 131),
      attention_cached_case({1, 5, 2, 2, 32}, 60), attention_cached_case({1, 1, 12, 2, 128}, 150),
      attention_cached_case({1, 2, 40, 1, 64}, 70, 33), attention_cached_case({1, 3, 6, 3, 128}, 0),
      attention_cached_case({1, 0, 4, 2, 64}, 5), rope_case({2, 9, 3, 1, 16}, 16, false), rope_case({2, 9, 3, 1, 32}, 8, true),
      rope_case({1, 7, 2, 1, 12}, 6, false), rope_case({1, 5, 2, 1, 6}, 6, true)};
}

}  // namespace isthmus::kernels::testing
