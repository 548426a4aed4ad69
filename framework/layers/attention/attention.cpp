#include "framework/layers/attention/attention.hpp"

#include "framework/core/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace isthmus {

namespace {

rotary_rule rotary_of(const layer_shape& s) {
  const std::int64_t width = s.integer("rotary_dim");
  return {.theta = s.real("rope_theta"),
          .width = width == 0 ? s.integer("head_dim") : width,
          .factor = s.real("rope_factor"),
          .low = s.real("rope_low"),
          .high = s.real("rope_high"),
          .original_context = s.integer("rope_context")};
}

template <class Real>
Real scale_of(const layer_shape& s) {
  const double scale = s.real("attention_scale");
  return scale != 0 ? static_cast<Real>(scale) : 1 / std::sqrt(static_cast<Real>(s.integer("head_dim")));
}

}  // namespace

template <class Act>
attention_layer<Act>::attention_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : heads_(shape.integer("n_heads")),
      kv_heads_(shape.integer("n_kv_heads")),
      head_dim_(shape.integer("head_dim")),
      qkv_width_((heads_ + 2 * kv_heads_) * head_dim_),
      window_(shape.integer("attention_window")),
      both_ways_(shape.flag("attention_bidirectional")),
      rotates_(shape.flag("rotary")),
      short_caches_(parts.parameters.formats.caches == kernels::cache_format::bf16),
      rotary_(rotary_of(shape)),
      scale_(scale_of<kernels::real<Act>>(shape)),
      qkv_proj_(parts, {"q_proj.weight", "k_proj.weight", "v_proj.weight"}, shape.flag("qkv_bias")),
      o_proj_(parts, {"o_proj.weight"}, shape.flag("attention_out_bias")) {}

template <class Act>
typename attention_layer<Act>::places attention_layer<Act>::take(std::int64_t rows, arena& kept, arena& shared) const {
  places at;
  at.qkv = kept.take<Act>(rows * qkv_width_);
  at.o = kept.take<Act>(rows * heads_ * head_dim_);
  at.lse = kept.take<real>(rows * heads_);
  at.d_qkv = shared.take<Act>(rows * qkv_width_);
  at.d_o = shared.take<Act>(rows * heads_ * head_dim_);
  return at;
}

template <class Act>
void attention_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  at_ = take(batch * length, kept, shared);
}

template <class Act>
void attention_layer<Act>::rotate(const layer_pass<Act>& p, Act* qkv, bool inverse) const {
  if (!rotates_) return;
  const auto angles = p.rotary.of(rotary_, p.position, p.length);
  p.ops.rope(p.stream, {.x = qkv,
                        .cosine = angles.cosine,
                        .sine = angles.sine,
                        .batch = p.batch,
                        .length = p.length,
                        .heads = heads_ + kv_heads_,
                        .head_dim = head_dim_,
                        .rotary = rotary_.width,
                        .x_stride = qkv_width_,
                        .inverse = inverse});
}

template <class Act>
void attention_layer<Act>::attend(const layer_pass<Act>& p, const places& at, std::int64_t first_query) const {
  const Act* q = p.rows_of(at.qkv, qkv_width_);
  p.ops.attention(p.stream, {.q = q,
                             .k = q + heads_ * head_dim_,
                             .v = q + (heads_ + kv_heads_) * head_dim_,
                             .o = p.rows_of(at.o, heads_ * head_dim_),
                             .lse = p.rows_of(at.lse, heads_),
                             .batch = p.batch,
                             .length = p.length,
                             .heads = heads_,
                             .kv_heads = kv_heads_,
                             .head_dim = head_dim_,
                             .qkv_stride = qkv_width_,
                             .scale = scale_,
                             .sight = sight(p, first_query)});
}

template <class Act>
void attention_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  qkv_proj_.forward(p, x, at_.qkv);
  rotate(p, at_.qkv, false);
  attend(p, at_);
  o_proj_.forward(p, at_.o, y);
}

/// d_qkv from d_o, both as they lie behind rotation.
template <class Act>
void attention_layer<Act>::attend_back(const layer_pass<Act>& p, const places& at, std::int64_t first_query) const {
  const std::int64_t k = heads_ * head_dim_, v = (heads_ + kv_heads_) * head_dim_;
  p.ops.attention_backward(p.stream, {.q = at.qkv,
                                      .k = at.qkv + k,
                                      .v = at.qkv + v,
                                      .o = at.o,
                                      .d_o = at.d_o,
                                      .lse = at.lse,
                                      .dq = at.d_qkv,
                                      .dk = at.d_qkv + k,
                                      .dv = at.d_qkv + v,
                                      .batch = p.batch,
                                      .length = p.length,
                                      .heads = heads_,
                                      .kv_heads = kv_heads_,
                                      .head_dim = head_dim_,
                                      .qkv_stride = qkv_width_,
                                      .d_qkv_stride = qkv_width_,
                                      .scale = scale_,
                                      .sight = sight(p, first_query)});
}

template <class Act>
void attention_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  o_proj_.backward(p, at_.o, dy, at_.d_o);
  attend_back(p, at_);
  rotate(p, at_.d_qkv, true);
  qkv_proj_.backward(p, x, at_.d_qkv, dx);
}

/// One sequence, whose rows are projected and rotated: its keys and values are remembered.
template <class Act>
template <class Cache>
kernels::cached_sequence<Cache> attention_layer<Act>::remember(const layer_pass<Act>& p, layer_state& state) const {
  const std::int64_t kv_width = kv_heads_ * head_dim_, past = state[0].rows();
  ensure(state[0].row_bytes == static_cast<std::size_t>(kv_width) * sizeof(Cache), "attention: a state with caches of another format");
  for (auto& part : state) part.grow(p.length);
  auto* keys = state[0].as<Cache>();
  auto* values = state[1].as<Cache>();
  const auto keep = [&](const Act* from, Cache* to) { std::transform(from, from + kv_width, to, [](Act x) { return Cache(x); }); };
  for (std::int64_t t = 0; t < p.length; ++t) {
    const Act* k = p.rows_of(at_.qkv, qkv_width_) + t * qkv_width_ + heads_ * head_dim_;
    keep(k, keys + (past + t) * kv_width);
    keep(k + kv_width, values + (past + t) * kv_width);
  }
  return {p.first_row, p.length, past, keys, values};
}

/// A prompt from its beginning sees its keys as they were computed, whatever its cache keeps.
template <class Act>
template <class Cache>
void attention_layer<Act>::attend_to_caches(const layer_pass<Act>& p, std::span<const moving_sequence> sequences,
                                            std::vector<kernels::cached_sequence<Cache>>& cached,
                                            void (*attend_cached)(kernels::stream&, const kernels::attention_cached_args<Act, Cache>&)) {
  for (const auto& s : sequences) rotate(p.part(s), p.part(s).rows_of(at_.qkv, qkv_width_), false);
  cached.resize(sequences.size());
  p.stream.workers.run(std::ssize(sequences), [&](std::int64_t i, int) {
    const auto& s = sequences[static_cast<std::size_t>(i)];
    cached[static_cast<std::size_t>(i)] = remember<Cache>(p.part(s), *s.state);
  });
  std::size_t behind = 0;  // sequences that see what their caches hold
  for (std::size_t i = 0; i < sequences.size(); ++i)
    if (sequences[i].position == 0 && sequences[i].count > 1)
      attend(p.part(sequences[i]), at_);
    else
      cached[behind++] = cached[i];
  cached.resize(behind);
  attend_cached(p.stream, {.q = at_.qkv,
                           .o = at_.o,
                           .sequences = cached.data(),
                           .count = std::ssize(cached),
                           .heads = heads_,
                           .kv_heads = kv_heads_,
                           .head_dim = head_dim_,
                           .q_stride = qkv_width_,
                           .scale = scale_,
                           .window = window_});
}

template <class Act>
void attention_layer<Act>::advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) {
  ensure(!both_ways_, "attention: a bidirectional layer sees what comes later, so it cannot decode");
  qkv_proj_.forward(p, x, at_.qkv);
  if (short_caches_)
    attend_to_caches(p, sequences, short_cached_, p.ops.attention_cached_bf16);
  else
    attend_to_caches(p, sequences, cached_, p.ops.attention_cached);
  o_proj_.forward(p, at_.o, y);
}

template <class Act>
layer_state attention_layer<Act>::start() const {
  const std::int64_t width = kv_heads_ * head_dim_;
  const auto part =
      short_caches_ ? growing_part<kernels::bf16>(state_kind::kv, width, window_) : growing_part<Act>(state_kind::kv, width, window_);
  return {part, part};
}

template <class Act>
void attention_layer<Act>::weights_changed() {
  qkv_proj_.matrix()->weights_changed();
  o_proj_.matrix()->weights_changed();
}

namespace {

constexpr option_field options[] = {
    integer_option("n_heads", 4, 1, 1024, "attention heads"),
    integer_option("n_kv_heads", 4, 1, 1024, "key and value heads; divides n_heads"),
    integer_option("head_dim", 64, 2, 1024, "width of an attention head, even"),
    real_option("rope_theta", 10000, 1, 1e9, "base of the rotary position angles"),
    flag_option("rotary", true, "whether attention knows positions; without, order comes from other layers"),
    integer_option("rotary_dim", 0, 0, 1024, "columns of a head that are rotated, the first ones, even; 0: all"),
    real_option("rope_factor", 1, 1, 1e6, "by which long wavelengths of the angles are stretched, as Llama 3 does; 1: they are not"),
    real_option("rope_low", 1, 1e-3, 1e6, "wavelengths beyond rope_context / rope_low are stretched in full"),
    real_option("rope_high", 4, 1e-3, 1e6, "those below rope_context / rope_high are not stretched; above rope_low"),
    integer_option("rope_context", 8192, 1, 1 << 24, "tokens of context before the stretching"),
    integer_option("attention_window", 0, 0, 1 << 24, "tokens that a token attends to, the last ones, itself included; 0: all"),
    flag_option("attention_bidirectional", false, "whether attention sees later tokens, too: for masked targets, not for decoding"),
    flag_option("qkv_bias", false, "whether queries, keys and values have biases"),
    flag_option("attention_out_bias", false, "whether what attention gives has one"),
    real_option("attention_scale", 0, 0, 1e3, "of q k^T; 0: 1 / sqrt(head_dim)"),
};

expected<void> check(const layer_shape& s) {
  if (s.integer("head_dim") % 2 != 0) return bad_option(s, "head_dim", "it must be even, for rotary positions turn pairs");
  if (s.integer("n_heads") % s.integer("n_kv_heads") != 0)
    return bad_option(s, "n_kv_heads", fmt::format("it must divide n_heads = {}", s.integer("n_heads")));
  const std::int64_t width = s.integer("rotary_dim");
  if (width % 2 != 0 || width > s.integer("head_dim"))
    return bad_option(s, "rotary_dim", fmt::format("it must be even, and at most head_dim = {}", s.integer("head_dim")));
  if (s.real("rope_factor") != 1 && !(s.real("rope_high") > s.real("rope_low")))
    return bad_option(s, "rope_high", fmt::format("it must exceed rope_low = {}", s.real("rope_low")));
  if (s.flag("attention_bidirectional") && s.integer("attention_window") != 0)
    return bad_option(s, "attention_window", "it must be 0 where attention_bidirectional is true: a window is of earlier tokens");
  if (!(s.real("rope_theta") > 1)) return bad_option(s, "rope_theta", "it must exceed 1");
  return {};
}

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t d = s.d_model, q = s.integer("n_heads") * s.integer("head_dim"), kv = s.integer("n_kv_heads") * s.integer("head_dim");
  tensors.add_matrix("q_proj.weight", q, d);
  tensors.add_matrix("k_proj.weight", kv, d);
  tensors.add_matrix("v_proj.weight", kv, d);
  if (s.flag("qkv_bias")) {
    tensors.add_bias("q_proj.bias", q);
    tensors.add_bias("k_proj.bias", kv);
    tensors.add_bias("v_proj.bias", kv);
  }
  tensors.add_output("o_proj.weight", d, q);
  if (s.flag("attention_out_bias")) tensors.add_bias("o_proj.bias", d);
}

}  // namespace

extern const layer_kind attention_kind;
const layer_kind attention_kind{.name = "attention",
                                .title = "grouped-query attention",
                                .folder = "self_attn",
                                .mixes_sequence = true,
                                .options = options,
                                .check = check,
                                .declare = declare,
                                .make_f32 = make_layer<attention_layer, float>,
                                .make_b16 = make_layer<attention_layer, kernels::bf16>,
                                .make_f64 = make_layer<attention_layer, double>,
                                .sees_ahead = [](const layer_shape& s) { return s.flag("attention_bidirectional"); }};

#define ISTHMUS_FOR(Act)               \
  template class attention_layer<Act>; \
  template kernels::cached_sequence<Act> attention_layer<Act>::remember(const layer_pass<Act>&, layer_state&) const;
ISTHMUS_FOR(float)
ISTHMUS_FOR(kernels::bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus
