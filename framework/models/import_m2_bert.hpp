#pragma once

#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/config.hpp"

#include <span>
#include <string>

/// Parts of import_checkpoint for M2-BERT: Fu et al. 2023, arXiv:2310.12109, as the authors' code saves it.
namespace isthmus {

/// An encoder of "monarch" and "monarch_mlp". Errors: unsupported, naming what no layer of ours does.
expected<model_config> m2_bert_config(const hf_config& theirs, const std::string& where);

/// weights: [hybrid_layout(ours).size]. Their projections give [x1 x2 v], ours [x2 x1 v]; w_mod goes into the sines' frequencies. Errors: those of
/// reading; unsupported, naming a tensor that the model does not have, or a second copy of one that differs from the first.
expected<void> fill_m2_bert(const hf_config& theirs, const model_config& ours, const hugging_face_weights& from, std::span<float> weights);

}  // namespace isthmus
