#include "framework/models/striped_hyena.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace isthmus {

namespace {

constexpr std::string_view prefix = "backbone.", frequencies = ".rotary_emb.inv_freq";

/// inv_freq_i = base^(-2i / head_dim).
expected<void> compare_frequencies(const hf_config& config, const stored_tensor& t, const std::string& where) {
  const auto layer = std::ranges::find_if(config.layers, [](const hf_layer& l) { return std::holds_alternative<hf_attention>(l.mixer); });
  const std::int64_t width = layer == config.layers.end() ? 0 : std::get<hf_attention>(layer->mixer).rotary_dim;
  constexpr double rounding = 0x1p-8;  // of bf16
  std::vector<float> found(static_cast<std::size_t>(width / 2));
  bool same = t.count() == width / 2;
  if (same)
    if (auto ok = t.read_floats(found); !ok) return ok;
  for (std::size_t i = 0; same && i < found.size(); ++i) {
    const double told = std::pow(config.rope->theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
    same = std::abs(static_cast<double>(found[i]) - told) <= rounding * told;
  }
  if (same) return {};
  return fail(errc::unsupported,
              fmt::format("{}: tensor \"{}\" holds other frequencies than rotary_emb_base {} gives", where, t.name, config.rope->theta));
}

/// Of `slow * fast` blocks of rows, that at s * fast + f moves to f * slow + s.
void transpose_blocks(std::size_t slow, std::size_t fast, std::span<float> tensor) {
  const std::vector<float> from(tensor.begin(), tensor.end());
  const std::size_t block = tensor.size() / (slow * fast);
  for (std::size_t s = 0; s < slow; ++s)
    for (std::size_t f = 0; f < fast; ++f) std::copy_n(from.data() + (s * fast + f) * block, block, tensor.data() + (f * slow + s) * block);
}

}  // namespace

expected<hugging_face_weights> without_wrapping(const hf_config& config, const hugging_face_weights& from) {
  const bool wrapped = from.tensors.find("backbone.embedding_layer.weight") != nullptr;
  std::vector<stored_tensor> kept;
  for (stored_tensor t : from.tensors.all()) {
    if (t.name.ends_with(frequencies)) {
      if (auto ok = compare_frequencies(config, t, from.where); !ok) return ok.failure();
      continue;
    }
    if (!wrapped) t.name = std::string(prefix) + t.name;
    kept.push_back(std::move(t));
  }
  return hugging_face_weights{tensor_index(std::move(kept)), from.where};
}

void arrange_hyena(const hf_hyena& hyena, std::int64_t d_model, std::string_view role, std::span<float> tensor) {
  if (moves_in_hyena(hyena, role)) transpose_blocks(static_cast<std::size_t>(hyena.heads), 3, tensor);
  if (role != "poles" && role != "residues") return;
  const auto share = static_cast<std::size_t>(d_model / hyena.filters), numbers = tensor.size() / static_cast<std::size_t>(d_model);
  for (auto channel = static_cast<std::size_t>(d_model); share > 1 && channel-- > 0;)  // backwards: what is read lies before
    std::copy_n(tensor.data() + channel / share * numbers, numbers, tensor.data() + channel * numbers);
}

bool moves_in_hyena(const hf_hyena& hyena, std::string_view role) {
  return hyena.column_split && (role.starts_with("projections") || role.starts_with("short_filter"));
}

void arrange_for_hyena(const hf_hyena& hyena, std::span<float> tensor) {
  transpose_blocks(3, static_cast<std::size_t>(hyena.heads), tensor);
}

}  // namespace isthmus
