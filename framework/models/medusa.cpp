#include "framework/models/medusa.hpp"

#include <algorithm>
#include <string>

namespace isthmus {

namespace {

std::string name_of(std::int64_t head) { return "medusa_head." + std::to_string(head) + "."; }

}  // namespace

void declare_medusa_heads(const model_config& config, tensor_list& tensors) {
  for (std::int64_t k = 0; k < config.medusa_heads; ++k) {
    tensors.add(name_of(k) + "0.linear.weight", {config.d_model, config.d_model}, true, constant_values(0));
    tensors.add_bias(name_of(k) + "0.linear.bias", config.d_model);
    tensors.add(name_of(k) + "1.weight", {config.vocabulary, config.d_model}, true, constant_values(0));
  }
}

void start_medusa_vocabularies(const model_config& config, const parameter_layout& layout, std::span<float> weights) {
  const parameter_view<float> parameters{layout, weights.data(), weights.data()};
  const float* begun = parameters.weight(config.tied_head ? "model.embed_tokens.weight" : "lm_head.weight");
  for (std::int64_t k = 0; k < config.medusa_heads; ++k)
    std::copy_n(begun, config.vocabulary * config.d_model, parameters.gradient(name_of(k) + "1.weight"));
}

template <class Act>
medusa_heads<Act>::medusa_heads(const model_config& config, const kernels::op_table<Act>& ops, const kernels::op_table<real>& real_ops,
                                const parameter_view<real>& parameters)
    : d_(config.d_model), vocabulary_(config.vocabulary), document_mark_(config.document_mark), real_ops_(real_ops) {
  for (std::int64_t k = 0; k < config.medusa_heads; ++k) {
    const layer_parts<Act> parts{ops, parameters, name_of(k) + "0.", real_ops};
    const std::string u = name_of(k) + "1.weight";
    heads_.push_back({projection<Act>(parts, {"linear.weight"}, true), ops.make_matrix(parameters.weight(u), vocabulary_, d_),
                      real_ops.make_quantised_matrix(parameters.weight(u), vocabulary_, d_, parameters.formats.weights),
                      parameters.gradient(u)});
  }
}

template <class Act>
void medusa_heads<Act>::place(std::int64_t rows, arena& memory) {
  if (heads_.empty()) return;
  for (Act** each : {&pre_, &r_, &d_r_}) *each = memory.take<Act>(rows * d_);
  wide_ = memory.take<real>(d_);
}

template <class Act>
void medusa_heads<Act>::weights_changed() {
  for (auto& h : heads_) {
    h.residual.matrix()->weights_changed();
    h.vocabulary->weights_changed();
    h.logits->weights_changed();
  }
}

template <class Act>
void medusa_heads<Act>::run(const layer_pass<Act>& p, const head& of, const Act* h) const {
  of.residual.forward(p, h, pre_);
  p.ops.activation(p.stream, {.x = pre_, .y = r_, .rows = p.rows(), .hidden = d_, .kind = kernels::activation_kind::silu, .gated = false});
  p.ops.add(p.stream, {.x = h, .y = r_, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
}

/// A head looks one token further than the one before it.
template <class Act>
void medusa_heads<Act>::targets_of_next(const layer_pass<Act>& p, const std::int32_t* inputs, std::int32_t* targets) const {
  for (std::int64_t r = 0; r < p.rows(); ++r) {
    const bool last = (r + 1) % p.length == 0;
    const bool ends = !last && document_mark_ >= 0 && inputs[r + 1] == document_mark_;
    targets[r] = last || ends ? kernels::no_target : targets[r + 1];
  }
}

template <class Act>
void medusa_heads<Act>::train(const layer_pass<Act>& p, const Act* h, const std::int32_t* inputs, std::int32_t* targets, real* losses,
                              Act* dh) const {
  double weight = medusa_loss_weight;
  for (const auto& of : heads_) {
    targets_of_next(p, inputs, targets);
    run(p, of, h);
    p.ops.cross_entropy(p.stream, {.head = of.vocabulary.get(),
                                   .h = r_,
                                   .targets = targets,
                                   .losses = losses,
                                   .dh = d_r_,
                                   .dw = of.d_vocabulary,
                                   .rows = p.rows(),
                                   .scale = p.loss_scale * static_cast<real>(weight)});
    p.ops.activation_backward(p.stream, {.x = pre_,
                                         .dy = d_r_,
                                         .dx = pre_,
                                         .y = nullptr,
                                         .rows = p.rows(),
                                         .hidden = d_,
                                         .kind = kernels::activation_kind::silu,
                                         .gated = false});
    of.residual.backward(p, h, pre_, r_);
    for (const Act* part : {d_r_, r_})
      p.ops.add(p.stream, {.x = part, .y = dh, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
    weight *= medusa_loss_decay;
  }
}

template <class Act>
void medusa_heads<Act>::logits(const layer_pass<Act>& p, const Act* h, real* out) const {
  for (const auto& of : heads_) {
    run(p, of, h);
    std::transform(r_, r_ + d_, wide_, [](Act x) { return static_cast<real>(x); });
    real_ops_.linear(p.stream, {.w = of.logits.get(), .x = wide_, .y = out, .rows = 1, .x_stride = d_, .y_stride = vocabulary_});
    out += vocabulary_;
  }
}

template class medusa_heads<float>;
template class medusa_heads<kernels::bf16>;
template class medusa_heads<double>;

}  // namespace isthmus
