#pragma once

#include "framework/layers/option.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace isthmus {

class layer_catalog;
const layer_catalog& builtin_layers();  // framework/layers/catalog.hpp

enum class precision_kind { fp32, bf16 };  // of matrix products; master weights, norms, softmax and state math stay fp32

enum class norm_kind { rms_norm, layer_norm };  // Zhang & Sennrich 2019, arXiv:1910.07467; Ba et al. 2016, arXiv:1607.06450

constexpr std::int64_t medusa_heads_max = 16;

/// A kind of layer under another name, with options of its own.
struct layer_variant {
  std::string name, kind;
  layer_options options;
  bool operator==(const layer_variant&) const = default;
};

/// What makes a model an encoder like BERT, Devlin et al. 2019, arXiv:1810.04805. Embeddings of tokens, of their positions and of a type are added and
/// normalised; norms, which are LayerNorms, stand behind the sums, x = norm(x + f(x)); logits = norm(gelu(x W^T + b)) head^T + c. It reads whole
/// texts and does not decode. Programs have it, recipes do not.
struct encoder_config {
  std::int64_t positions = 0;    // places that have a learned embedding, which is the most that a text may have; 0: none has
  std::int64_t token_types = 0;  // embeddings of types, of which all tokens have the first; 0: none
  bool mixer_residual = true;    // false: sequence mixers stand alone, x = f(x), as M2-BERT's do
  bool operator==(const encoder_config&) const = default;
};

/// A language model: embedding, then layer by layer x += mixer(norm(x)), x += channel(norm(x)), then a final norm and a head. Mirrors a recipe's [model].
struct model_config {
  std::int64_t vocabulary = 2048;
  std::int64_t d_model = 256;
  /// One entry a layer: "mixer" or "mixer/channel", kinds or variants of the catalog, "none" for neither.
  std::vector<std::string> layers;
  std::string channel = "swiglu";       // of layers that name none
  layer_options options;                // of all layers
  std::vector<layer_variant> variants;  // whose options go before
  norm_kind norm = norm_kind::rms_norm;
  float norm_eps = 1e-5F;
  precision_kind precision = precision_kind::fp32;
  bool tied_head = true;            // the head is the embedding, else a matrix of its own
  float z_loss = 0;                 // trained beside the loss: z_loss logsumexp(logits)^2 a token, never told as loss
  std::int64_t medusa_heads = 0;    // that predict tokens further ahead, trained beside the model: docs/model.md
  std::int64_t activation_mib = 0;  // that a pass may take on a device: layers are computed twice to keep to it; 0: no limit
  std::int32_t document_mark = -1;  // the id that stands between documents: docs/model.md; -1: none does
  const layer_catalog* catalog = &builtin_layers();  // borrowed
  std::optional<encoder_config> encoder = {};        // what it has if it is one, and no decoder
  bool operator==(const model_config&) const = default;

  /// What layers that are no variant have of an option; throws contract_error when the catalog knows no such option.
  double option(std::string_view key) const;
  std::int64_t extent(std::string_view key) const { return static_cast<std::int64_t>(option(key)); }
};

}  // namespace isthmus
