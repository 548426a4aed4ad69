#pragma once

#include "framework/core/expected.hpp"
#include "framework/layers/layer.hpp"
#include "framework/layers/option.hpp"
#include "framework/layers/tensor_list.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace isthmus {

struct layer_kind;

/// A layer as a model has it: its kind, what the kind was told, and the model around it.
struct layer_shape {
  const layer_kind* kind = nullptr;
  layer_options options;  // every field of the kind has its value here
  std::int64_t d_model = 0;
  std::int64_t n_layers = 0;
  double norm_eps = 1e-5;
  std::string where = "model";  // its options stand in a recipe

  /// The value of one of the kind's fields; throws contract_error when it has no such field.
  double real(std::string_view key) const;
  std::int64_t integer(std::string_view key) const { return static_cast<std::int64_t>(real(key)); }
  bool flag(std::string_view key) const { return real(key) != 0; }
  std::string_view word(std::string_view key) const;
};

/// A kind of layer: all that the rest of the program knows of it. One folder of framework/layers holds one, so a new kind is a new folder;
/// a program adds its own with layer_catalog::with. Constant; the functions keep nothing.
struct layer_kind {
  std::string_view name;    // in recipes: "mamba2"
  std::string_view title;   // for people: "Mamba-2 (SSD)"
  std::string_view folder;  // in names of tensors: "mamba"
  bool mixes_sequence;      // else channels
  std::span<const option_field> options;
  /// Says what is wrong between options, each being in its range: recipe_invalid, naming the key, what was found, what is allowed.
  expected<void> (*check)(const layer_shape&);
  /// Appends the layer's tensors. Those that one projection joins follow each other and are multiples of 16 floats.
  void (*declare)(const layer_shape&, tensor_list&);
  std::unique_ptr<layer<float>> (*make_f32)(const layer_shape&, const layer_parts<float>&);
  std::unique_ptr<layer<kernels::bf16>> (*make_b16)(const layer_shape&, const layer_parts<kernels::bf16>&);
  std::unique_ptr<layer<double>> (*make_f64)(const layer_shape&, const layer_parts<double>&);  // gradient checks
  /// Whether a token's output depends on later tokens, so that the layer cannot decode and next tokens are no task for it. Null: never.
  bool (*sees_ahead)(const layer_shape&) = nullptr;
};

/// The function that makes Layer<Act>, for a kind's table.
template <template <class> class Layer, class Act>
std::unique_ptr<layer<Act>> make_layer(const layer_shape& shape, const layer_parts<Act>& parts) {
  return std::make_unique<Layer<Act>>(shape, parts);
}

/// A shape's layer, for activations of type Act.
template <class Act>
std::unique_ptr<layer<Act>> make_layer_of(const layer_shape& shape, const layer_parts<Act>& parts) {
  if constexpr (std::is_same_v<Act, float>)
    return shape.kind->make_f32(shape, parts);
  else if constexpr (std::is_same_v<Act, kernels::bf16>)
    return shape.kind->make_b16(shape, parts);
  else
    return shape.kind->make_f64(shape, parts);
}

/// recipe_invalid: "model.<key> is <value>: <allowed>".
unexpected bad_option(const layer_shape& shape, std::string_view key, std::string_view allowed);

}  // namespace isthmus
