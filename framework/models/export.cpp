#include "framework/models/export.hpp"

#include "framework/formats/encoding.hpp"
#include "framework/formats/hf_config.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace isthmus {

namespace {

/// The weights of one tensor as the file has them.
expected<void> round_to(dtype type, std::span<const float> from, std::uint16_t* to, const std::string& name) {
  if (type == dtype::bf16) {
    encode_bf16(from, to);
    return {};
  }
  encode_f16(from, to);
  constexpr std::uint16_t magnitude = 0x7fff, infinity = 0x7c00;
  for (std::size_t i = 0; i < from.size(); ++i)
    if ((to[i] & magnitude) == infinity && std::isfinite(from[i]))
      return fail(errc::out_of_range, fmt::format("tensor {} holds {}, which is too large for f16: take bf16 or f32", name, from[i]));
  return {};
}

/// The tensors that the config asks for, each with its place among ours.
std::vector<std::pair<hf_tensor, const tensor_slot*>> places_of(const hf_config& config, const parameter_layout& layout) {
  std::vector<std::pair<hf_tensor, const tensor_slot*>> out;
  const auto add = [&](const std::vector<hf_tensor>& tensors, const std::string& prefix) {
    for (const auto& t : tensors) {
      const auto slot = std::ranges::find(layout.slots, our_tensor_name(prefix, t), &tensor_slot::name);
      ensure(slot != layout.slots.end(), "export_hugging_face: no tensor of ours has that role");
      std::int64_t count = 1;
      for (const std::int64_t extent : t.shape) count *= extent;
      ensure(count == slot->count, "export_hugging_face: a tensor of another size");
      out.emplace_back(t, &*slot);
    }
  };
  add(model_tensors(config), "");
  for (std::size_t i = 0; i < config.layers.size(); ++i) add(layer_tensors(config, i), fmt::format("model.layers.{}.", i));
  ensure(out.size() == layout.slots.size(), "export_hugging_face: a tensor that would be left out");
  return out;
}

}  // namespace

expected<void> export_hugging_face(storage& disk, const std::string& folder, const model_config& model, std::span<const float> weights,
                                   const export_facts& facts, dtype type, const shard_options& options) {
  ensure(std::ssize(weights) == hybrid_layout(model).size, "export_hugging_face: an array of another layout");
  model_config alone = model;  // no class of Transformers has Medusa heads; they are the last tensors
  alone.medusa_heads = 0;
  const parameter_layout layout = hybrid_layout(alone);
  const auto text = config_json_of(model, facts, type);
  if (!text) return text.failure();
  const auto config = read_hf_config(*text, "config.json");
  if (!config) return config.failure();
  std::vector<std::uint16_t> rounded(type == dtype::f32 ? 0 : weights.size());
  std::vector<tensor_view> views;
  for (const auto& [tensor, slot] : places_of(*config, layout)) {
    const auto begin = static_cast<std::size_t>(slot->offset), count = static_cast<std::size_t>(slot->count);
    std::span<const std::byte> bytes = std::as_bytes(weights.subspan(begin, count));
    if (type != dtype::f32) {
      if (auto ok = round_to(type, weights.subspan(begin, count), rounded.data() + begin, tensor.name); !ok) return ok;
      bytes = std::as_bytes(std::span(rounded).subspan(begin, count));
    }
    views.push_back({tensor.name, type, tensor.shape, bytes});
  }
  if (auto ok = write_hugging_face(disk, folder, views, options); !ok) return ok;
  if (auto ok = disk.write_synced(folder + "/config.json", std::as_bytes(std::span(*text))); !ok) return ok;
  return disk.sync_folder(folder);
}

}  // namespace isthmus
