#include "framework/core/rng.hpp"
#include "framework/models/hybrid_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace isthmus {

namespace {

unexpected bad(std::string_view key, std::int64_t found, std::string_view allowed) {
  return fail(errc::recipe_invalid, fmt::format("model.{} is {}: {}", key, found, allowed));
}

expected<void> check_positive(const model_config& c) {
  const std::pair<const char*, std::int64_t> extents[] = {
      {"vocabulary", c.vocabulary}, {"d_model", c.d_model},       {"n_heads", c.n_heads},       {"n_kv_heads", c.n_kv_heads},
      {"head_dim", c.head_dim},     {"ffn_hidden", c.ffn_hidden}, {"ssm_inner", c.ssm_inner},   {"ssm_head_dim", c.ssm_head_dim},
      {"ssm_state", c.ssm_state},   {"ssm_groups", c.ssm_groups}, {"conv_width", c.conv_width}, {"ssm_chunk", c.ssm_chunk}};
  for (const auto& [key, value] : extents)
    if (value < 1 || value > (std::int64_t{1} << 24)) return bad(key, value, "it must lie in 1 ... 16777216");
  return {};
}

}  // namespace

expected<void> check(const model_config& c) {
  if (auto ok = check_positive(c); !ok) return ok;
  if (c.layers.empty() || c.layers.size() > 1024)
    return bad("layers", static_cast<std::int64_t>(c.layers.size()), "a model has 1 to 1024 layers");
  // 16 fp32 numbers are a cache line: tensors that one product reads together must follow each other without a gap.
  if (c.d_model % 16 != 0) return bad("d_model", c.d_model, "it must be a multiple of 16");
  if (c.head_dim % 2 != 0) return bad("head_dim", c.head_dim, "it must be even, for rotary positions turn pairs");
  if (c.n_heads % c.n_kv_heads != 0) return bad("n_kv_heads", c.n_kv_heads, fmt::format("it must divide n_heads = {}", c.n_heads));
  if (c.ssm_inner % c.ssm_head_dim != 0)
    return bad("ssm_head_dim", c.ssm_head_dim, fmt::format("it must divide ssm_inner = {}", c.ssm_inner));
  if (c.ssm_inner / c.ssm_head_dim % c.ssm_groups != 0)
    return bad("ssm_groups", c.ssm_groups, fmt::format("it must divide the {} state-space heads", c.ssm_inner / c.ssm_head_dim));
  if (!(c.rope_theta > 1)) return fail(errc::recipe_invalid, fmt::format("model.rope_theta is {}: it must exceed 1", c.rope_theta));
  if (!(c.norm_eps > 0)) return fail(errc::recipe_invalid, fmt::format("model.norm_eps is {}: it must exceed 0", c.norm_eps));
  return {};
}

parameter_layout hybrid_layout(const model_config& c) {
  parameter_layout layout;
  const std::int64_t d = c.d_model, conv = c.ssm_inner + 2 * c.ssm_groups * c.ssm_state, ssm_heads = c.ssm_inner / c.ssm_head_dim;
  layout.add("model.embed_tokens.weight", {c.vocabulary, d}, true);
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    layout.add(prefix + "input_layernorm.weight", {d}, false);
    if (c.layers[i] == mixer_kind::attention) {
      layout.add(prefix + "self_attn.q_proj.weight", {c.n_heads * c.head_dim, d}, true);
      layout.add(prefix + "self_attn.k_proj.weight", {c.n_kv_heads * c.head_dim, d}, true);
      layout.add(prefix + "self_attn.v_proj.weight", {c.n_kv_heads * c.head_dim, d}, true);
      layout.add(prefix + "self_attn.o_proj.weight", {d, c.n_heads * c.head_dim}, true);
    } else {
      layout.add(prefix + "mamba.in_proj.weight", {c.ssm_inner + conv + ssm_heads, d}, true);
      layout.add(prefix + "mamba.conv1d.weight", {conv, 1, c.conv_width}, true);
      layout.add(prefix + "mamba.conv1d.bias", {conv}, false);
      layout.add(prefix + "mamba.A_log", {ssm_heads}, false);
      layout.add(prefix + "mamba.D", {ssm_heads}, false);
      layout.add(prefix + "mamba.dt_bias", {ssm_heads}, false);
      layout.add(prefix + "mamba.norm.weight", {c.ssm_inner}, false);
      layout.add(prefix + "mamba.out_proj.weight", {d, c.ssm_inner}, true);
    }
    layout.add(prefix + "pre_ff_layernorm.weight", {d}, false);
    layout.add(prefix + "feed_forward.gate_proj.weight", {c.ffn_hidden, d}, true);
    layout.add(prefix + "feed_forward.up_proj.weight", {c.ffn_hidden, d}, true);
    layout.add(prefix + "feed_forward.down_proj.weight", {d, c.ffn_hidden}, true);
  }
  layout.add("model.final_layernorm.weight", {d}, false);
  return layout;
}

namespace {

/// The inverse of softplus at a time step drawn log-uniform from [1e-3, 1e-1], at least 1e-4.
float draw_dt_bias(rng& random) {
  const double low = std::log(1e-3), high = std::log(1e-1);
  const double step = std::max(1e-4, std::exp(low + random.uniform() * (high - low)));
  return static_cast<float>(step + std::log(-std::expm1(-step)));
}

void initialise(const tensor_slot& slot, std::size_t layers, rng random, std::span<float> w) {
  const auto fill = [&](auto&& draw) { std::generate(w.begin(), w.end(), draw); };
  const auto uniform = [&](double bound) { fill([&, bound] { return static_cast<float>((2 * random.uniform() - 1) * bound); }); };
  const std::string_view name = slot.name;
  if (name.ends_with("embed_tokens.weight"))
    fill([&] { return static_cast<float>(0.02 * random.normal()); });
  else if (name.ends_with("norm.weight") || name.ends_with(".D"))
    fill([] { return 1.0F; });
  else if (name.ends_with("A_log"))
    fill([&] { return static_cast<float>(std::log(1 + 15 * random.uniform())); });
  else if (name.ends_with("dt_bias"))
    fill([&] { return draw_dt_bias(random); });
  else if (name.ends_with("conv1d.bias"))
    fill([] { return 0.0F; });
  else {
    const bool writes_residual = name.ends_with("o_proj.weight") || name.ends_with("out_proj.weight") || name.ends_with("down_proj.weight");
    const double fan_in = static_cast<double>(slot.shape.back());
    uniform(1 / std::sqrt(fan_in) / (writes_residual ? std::sqrt(2.0 * static_cast<double>(layers)) : 1.0));
  }
}

}  // namespace

void initial_weights(const model_config& config, std::uint64_t seed, std::span<float> weights) {
  const parameter_layout layout = hybrid_layout(config);
  ensure(static_cast<std::int64_t>(weights.size()) == layout.size, "initial_weights: an array of another layout");
  std::fill(weights.begin(), weights.end(), 0.0F);
  for (std::size_t i = 0; i < layout.slots.size(); ++i) {
    const auto& slot = layout.slots[i];
    initialise(slot, config.layers.size(), rng(seed, 0, i, draw::initial_weights),
               weights.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count)));
  }
}

}  // namespace isthmus
