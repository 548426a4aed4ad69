#include "framework/models/export.hpp"

#include "framework/formats/encoding.hpp"
#include "framework/formats/hf_config.hpp"
#include "framework/models/export_parts.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import_m2_bert.hpp"
#include "framework/models/striped_hyena.hpp"
#include "framework/models/tensor_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
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

struct placed_tensor {
  hf_tensor tensor;
  std::vector<const tensor_slot*> slots;  // behind each other in it; none: it follows from the config
  std::int64_t count = 1;
  const hf_hyena* hyena = nullptr;  // of its layer, if it is one
};

/// The tensors that the config asks for, each with its place among ours.
std::vector<placed_tensor> places_of(const hf_config& config, const parameter_layout& layout) {
  std::vector<placed_tensor> out;
  std::size_t placed = 0;
  const auto add = [&](const std::vector<hf_tensor>& tensors, const std::string& prefix, const hf_hyena* hyena) {
    for (const auto& t : tensors) {
      out.push_back({.tensor = t, .slots = {}, .hyena = hyena});
      placed_tensor& place = out.back();
      std::int64_t ours = 0;
      for (const std::int64_t extent : t.shape) place.count *= extent;
      for (const std::string& name : our_tensor_names(config.family, prefix, t)) {
        const auto slot = std::ranges::find(layout.slots, name, &tensor_slot::name);
        ensure(slot != layout.slots.end(), "export_hugging_face: no tensor of ours has that role");
        place.slots.push_back(&*slot);
        ours += slot->count;
      }
      ensure(place.slots.empty() || place.count == ours, "export_hugging_face: a tensor of another size");
      placed += place.slots.size();
    }
  };
  add(model_tensors(config), "", nullptr);
  for (std::size_t i = 0; i < config.layers.size(); ++i)
    add(layer_tensors(config, i), fmt::format("model.layers.{}.", i), std::get_if<hf_hyena>(&config.layers[i].mixer));
  ensure(placed == layout.slots.size(), "export_hugging_face: a tensor that would be left out");
  return out;
}

/// The slots of the model as it is written, in the array of ours.
parameter_layout layout_of(const written_config& written, const parameter_layout& ours, bool tied) {
  parameter_layout layout = hybrid_layout(written.model);
  if (tied && !written.model.tied_head) layout.slots.back().offset = ours.slots.front().offset;  // the head is the embedding
  for (std::size_t i = 0; i < ours.slots.size(); ++i)
    ensure(ours.slots[i].offset == layout.slots[i].offset && ours.slots[i].shape == layout.slots[i].shape,
           "export_hugging_face: layers that are listed in another way have other tensors");
  return layout;
}

std::span<const float> values_of(const tensor_slot& slot, std::span<const float> weights) {
  return weights.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count));
}

/// The numbers of a tensor in the order of the file: ours as they lie, or else put together in `room`.
std::span<const float> values_of(const placed_tensor& place, hf_family family, std::span<const float> weights, std::vector<float>& room) {
  const std::string& role = place.tensor.role;
  const bool swaps = family == hf_family::m2_bert && swaps_gates(role),
             moves = place.hyena != nullptr && moves_in_hyena(*place.hyena, role);
  if (place.slots.size() == 1 && !swaps && !moves) return values_of(*place.slots.front(), weights);
  for (const tensor_slot* slot : place.slots) room.insert(room.end(), values_of(*slot, weights).begin(), values_of(*slot, weights).end());
  if (swaps) swap_gates(room);
  if (moves) arrange_for_hyena(*place.hyena, room);
  if (place.slots.empty()) {
    room.resize(static_cast<std::size_t>(place.count));
    fill_times(room);
  }
  return room;
}

/// Poles and residues of StripedHyena's filters stay fp32, whose powers reach over whole texts.
dtype type_of(const placed_tensor& place, dtype type) {
  return place.tensor.role == "poles" || place.tensor.role == "residues" ? dtype::f32 : type;
}

}  // namespace

expected<void> export_hugging_face(storage& disk, const std::string& folder, const model_config& model, std::span<const float> weights,
                                   const export_facts& facts, dtype type, const shard_options& options) {
  ensure(std::ssize(weights) == hybrid_layout(model).size, "export_hugging_face: an array of another layout");
  model_config alone = model;  // no class of Transformers has Medusa heads; they are the last tensors
  alone.medusa_heads = 0;
  const parameter_layout ours = hybrid_layout(alone);
  const auto written = write_config(alone, facts, type);
  if (!written) return written.failure();
  const parameter_layout layout = layout_of(*written, ours, model.tied_head);
  const auto config = read_hf_config(written->text, "config.json");
  if (!config) return config.failure();
  std::vector<std::vector<float>> joined;  // of tensors that do not lie in ours as they do in the file
  std::vector<std::vector<std::uint16_t>> rounded;
  std::vector<tensor_view> views;
  for (const auto& place : places_of(*config, layout)) {
    const std::span<const float> values = values_of(place, config->family, weights, joined.emplace_back());
    const dtype own = type_of(place, type);
    std::span<const std::byte> bytes = std::as_bytes(values);
    if (own != dtype::f32) {
      auto& halves = rounded.emplace_back(values.size());
      if (auto ok = round_to(own, values, halves.data(), place.tensor.name); !ok) return ok;
      bytes = std::as_bytes(std::span(std::as_const(halves)));
    }
    views.push_back({place.tensor.name, own, place.tensor.shape, bytes});
  }
  if (auto ok = write_hugging_face(disk, folder, views, options); !ok) return ok;
  if (auto ok = disk.write_synced(folder + "/config.json", std::as_bytes(std::span(written->text))); !ok) return ok;
  return disk.sync_folder(folder);
}

}  // namespace isthmus
