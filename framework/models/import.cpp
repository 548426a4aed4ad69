#include "framework/models/import.hpp"

#include "framework/formats/byte_source.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import_m2_bert.hpp"
#include "framework/models/striped_hyena.hpp"
#include "framework/models/tensor_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace isthmus {

namespace {

void scale(std::span<float> weights, double factor) {
  if (factor == 1) return;
  for (float& w : weights) w = static_cast<float>(factor * static_cast<double>(w));
}

/// Copies tensors into the flat array of a model.
class filler {
public:
  filler(hf_family family, const hugging_face_weights& from, const parameter_layout& layout, std::span<float> weights)
      : family_(family), from_(from), weights_(weights) {
    for (const auto& slot : layout.slots) slots_.emplace(slot.name, &slot);
  }

  /// arrange: puts the numbers of one of ours, the whole tensor, in our order.
  expected<void> fill(const hf_tensor& t, const std::string& prefix, const std::function<void(std::span<float>)>& arrange) {
    const auto stored = from_.tensors.expect(t.name, t.shape, from_.where);
    if (!stored) return stored.failure();
    taken_.insert(t.name);
    if (t.role.ends_with("filter.times")) return check_times(**stored, from_.where);
    const auto names = our_tensor_names(family_, prefix, t);
    std::int64_t begin = 0;
    for (const std::string& name : names) {
      const auto at = slots_.find(name);
      if (at == slots_.end()) return no_place(t);
      const tensor_slot& slot = *at->second;
      const std::int64_t count = names.size() == 1 ? (*stored)->count() : slot.count;
      const auto whole = weights_.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count));
      if (auto ok = (*stored)->read_finite(begin, whole.first(static_cast<std::size_t>(count))); !ok) return ok;
      arrange(whole);
      begin += count;
    }
    if (names.empty()) return no_place(t);
    ensure(begin == (*stored)->count(), "import_checkpoint: a tensor of another size");
    return {};
  }
  const std::set<std::string>& taken() const { return taken_; }

private:
  unexpected no_place(const hf_tensor& t) const {
    return fail(errc::unsupported, fmt::format("{}: no tensor of ours takes \"{}\" ({})", from_.where, t.name, t.role));
  }

  hf_family family_;
  const hugging_face_weights& from_;
  std::map<std::string, const tensor_slot*, std::less<>> slots_;
  std::span<float> weights_;
  std::set<std::string> taken_;
};

/// An embedding that is the head as well, where the two differ by factors.
void untie(const hf_config& theirs, const parameter_layout& layout, std::span<float> weights) {
  const auto find = [&](std::string_view name) {
    return weights.begin() + std::ranges::find(layout.slots, name, &tensor_slot::name)->offset;
  };
  const auto embedding = find("model.embed_tokens.weight"), head = find("lm_head.weight");
  const std::int64_t count = theirs.vocabulary * theirs.d_model;
  std::copy_n(embedding, count, head);
  scale({head, static_cast<std::size_t>(count)}, 1 / theirs.logits_divisor);
}

/// A tensor of a layer, in our order and with the factors that its mixer or the config has.
void arrange(const hf_config& theirs, const hf_layer& layer, const std::string& role, std::span<float> tensor) {
  if (role.starts_with("o_proj") || role.starts_with("out_") || role.find("down_proj") != std::string::npos)  // writes the residual
    scale(tensor, theirs.residual_multiplier);
  if (const auto* hyena = std::get_if<hf_hyena>(&layer.mixer)) arrange_hyena(*hyena, theirs.d_model, role, tensor);
  if (const auto* monarch = std::get_if<hf_monarch>(&layer.mixer)) {
    if (swaps_gates(role)) swap_gates(tensor);
    if (role.ends_with("filter.freq")) scale(tensor, monarch->w_mod);
  }
}

/// That no tensor was left out, whose mathematics would be missing.
expected<void> check_others(const hugging_face_weights& from, const std::set<std::string>& taken) {
  const auto& all = from.tensors.all();
  const auto other = std::ranges::find_if(all, [&](const stored_tensor& t) { return !taken.contains(t.name); });
  if (other == all.end()) return {};
  return fail(
      errc::unsupported,
      fmt::format("{}: tensor \"{}\" {} is none that config.json tells of, {} of {} are not: take the config.json that goes with them",
                  from.where, other->name, shape_text(other->shape), all.size() - taken.size(), all.size()));
}

expected<void> fill_all(const hf_config& theirs, const model_config& ours, const hugging_face_weights& from, std::span<float> weights) {
  const parameter_layout layout = hybrid_layout(ours);
  filler into(theirs.family, from, layout, weights);
  for (const auto& t : model_tensors(theirs)) {
    const double factor = t.role == "head" ? 1 / theirs.logits_divisor : 1;
    if (auto ok = into.fill(t, "", [&](auto tensor) { scale(tensor, factor); }); !ok) return ok;
  }
  if (theirs.tied_head && !ours.tied_head) untie(theirs, layout, weights);
  const auto& embedding = layout.slots.front();
  scale(weights.subspan(static_cast<std::size_t>(embedding.offset), static_cast<std::size_t>(embedding.count)),
        theirs.embedding_multiplier);
  for (std::size_t i = 0; i < theirs.layers.size(); ++i)
    for (const auto& t : layer_tensors(theirs, i)) {
      const auto in_order = [&](auto tensor) { arrange(theirs, theirs.layers[i], t.role, tensor); };
      if (auto ok = into.fill(t, fmt::format("model.layers.{}.", i), in_order); !ok) return ok;
    }
  if (theirs.family == hf_family::m2_bert) return check_copies(from, into.taken());
  return check_others(from, into.taken());
}

expected<hf_config> read_config(const std::string& folder, const std::string& path) {
  constexpr std::uint64_t bytes_max = 16 << 20;
  const auto source = open_source(folder, "config.json");
  if (!source) return source.failure();
  const auto text = (*source)->read_text(bytes_max);
  if (!text) return text.failure();
  return read_hf_config(*text, path);
}

}  // namespace

expected<imported_model> import_checkpoint(const hf_config& theirs, const hugging_face_weights& from, const std::string& where) {
  auto ours = config_from(theirs, where);
  if (!ours) return ours.failure();
  auto weights = std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(*ours).size));
  if (auto ok = fill_all(theirs, *ours, from, weights->span()); !ok) return ok.failure();
  return imported_model{std::move(*ours), std::move(weights), theirs.end_tokens};
}

expected<model_config> config_of_hugging_face(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const auto theirs = read_config(folder, path);
  if (!theirs) return theirs.failure();
  return config_from(*theirs, path);
}

expected<imported_model> import_hugging_face(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const auto theirs = read_config(folder, path);
  if (!theirs) return theirs.failure();
  if (auto ok = config_from(*theirs, path); !ok) return ok.failure();  // before the weights are looked for
  auto from = open_hugging_face(folder);
  if (from && theirs->family == hf_family::striped_hyena) from = without_wrapping(*theirs, *from);
  if (!from) return from.failure();
  return import_checkpoint(*theirs, *from, path);
}

}  // namespace isthmus
