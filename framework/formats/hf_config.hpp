#pragma once

#include "framework/core/expected.hpp"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// config.json of Hugging Face Transformers as a description of the mathematics, the same for all architectures that we know:
/// which layers there are, with their extents, and how the tensors of a checkpoint are called. Nothing here knows our own layers.
/// Names and meanings are those of Transformers 5.24; docs/formats.md lists the keys.
namespace isthmus {

enum class hf_family { llama, mistral, mixtral, mamba, mamba2, bamba, granite_hybrid, jamba, nemotron_h, striped_hyena, m2_bert };
std::string_view family_name(hf_family family);

enum class hf_activation { silu, gelu, gelu_tanh, relu2 };  // relu2: max(x, 0)^2; gelu: the exact one, by erf; gelu_tanh: that with tanh

/// Rotary embedding (Su et al. 2021, arXiv:2104.09864): inv_freq_i = theta^(-2i / rotary_dim), two halves of the head rotated.
struct hf_rope {
  enum class scaling_kind { none, linear, llama3 };
  double theta = 10000;
  scaling_kind scaling = scaling_kind::none;
  double factor = 1;                                 // linear: inv_freq / factor; llama3: that beyond the long wavelengths
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  std::int64_t original_context = 0;                 // llama3
  bool operator==(const hf_rope&) const = default;
};

// ---- sequence mixers

/// o(softmax(scale q k^T) v); query head i reads kv head i * kv_heads / heads.
struct hf_attention {
  std::int64_t heads = 1, kv_heads = 1, head_dim = 1;
  std::int64_t rotary_dim = 0;  // the first rotary_dim numbers of a head are rotated; 0: no positions
  std::int64_t window = 0;      // a query sees the last `window` keys, itself included; 0: all
  double scale = 1;             // head_dim^-0.5 unless the config says otherwise
  bool qkv_bias = false, out_bias = false;
  bool fused = false;  // one matrix, rows q, then k, then v
  bool operator==(const hf_attention&) const = default;
};

/// Mamba (Gu & Dao 2023, arXiv:2312.00752). in_proj rows: x, z. x_proj rows: dt [dt_rank], B [state], C [state].
struct hf_mamba1 {
  std::int64_t inner = 1, state = 1, conv = 1, dt_rank = 1;
  bool bias = false, conv_bias = true;  // of in_proj and out_proj; of the convolution
  bool inner_norms = false;             // Jamba: RMS norms over dt, B and C behind x_proj
  bool operator==(const hf_mamba1&) const = default;
};

/// Mamba-2 (Dao & Gu 2024, arXiv:2405.21060). inner = heads * head_dim; in_proj rows: z, x, B, C, dt; the convolution runs over x, B, C.
/// Then RMS norm of y * silu(z) over inner / groups channels, with the config's norm eps.
struct hf_mamba2 {
  std::int64_t heads = 1, head_dim = 1, groups = 1, state = 1, conv = 1, chunk = 1;
  bool bias = false, conv_bias = true;
  double dt_min = 0, dt_max = std::numeric_limits<double>::infinity();  // softplus(dt + dt_bias) is clamped to this
  bool operator==(const hf_mamba2&) const = default;
};

/// StripedHyena's gated convolution: projections of width 3 d_model with bias, a short causal convolution, a modal filter
/// h_t = Re sum_n residue_n pole_n^t shared by d_model / filters channels, gates, out_filter_dense with bias.
struct hf_hyena {
  std::int64_t filters = 1;  // distinct modal filters: d_model / hyena_filter_groups; each serves hyena_filter_groups neighbours
  std::int64_t state = 1, short_filter = 3;
  std::int64_t heads = 1;  // with column_split the 3 d_model channels lie head by head as [x2 | x1 | v]
  bool short_bias = true, column_split = true;
  bool operator==(const hf_hyena&) const = default;
};

/// Monarch Mixer's long convolution (Fu et al. 2023, arXiv:2310.12109) with implicit filters of `context` taps: a network of
/// `emb` features, width `order`, sin(w_mod * freq * x), two inner layers.
struct hf_monarch {
  std::int64_t context = 1, emb = 3, order = 16, short_filter = 3;
  double w_mod = 1;
  bool bidirectional = true, residual_long_conv = false;
  bool operator==(const hf_monarch&) const = default;
};

// ---- channel mixers

/// down(act(gate x) * up x), or down(act(up x)) when it is not gated.
struct hf_mlp {
  std::int64_t inner = 1;
  hf_activation activation = hf_activation::silu;
  bool gated = true, bias = false;  // M2-BERT's down has a bias in any case
  bool fused = false;               // one matrix, rows gate, then up
  std::int64_t blocks = 1;          // M2-BERT: matrices of this many diagonal blocks; 1: dense
  bool operator==(const hf_mlp&) const = default;
};

/// A token's `active` best of `experts` small MLPs, weighted by the router, beside one that all tokens pass (shared_inner > 0).
struct hf_moe {
  enum class router_kind { softmax, sigmoid };
  std::int64_t experts = 1, active = 1, inner = 1, shared_inner = 0;
  router_kind router = router_kind::softmax;  // sigmoid: a bias per expert is added for the choice alone
  bool renormalise = true;                    // the weights of the chosen add up to 1
  double scale = 1;                           // of the weights, last
  std::int64_t expert_groups = 1, active_groups = 1;
  hf_activation activation = hf_activation::silu;
  bool gated = true;
  bool stacked = false;  // a matrix of all experts in one tensor: [experts, inner, d_model]
  bool fused = false;    // when stacked: gate and up in one, [experts, 2 inner, d_model]
  bool operator==(const hf_moe&) const = default;
};

/// A residual block a part: x += residual * mixer(norm(x)), then x += residual * channel(norm(x)). std::monostate: there is none,
/// and no norm for it either.
struct hf_layer {
  std::variant<std::monostate, hf_attention, hf_mamba1, hf_mamba2, hf_hyena, hf_monarch> mixer;
  std::variant<std::monostate, hf_mlp, hf_moe> channel;
  bool operator==(const hf_layer&) const = default;
};

struct hf_config {
  hf_family family = hf_family::llama;
  std::string architecture;  // "LlamaForCausalLM"
  std::int64_t vocabulary = 1, d_model = 1;
  std::int64_t context = 0;  // positions that the model was made for; 0: no limit is given
  std::vector<hf_layer> layers;
  double norm_eps = 1e-5;
  /// RMS norms before each part and at the end; M2-BERT: layer norms of (x + channel(x)) behind each channel mixer, its mixer without
  /// norm and residual. StripedHyena's reference divides by rms + eps, its fused kernel has eps inside the root.
  enum class norm_kind { rms, layer } norm = norm_kind::rms;
  bool final_norm = true;
  bool tied_head = false;
  double embedding_multiplier = 1, residual_multiplier = 1;
  double logits_divisor = 1;
  std::optional<hf_rope> rope;                         // when some layer rotates
  std::int64_t positions = 0, token_types = 0;         // M2-BERT: rows of learned embeddings; 0: none
  bool mean_pooling = false;                           // M2-BERT: the pooler reads the mean of all tokens, not the first one
  std::string dtype;                                   // "float32", "float16", "bfloat16", or "" when the file does not say
  std::vector<std::int64_t> begin_tokens, end_tokens;  // ids in the vocabulary
  std::optional<std::int64_t> pad_token;               // likewise
  bool operator==(const hf_config&) const = default;
};

/// Reads a config.json. Every key is either used, known to be without effect on the numbers, or refused by its name, so that no
/// unknown mathematics is skipped. Errors: malformed, out_of_range, unsupported, too_large; they name `where` and the key.
expected<hf_config> read_hf_config(std::string_view text, const std::string& where);

/// A tensor by its part in the mathematics. Roles, each with ".bias" behind it for a bias:
///   model: embedding position_embedding token_type_embedding embedding_norm final_norm head
///     pooler head_transform head_norm (M2-BERT)
///   norms: mixer_norm channel_norm
///   attention: q_proj k_proj v_proj qkv_proj o_proj
///   mamba1, mamba2: in_proj conv x_proj dt_proj dt_bias A_log D dt_norm B_norm C_norm gated_norm out_proj
///   hyena: projections short_filter poles residues skip out_filter
///   monarch: in_proj short_filter out_proj; filter.N and filter.N.reverse (layer N = 0, 2, 4, 6 of the filter's network),
///     filter.freq, filter.D, filter.positions, filter.times, filter.decay; the same with residual_filter
///   mlp: gate_proj up_proj gate_up_proj down_proj
///   moe: router, router.correction, the mlp's roles with an expert or stacked, and shared.up_proj and so on
struct hf_tensor {
  std::string role;
  std::int64_t expert = -1;  // which, of a tensor that belongs to one
  std::string name;          // in the checkpoint
  std::vector<std::int64_t> shape;
  bool stacked = false;  // of all experts, [experts, ...]
};

/// Those outside the layers; a head only when it is not tied.
std::vector<hf_tensor> model_tensors(const hf_config& config);
/// Those of one layer; layer must be in range (contract_error).
std::vector<hf_tensor> layer_tensors(const hf_config& config, std::size_t layer);

}  // namespace isthmus
