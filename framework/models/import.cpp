#include "framework/models/import.hpp"

#include "framework/formats/byte_source.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import_m2_bert.hpp"
#include "framework/models/striped_hyena.hpp"
#include "framework/models/tensor_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace isthmus {

namespace {

/// Copies tensors into the flat array of a model.
class filler {
public:
  filler(const hugging_face_weights& from, const parameter_layout& layout, std::span<float> weights, std::int64_t d_model)
      : tensors_(from.tensors), weights_(weights), where_(from.where), d_model_(d_model) {
    for (const auto& slot : layout.slots) slots_.emplace(slot.name, &slot);
  }

  /// hyena: of the layer, if it is one.
  expected<void> fill(const hf_tensor& t, const std::string& prefix, double factor, const hf_hyena* hyena = nullptr) {
    const auto stored = tensors_.expect(t.name, t.shape, where_);
    if (!stored) return stored.failure();
    const auto names = our_tensor_names(prefix, t);
    std::int64_t begin = 0;
    for (const std::string& name : names) {
      const auto at = slots_.find(name);
      if (at == slots_.end()) return no_place(t);
      const tensor_slot& slot = *at->second;
      const std::int64_t count = names.size() == 1 ? (*stored)->count() : slot.count;
      const auto whole = weights_.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count));
      const auto out = whole.first(static_cast<std::size_t>(count));
      if (auto ok = (*stored)->read_floats(begin, out); !ok) return ok;
      if (factor != 1)
        std::ranges::transform(out, out.begin(), [factor](float w) { return static_cast<float>(factor * static_cast<double>(w)); });
      if (hyena != nullptr) arrange_hyena(*hyena, d_model_, t.role, whole);
      begin += count;
    }
    if (names.empty()) return no_place(t);
    ensure(begin == (*stored)->count(), "import_checkpoint: a tensor of another size");
    ++filled_;
    return {};
  }
  std::size_t filled() const { return filled_; }

private:
  unexpected no_place(const hf_tensor& t) const {
    return fail(errc::unsupported, fmt::format("{}: no tensor of ours takes \"{}\" ({})", where_, t.name, t.role));
  }

  const tensor_index& tensors_;
  std::map<std::string, const tensor_slot*, std::less<>> slots_;
  std::span<float> weights_;
  std::string where_;
  std::int64_t d_model_;
  std::size_t filled_ = 0;
};

/// An embedding that is the head as well, where the two differ by factors.
void untie(const hf_config& theirs, const parameter_layout& layout, std::span<float> weights) {
  const auto find = [&](std::string_view name) {
    return weights.begin() + std::ranges::find(layout.slots, name, &tensor_slot::name)->offset;
  };
  const auto embedding = find("model.embed_tokens.weight"), head = find("lm_head.weight");
  const double factor = 1 / theirs.logits_divisor;
  std::transform(embedding, embedding + theirs.vocabulary * theirs.d_model, head,
                 [factor](float w) { return static_cast<float>(factor * static_cast<double>(w)); });
}

expected<void> fill_all(const hf_config& theirs, const model_config& ours, const hugging_face_weights& from, std::span<float> weights) {
  const parameter_layout layout = hybrid_layout(ours);
  filler into(from, layout, weights, theirs.d_model);
  for (const auto& t : model_tensors(theirs))
    if (auto ok = into.fill(t, "", t.role == "head" ? 1 / theirs.logits_divisor : 1); !ok) return ok;
  if (theirs.tied_head && !ours.tied_head) untie(theirs, layout, weights);
  if (theirs.embedding_multiplier != 1) {
    const auto& slot = layout.slots.front();
    for (auto& w : weights.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count)))
      w = static_cast<float>(theirs.embedding_multiplier * static_cast<double>(w));
  }
  for (std::size_t i = 0; i < theirs.layers.size(); ++i) {
    const auto* hyena = std::get_if<hf_hyena>(&theirs.layers[i].mixer);
    for (const auto& t : layer_tensors(theirs, i)) {
      const bool writes_residual =
          t.role.starts_with("o_proj") || t.role.starts_with("out_") || t.role.find("down_proj") != std::string::npos;
      const double factor = writes_residual ? theirs.residual_multiplier : 1;
      if (auto ok = into.fill(t, fmt::format("model.layers.{}.", i), factor, hyena); !ok) return ok;
    }
  }
  if (into.filled() != from.tensors.size())
    return fail(errc::unsupported,
                fmt::format("{}: {} tensors, of which config.json tells {}", from.where, from.tensors.size(), into.filled()));
  return {};
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
  const auto fill = theirs.family == hf_family::m2_bert ? fill_m2_bert : fill_all;
  if (auto ok = fill(theirs, *ours, from, weights->span()); !ok) return ok.failure();
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
