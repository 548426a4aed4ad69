#pragma once

#include "framework/formats/hf_config.hpp"
#include "framework/formats/hf_keys.hpp"

#include <cstdint>
#include <string>
#include <vector>

/// Parts of read_hf_config: how each family spells what hf_config holds. They leave faults in the keys.
namespace isthmus::hf {

inline constexpr std::int64_t extent_max = 1 << 20;  // of a width, a count of heads
inline constexpr std::int64_t part_max = 1 << 16;    // of a head, a state, a count of groups: so that no product of extents overflows
inline constexpr std::int64_t layers_max = 4096;
inline constexpr std::int64_t experts_max = 4096;
inline constexpr std::int64_t context_max = std::int64_t{1} << 40;

/// vocab_size, hidden_size, max_position_embeddings, tie_word_embeddings and the keys that are without effect on every family.
void read_common(hf_keys& keys, hf_config& out, bool tied_by_default);
std::int64_t read_layer_count(hf_keys& keys);
/// Heads, KV heads, head_dim and its scale; no positions.
hf_attention read_attention(hf_keys& keys, const hf_config& out);
/// rope_parameters, or rope_theta with rope_scaling, and partial_rotary_factor, into out.rope and each attention's rotary_dim. With a
/// default_fraction of 1 the class rotates heads whole, whatever partial_rotary_factor says, so that another one is refused; a class with
/// another default reads it in rope_parameters alone.
void read_rope(hf_keys& keys, hf_config& out, hf_attention& attention, double default_theta, double default_fraction = 1);
hf_activation read_activation(hf_keys& keys, const char* key, const char* otherwise);
/// Mamba's rank of dt: a number, or "auto": ceil(d_model / 16).
std::int64_t read_rank(hf_keys& keys, const char* key, std::int64_t d_model);
/// time_step_limit as [low, high], where high may be infinite.
void read_time_step_limit(hf_keys& keys, hf_mamba2& out);
/// Bamba's and Granite's mamba_* keys.
hf_mamba2 read_prefixed_mamba2(hf_keys& keys, const hf_config& out);

void read_llama(hf_keys& keys, hf_config& out);
void read_mistral(hf_keys& keys, hf_config& out);
void read_mixtral(hf_keys& keys, hf_config& out);
void read_mamba(hf_keys& keys, hf_config& out);
void read_mamba2(hf_keys& keys, hf_config& out);
void read_bamba(hf_keys& keys, hf_config& out);
void read_granite_hybrid(hf_keys& keys, hf_config& out);
void read_jamba(hf_keys& keys, hf_config& out);
void read_nemotron_h(hf_keys& keys, hf_config& out);
void read_striped_hyena(hf_keys& keys, hf_config& out);
void read_m2_bert(hf_keys& keys, hf_config& out);

}  // namespace isthmus::hf
