#pragma once

#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/config.hpp"

#include <set>
#include <span>
#include <string>
#include <string_view>

/// How M2-BERT's checkpoints differ from our encoders of `monarch` and `monarch_mlp`: Fu et al. 2023, arXiv:2310.12109, as the authors' code
/// saves it.
namespace isthmus {

inline constexpr double m2_bert_norm_eps = 1e-12;  // which the head's norm has whatever config.json says

/// An encoder of "monarch" and "monarch_mlp". Errors: unsupported, naming what no layer of ours does.
expected<model_config> m2_bert_config(const hf_config& theirs, const std::string& where);

/// Which tensor of ours holds one of theirs, by its role; prefix: "model.layers.0." of a layer's. Empty: none does.
std::string m2_bert_tensor_name(const std::string& prefix, std::string_view role);

/// Whether its rows are [x1 x2 v] there, [x2 x1 v] here; swap_gates makes either of the other.
bool swaps_gates(std::string_view role);
void swap_gates(std::span<float> rows);

/// The times of taps ("filter.times"), which ours do not keep: times.size() of them, evenly from 0 to 1.
void fill_times(std::span<float> times);
/// Errors: those of reading; unsupported, naming the first that is another.
expected<void> check_times(const stored_tensor& times, const std::string& where);

/// What is left of a checkpoint beside the tensors that the model took: places, whose numbers are not read, and what some savers write once
/// for each name that a shared tensor has. Errors: those of reading; unsupported, naming a tensor that the model does not have, or a
/// second copy of one that differs from the first.
expected<void> check_copies(const hugging_face_weights& from, const std::set<std::string>& taken);

}  // namespace isthmus
