#pragma once

#include "framework/core/buffer.hpp"
#include "framework/layers/layer_kind.hpp"
#include "framework/models/activation_plan.hpp"
#include "framework/models/config.hpp"
#include "framework/models/learner.hpp"
#include "framework/models/medusa.hpp"
#include "framework/models/sequence_state.hpp"
#include "framework/tensor/arena.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace isthmus {

/// The arithmetic behind hybrid_model, for any type of activations whose weights are Real. Borrows weights and gradients.
template <class Real>
class network {
public:
  virtual ~network() = default;
  virtual void weights_changed() = 0;
  /// The sum of the token losses in nats; with `backward` the gradient of that sum * scale is added to the gradients.
  virtual double run(const token_batch& batch, double scale, bool backward) = 0;
  /// Of training on batches of up to `rows` rows. Fewer rows at once go before layers that are computed twice, down to 256 tokens; then whichever frees
  /// most bytes a weight comes first. Throws contract_error when not even a single row fits.
  virtual activation_plan plan(std::int64_t rows, std::int64_t context) = 0;
  virtual sequence_state start() const = 0;
  /// Gives the logits that follow each of the ids that a sequence wants them of, [sum of last, vocabulary].
  virtual std::span<const Real> advance(std::span<const sequence_input> sequences) = 0;
  /// The logits at some places of a whole text, [places, vocabulary].
  virtual std::span<const Real> predict(std::span<const std::int32_t> ids, std::span<const std::int64_t> places) = 0;
  /// Of the Medusa heads after id `row` of those that were just read, [heads, vocabulary].
  virtual std::span<const Real> head_logits(std::int64_t row) = 0;
};

/// A network whose activations are of type Act: float, bf16, or double (with the reference kernels, to check gradients).
template <class Act>
class hybrid_network final : public network<kernels::real<Act>> {
public:
  using real = kernels::real<Act>;
  /// weights, gradients: [layout.size]. Borrows all but config. real_ops: of the same backend, for the logits that decoding gives.
  /// gradients may be null: then it does not train, and projections and the logits' head read the weights in `format`.
  hybrid_network(const model_config& config, const parameter_layout& layout, const kernels::op_table<Act>& ops,
                 const kernels::op_table<real>& real_ops, kernels::stream& stream, const real* weights, real* gradients,
                 std::int64_t tokens_at_once, const inference_formats& formats = {});
  void weights_changed() override;
  double run(const token_batch& batch, double scale, bool backward) override;
  activation_plan plan(std::int64_t rows, std::int64_t context) override;
  sequence_state start() const override;
  std::span<const real> advance(std::span<const sequence_input> sequences) override;
  std::span<const real> predict(std::span<const std::int32_t> ids, std::span<const std::int64_t> places) override;
  std::span<const real> head_logits(std::int64_t row) override;

private:
  struct norm {
    parameter<real> gain{}, bias{};         // bias: of a LayerNorm
    real *mean = nullptr, *rstd = nullptr;  // [rows]; mean: of a LayerNorm
    Act* y = nullptr;                       // [rows, d]
  };
  /// x += mix(norm(x)): a sequence or a channel mixer with its norm. Of an encoder: x = norm(x + mix(x)), or x = mix(x) without a norm.
  struct block {
    norm before;  // in an encoder behind
    std::unique_ptr<layer<Act>> mix;
    std::int64_t weights = 0;
    real* x = nullptr;  // [rows, d]: what the norm reads, in a decoder the residual stream
    bool recomputed = false;
    const Act* input = nullptr;  // [rows, d], of an encoder: what mix read
    bool alone() const { return before.gain.weight == nullptr; }
  };
  /// What an encoder has around its layers.
  struct encoder_ends {
    parameter<real> positions, types;           // embeddings; null: none
    norm embedded;                              // of their sum with the tokens'
    projection<Act> dense;                      // before the head
    norm head_norm;                             // of gelu of that
    parameter<real> bias;                       // of the logits
    real *sum = nullptr, *activated = nullptr;  // [rows, d]: what the two norms read
    Act* dense_out = nullptr;                   // [rows, d]; backward leaves its gradient there
  };

  norm norm_of(const parameter_view<real>& parameters, const std::string& name) const;  // "model.final_layernorm"
  void add_block(const parameter_view<real>& parameters, const std::string& prefix, const std::string& norm_name,
                 const std::optional<layer_shape>& shape);
  void place(std::int64_t batch, std::int64_t length);
  void place_in(arena& memory);
  void place_norm(norm& n, arena& memory) const;
  std::int64_t bytes_of_pass(std::int64_t batch, std::int64_t length);
  bool recompute_to_fit(std::int64_t batch, std::int64_t length, bool backward);
  void make_plan(std::int64_t rows, std::int64_t context, bool backward);
  const activation_plan& follow_plan(std::int64_t rows, std::int64_t context, bool backward);
  void check_ids(std::span<const std::int32_t> ids) const;
  void check_length(std::int64_t tokens) const;
  layer_pass<Act> pass(std::int64_t first_position, real loss_scale);
  void find_documents();
  void gather(std::span<const sequence_input> sequences);
  void normalise(const layer_pass<Act>& p, const norm& n, const real* residual, const Act* branch, real* x) const;
  const Act* normalise_backward(const layer_pass<Act>& p, const norm& n, const Act* dy, const real* x, bool last);
  double piece(const token_batch& batch, real scale, bool backward);
  /// inputs_ through all layers: what the head reads, [rows, d].
  const Act* forward(layer_pass<Act>& p);
  void backward_blocks(const layer_pass<Act>& p);
  real* room_for_logits(std::int64_t numbers);

  // An encoder's, network_encoder.cpp.
  void add_ends(const parameter_view<real>& parameters);
  void place_ends(arena& memory);
  const Act* embed(const layer_pass<Act>& p);
  const Act* forward(const layer_pass<Act>& p, block& b, const Act* input);
  const Act* forward_encoder(const layer_pass<Act>& p);
  void backward_head(const layer_pass<Act>& p);
  void backward_embeddings(const layer_pass<Act>& p, const Act* dy);
  void backward_encoder(const layer_pass<Act>& p);

  model_config config_;
  std::int64_t tokens_at_once_;
  const kernels::op_table<Act>& ops_;
  const kernels::op_table<real>& real_ops_;
  kernels::stream& stream_;
  const real* embedding_;
  real *d_embedding_, *d_head_;  // the same when the head is tied
  std::unique_ptr<kernels::matrix<Act>> head_;
  std::unique_ptr<kernels::matrix<real>> logits_head_;  // the same weights: sampling wants logits that are not rounded to Act
  std::vector<block> blocks_;
  norm final_norm_;                      // of a decoder
  std::optional<encoder_ends> encoder_;  // of an encoder
  medusa_heads<Act> medusa_;

  rotary_tables<real> rotary_;
  std::unique_ptr<buffer> memory_, logits_memory_;
  std::int64_t batch_ = 0, length_ = 0;  // what the memory is laid out for
  std::vector<moving_sequence> moving_;
  struct planned {
    std::int64_t rows = 0, context = 0;  // what it is for
    activation_plan plan;
  };
  planned plans_[2];                                                 // of passes forward alone, and forward and backward
  std::int32_t *inputs_ = nullptr, *targets_ = nullptr;              // [rows]
  std::int32_t* first_keys_ = nullptr;                               // [rows], where documents are told apart
  real *x_out_ = nullptr, *d_x_ = nullptr, *losses_ = nullptr;       // [rows, d] twice, [rows]
  Act *branch_ = nullptr, *d_branch_ = nullptr, *d_norm_ = nullptr;  // [rows, d]
};

}  // namespace isthmus
