#include "tests/kernels/make_case.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iterator>

namespace isthmus::kernels::testing {

namespace {

struct attention_shape {
  std::int64_t batch, length, heads, kv_heads, head_dim;
  std::string name() const {
    return "attention " + std::to_string(batch) + "x" + std::to_string(length) + " heads " + std::to_string(heads) + "/" +
           std::to_string(kv_heads) + " of " + std::to_string(head_dim);
  }
};

/// What a case's queries see; documents: at which places of every row one begins, besides its first; first_query: the first that asks.
struct sight_shape {
  bool causal = true;
  std::int64_t window = 0;
  std::vector<std::int64_t> documents = {};
  std::int64_t first_query = 0;
  std::string name() const {
    return (causal ? "" : " both ways") + (window > 0 ? " window " + std::to_string(window) : "") +
           (documents.empty() ? "" : " documents " + std::to_string(documents.size() + 1)) +
           (first_query > 0 ? " asked from " + std::to_string(first_query) : "");
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

/// Zeros for all before place `first` of each `length` places, every place `width` numbers.
template <class T>
std::vector<T> from_place(std::vector<T> values, std::int64_t first, std::int64_t length, std::int64_t width) {
  for (std::int64_t i = 0; i < std::ssize(values); ++i)
    if (i / width % length < first) values[static_cast<std::size_t>(i)] = T(0);
  return values;
}

kernel_case attention_case(attention_shape a, const sight_shape& seen = {}) {
  return make(a.name() + seen.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const std::int64_t rows = a.batch * a.length, dim = a.head_dim, width = (a.heads + 2 * a.kv_heads) * dim;
    const std::int64_t k = a.heads * dim, v = k + a.kv_heads * dim;
    const auto qkv = random.act<Act>(rows * width);
    const auto d_o = random.place(from_place(random.host.act<Act>(rows * k), seen.first_query, a.length, k));
    auto o = random.blank<Act>(rows * k), d_qkv = random.blank<Act>(rows * width);
    auto lse = random.blank<R>(a.batch * a.heads * a.length);
    const R scale = static_cast<R>(1 / std::sqrt(static_cast<float>(dim)));
    const auto first_keys = random.place(seen.first_keys(a.batch, a.length));
    const attention_sight sight{seen.causal, seen.window, seen.documents.empty() ? nullptr : first_keys.data(), seen.first_query};
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
    out.add("o", random.place(from_place(o.values(), seen.first_query, a.length, k)));
    out.add("lse", random.place(from_place(lse.values(), seen.first_query, a.length, 1)));
    out.add("d_qkv", d_qkv);
    return out;
  });
}

/// The GPU has heads over 128 wide in fp32 alone.
kernel_case without_bf16(kernel_case c) {
  c.b16 = nullptr;
  return c;
}

/// Sequences of some tokens behind some that their caches hold; their rows lie in another order than they are told, with one between that
/// none of them has.
struct cached_shape {
  std::int64_t heads, kv_heads, head_dim;
  std::vector<std::array<std::int64_t, 2>> sequences;  // {tokens, past}
  std::int64_t window = 0;
  bool short_cache = false;  // keys and values in bf16
  std::string name() const {
    std::string name = std::string(short_cache ? "bf16 " : "") + "cached attention heads " + std::to_string(heads) + "/" +
                       std::to_string(kv_heads) + " of " + std::to_string(head_dim);
    for (const auto& [tokens, past] : sequences) name += ", " + std::to_string(tokens) + " after " + std::to_string(past);
    return name + sight_shape{.window = window}.name();
  }
};

template <class Cache, class Act, class Op>
outputs attend_to_caches(const cached_shape& a, Op op, stream& s, placed_inputs& random) {
  const std::int64_t stride = (a.heads + 2 * a.kv_heads) * a.head_dim, kv_width = a.kv_heads * a.head_dim;
  std::int64_t rows = 1, most = 0;
  for (const auto& [tokens, past] : a.sequences) {
    rows += tokens;
    most = std::max(most, past + tokens);
  }
  const auto q = random.act<Act>(rows * stride);
  const auto cache = random.act<Cache>((most + std::ssize(a.sequences)) * 2 * kv_width);
  auto o = random.act<Act>(rows * a.heads * a.head_dim);  // of the row of nobody it stays what it is
  std::vector<cached_sequence<Cache>> sequences;
  std::int64_t end = rows;
  for (const auto& [tokens, past] : a.sequences) {
    const Cache* keys = cache.data() + std::ssize(sequences) * kv_width;  // each other than the rest
    end -= tokens;
    sequences.push_back({sequences.empty() ? end : end - 1, tokens, past, keys, keys + most * kv_width});
  }
  op(s, {.q = q.data(),
         .o = o.data(),
         .sequences = sequences.data(),
         .count = std::ssize(sequences),
         .heads = a.heads,
         .kv_heads = a.kv_heads,
         .head_dim = a.head_dim,
         .q_stride = stride,
         .scale = real<Act>(0.25F),
         .window = a.window});
  outputs out;
  out.add("o", o);
  return out;
}

kernel_case attention_cached_case(const cached_shape& a) {
  return make(a.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    return a.short_cache ? attend_to_caches<bf16, Act>(a, ops.attention_cached_bf16, s, random)
                         : attend_to_caches<Act, Act>(a, ops.attention_cached, s, random);
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
      attention_case({2, 700, 4, 2, 32}, {.first_query = 421}), attention_case({1, 521, 2, 1, 64}, {.window = 90, .first_query = 512}),
      attention_case({1, 300, 2, 2, 48}, {.causal = false, .first_query = 70}),
      attention_case({2, 65, 6, 2, 48}, {.window = 3, .documents = {31, 32}}), attention_case({2, 33, 4, 2, 16}, {.causal = false}),
      attention_case({1, 521, 4, 1, 64}, {.causal = false}), attention_case({1, 300, 2, 1, 96}, {.causal = false}),
      attention_case({1, 128, 2, 1, 128}, {.causal = false}),
      without_bf16(attention_case({2, 170, 2, 1, 160}, {.window = 40, .documents = {80, 90}})),
      without_bf16(attention_case({1, 100, 2, 1, 160}, {.causal = false})), attention_cached_case({4, 2, 16, {{1, 0}}}),
      attention_cached_case({4, 2, 64, {{1, 131}}, 40}), attention_cached_case({2, 2, 32, {{5, 60}}, 3}),
      attention_cached_case({2, 2, 32, {{5, 2}}, 64}), attention_cached_case({4, 2, 64, {{1, 131}}}),
      attention_cached_case({2, 2, 32, {{5, 60}}}), attention_cached_case({12, 2, 128, {{1, 150}}}),
      attention_cached_case({40, 1, 64, {{2, 70}}, 33}), attention_cached_case({6, 3, 128, {{3, 0}}}),
      attention_cached_case({4, 2, 64, {{0, 5}}}), attention_cached_case({4, 2, 64, {}}),
      // Many sequences: lengths around a vector's width, windows, no tokens, heads that no vector divides, fewer and more than a team.
      attention_cached_case({12, 12, 64, {{1, 15}, {1, 16}, {1, 14}, {1, 200}, {1, 0}}}),
      attention_cached_case({6, 2, 64, {{1, 40}, {3, 9}, {0, 7}, {1, 63}}, 17}),
      attention_cached_case({3, 1, 44, {{1, 31}, {2, 5}, {1, 90}}}), attention_cached_case({8, 4, 128, {{4, 30}, {1, 100}}}),
      attention_cached_case({6, 2, 64, {{1, 40}, {3, 9}, {0, 7}, {1, 63}}, 17, true}),
      attention_cached_case({12, 12, 64, {{1, 15}, {1, 16}, {1, 200}, {1, 0}}, 0, true}),
      attention_cached_case({3, 1, 44, {{1, 31}, {2, 5}}, 0, true}), attention_cached_case({8, 4, 128, {{4, 30}, {1, 100}}, 0, true}),
      rope_case({2, 9, 3, 1, 16}, 16, false), rope_case({2, 9, 3, 1, 32}, 8, true), rope_case({1, 7, 2, 1, 12}, 6, false),
      rope_case({1, 5, 2, 1, 6}, 6, true)};
}

}  // namespace isthmus::kernels::testing
