#pragma once

#include "framework/layers/pass.hpp"
#include "framework/layers/tensor_list.hpp"
#include "framework/models/config.hpp"
#include "framework/tensor/arena.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace isthmus {

/// What the heads' losses are multiplied by together, and each by what its predecessor's is: 0.2 * sum_k 0.8^k loss_k beside the model's
/// own (Medusa-2, Cai et al. 2024, arXiv:2401.10774, section 2.2.2).
constexpr double medusa_loss_weight = 0.2, medusa_loss_decay = 0.8;

/// Appends the tensors of model.medusa_heads heads: "medusa_head.k.0.linear.{weight,bias}", zeros, and "medusa_head.k.1.weight", for
/// which start_medusa_vocabularies has the values.
void declare_medusa_heads(const model_config& config, tensor_list& tensors);
/// Each head's vocabulary matrix begins as the model's: the head, or the embedding where it is tied. weights: [layout.size].
void start_medusa_vocabularies(const model_config& config, const parameter_layout& layout, std::span<float> weights);

/// Medusa's heads, Cai et al. 2024, arXiv:2401.10774, section 2.1.1. From the last norm's output h_t of token t, head k = 0 ... predicts
/// token t + k + 2:
///   r = h + silu(W h + b),  logits = U r        W [d, d], b [d], U [vocabulary, d]
template <class Act>
class medusa_heads {
public:
  using real = kernels::real<Act>;
  /// Borrows what the view does.
  medusa_heads(const model_config& config, const kernels::op_table<Act>& ops, const kernels::op_table<real>& real_ops,
               const parameter_view<real>& parameters);
  std::int64_t count() const { return std::ssize(heads_); }
  /// Memory of its own in passes of so many rows.
  void place(std::int64_t rows, arena& memory);
  void weights_changed();

  /// Adds the gradients of the heads' losses, of rows whose own targets are `targets`. h: [rows, d]; dh [rows, d] grows. Moves targets on;
  /// losses: [rows] of memory. A target behind the row's end, or behind a mark that stands between it and the token, counts nothing.
  void train(const layer_pass<Act>& p, const Act* h, const std::int32_t* inputs, std::int32_t* targets, real* losses, Act* dh) const;
  /// The logits of each head from one row of h, [count, vocabulary]. p: of one row.
  void logits(const layer_pass<Act>& p, const Act* h, real* out) const;

private:
  struct head {
    projection<Act> residual;
    std::unique_ptr<kernels::matrix<Act>> vocabulary;
    std::unique_ptr<kernels::matrix<real>> logits;  // the same weights, as the model's head has them twice
    real* d_vocabulary;
  };
  /// pre_ = W h + b, r_ = h + silu(pre_).
  void run(const layer_pass<Act>& p, const head& of, const Act* h) const;
  void targets_of_next(const layer_pass<Act>& p, const std::int32_t* inputs, std::int32_t* targets) const;

  std::int64_t d_, vocabulary_;
  std::int32_t document_mark_;
  const kernels::op_table<real>& real_ops_;
  std::vector<head> heads_;
  Act *pre_ = nullptr, *r_ = nullptr, *d_r_ = nullptr;  // [rows, d]
  real* wide_ = nullptr;                                // [d]
};

}  // namespace isthmus
