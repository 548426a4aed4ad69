#include "tests/kernels/make_case.hpp"

#include <string>

// What works row by row: norms, biases, functions of channels.
namespace isthmus::kernels::testing {

namespace {

kernel_case rms_norm_case(std::int64_t rows, std::int64_t cols, bool fused) {
  return make(fused ? "rms_norm with residual" : "rms_norm", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    auto x = random.reals<Act>(rows * cols);
    const auto branch = random.act<Act>(rows * cols), dy = random.act<Act>(rows * cols);
    const auto gain = random.reals<Act>(cols, 0.3, 1);
    auto y = random.blank<Act>(rows * cols), d_branch = random.blank<Act>(rows * cols);
    auto rstd = random.blank<R>(rows), dx = random.reals<Act>(rows * cols), d_gain = random.reals<Act>(cols);
    ops.rms_norm(s, {.residual = x.data(),
                     .branch = fused ? branch.data() : nullptr,
                     .gain = gain.data(),
                     .x = x.data(),
                     .y = y.data(),
                     .rstd = rstd.data(),
                     .rows = rows,
                     .cols = cols,
                     .eps = R(1e-5F)});
    ops.rms_norm_backward(s, {.dy = dy.data(),
                              .x = x.data(),
                              .gain = gain.data(),
                              .rstd = rstd.data(),
                              .d_residual = fused ? dx.data() : nullptr,
                              .dx = dx.data(),
                              .d_branch = fused ? d_branch.data() : nullptr,
                              .d_gain = d_gain.data(),
                              .rows = rows,
                              .cols = cols});
    outputs o;
    o.add("x", x);
    o.add("y", y);
    o.add("rstd", rstd);
    o.add("dx", dx);
    o.add("d_branch", d_branch);
    o.add("d_gain", d_gain);
    return o;
  });
}

kernel_case layer_norm_case(std::int64_t rows, std::int64_t cols, bool fused, bool residual = true) {
  return make(!residual ? "layer_norm of a branch alone"
              : fused   ? "layer_norm with residual"
                        : "layer_norm",
              [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
                using R = real<Act>;
                auto x = random.reals<Act>(rows * cols);
                const auto branch = random.act<Act>(rows * cols), dy = random.act<Act>(rows * cols);
                const auto gain = random.reals<Act>(cols, 0.3, 1), bias = random.reals<Act>(cols);
                auto y = random.blank<Act>(rows * cols), d_branch = random.blank<Act>(rows * cols);
                auto mean = random.blank<R>(rows), rstd = random.blank<R>(rows), dx = random.reals<Act>(rows * cols);
                auto d_gain = random.reals<Act>(cols), d_bias = random.reals<Act>(cols);
                ops.layer_norm(s, {.residual = residual ? x.data() : nullptr,
                                   .branch = fused ? branch.data() : nullptr,
                                   .gain = gain.data(),
                                   .bias = bias.data(),
                                   .x = x.data(),
                                   .y = y.data(),
                                   .mean = mean.data(),
                                   .rstd = rstd.data(),
                                   .rows = rows,
                                   .cols = cols,
                                   .eps = R(1e-5F)});
                ops.layer_norm_backward(s, {.dy = dy.data(),
                                            .x = x.data(),
                                            .gain = gain.data(),
                                            .mean = mean.data(),
                                            .rstd = rstd.data(),
                                            .d_residual = fused ? dx.data() : nullptr,
                                            .dx = dx.data(),
                                            .d_branch = fused ? d_branch.data() : nullptr,
                                            .d_gain = d_gain.data(),
                                            .d_bias = d_bias.data(),
                                            .rows = rows,
                                            .cols = cols});
                outputs o;
                o.add("x", x);
                o.add("y", y);
                o.add("mean", mean);
                o.add("rstd", rstd);
                o.add("dx", dx);
                o.add("d_branch", d_branch);
                o.add("d_gain", d_gain);
                o.add("d_bias", d_bias);
                return o;
              });
}

kernel_case bias_case(std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  return make("bias", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const auto bias = random.reals<Act>(cols);
    const auto dy = random.act<Act>(rows * stride);
    auto y = random.act<Act>(rows * stride);
    auto d_bias = random.reals<Act>(cols);
    ops.bias(s, {.bias = bias.data(), .y = y.data(), .rows = rows, .cols = cols, .y_stride = stride});
    ops.bias_backward(s, {.dy = dy.data(), .d_bias = d_bias.data(), .rows = rows, .cols = cols, .dy_stride = stride});
    outputs o;
    o.add("y", y);
    o.add("d_bias", d_bias);
    return o;
  });
}

kernel_case shuffle_case(std::int64_t rows, std::int64_t outer, std::int64_t inner) {
  return make("shuffle", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const auto x = random.act<Act>(rows * outer * inner);
    auto y = random.blank<Act>(rows * outer * inner), back = y;
    ops.shuffle(s, {x.data(), y.data(), rows, outer, inner});
    ops.shuffle(s, {y.data(), back.data(), rows, inner, outer});
    outputs o;
    o.add("y", y);
    o.add("back", back);
    return o;
  });
}

kernel_case column_norm_case(std::int64_t rows, std::int64_t cols, std::int64_t pad) {
  return make("column_norm of " + std::to_string(cols), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t stride = cols + pad;
    const auto x = random.act<Act>(rows * stride);
    auto dy = random.act<Act>(rows * stride), y = random.blank<Act>(rows * stride), dx = y;
    const auto gain = random.reals<Act>(cols, 0.3, 1);
    auto d_gain = random.reals<Act>(cols);
    const auto eps = real<Act>(1e-5F);
    ops.column_norm(s, {x.data(), gain.data(), y.data(), rows, cols, stride, stride, eps});
    column_norm_backward_args<Act> back{dy.data(), x.data(), gain.data(), dx.data(), d_gain.data(), rows, cols,
                                        stride,    stride,   stride,      eps};
    ops.column_norm_backward(s, back);
    back.dx = dy.data();  // in place
    ops.column_norm_backward(s, back);
    outputs o;
    o.add("y", y);
    o.add("dx", dx);
    o.add("dx in place", dy);
    o.add("d_gain", d_gain);
    return o;
  });
}

kernel_case gated_norm_case(std::int64_t rows, std::int64_t cols, std::int64_t groups, std::int64_t stride) {
  return make("gated_norm, groups " + std::to_string(groups), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const auto y = random.act<Act>(rows * cols), z = random.act<Act>(rows * stride);
    auto d_out = random.act<Act>(rows * cols);
    const auto gain = random.reals<Act>(cols, 0.3, 1);
    auto out = random.blank<Act>(rows * cols), dz = random.blank<Act>(rows * stride);
    auto rstd = random.blank<R>(rows * groups), d_gain = random.reals<Act>(cols);
    ops.gated_norm(s, {.y = y.data(),
                       .z = z.data(),
                       .gain = gain.data(),
                       .out = out.data(),
                       .rstd = rstd.data(),
                       .rows = rows,
                       .cols = cols,
                       .groups = groups,
                       .z_stride = stride,
                       .eps = R(1e-5F)});
    ops.gated_norm_backward(s, {.d_out = d_out.data(),
                                .y = y.data(),
                                .z = z.data(),
                                .gain = gain.data(),
                                .rstd = rstd.data(),
                                .dy = d_out.data(),
                                .dz = dz.data(),
                                .d_gain = d_gain.data(),
                                .rows = rows,
                                .cols = cols,
                                .groups = groups,
                                .z_stride = stride,
                                .dz_stride = stride});
    outputs o;
    o.add("out", out);
    o.add("rstd", rstd);
    o.add("dy", d_out);
    o.add("dz", dz);
    o.add("d_gain", d_gain);
    return o;
  });
}

kernel_case activation_case(std::int64_t rows, std::int64_t hidden, activation_kind kind, bool gated) {
  const std::string name = "activation " + std::to_string(static_cast<int>(kind)) + (gated ? ", gated" : "");
  return make(name, [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t width = gated ? 2 * hidden : hidden;
    auto x = random.act<Act>(rows * width, 2), dy = random.act<Act>(rows * hidden);
    auto y = random.blank<Act>(rows * hidden), dx = random.blank<Act>(rows * width);
    ops.activation(s, {x.data(), y.data(), rows, hidden, kind, gated});
    ops.activation_backward(s, {x.data(), dy.data(), dx.data(), nullptr, rows, hidden, kind, gated});
    ops.activation_backward(s, {x.data(), dy.data(), x.data(), dy.data(), rows, hidden, kind, gated});  // in place, as the model has it
    outputs o;
    o.add("y", y);
    o.add("dx", dx);
    o.add("dx in place", x);
    o.add("y again", dy);
    return o;
  });
}

}  // namespace

std::vector<kernel_case> row_cases() {
  return {rms_norm_case(5, 64, false),
          rms_norm_case(37, 80, true),
          rms_norm_case(130, 19, true),
          gated_norm_case(9, 64, 1, 64),
          gated_norm_case(70, 96, 2, 100),
          layer_norm_case(9, 64, true),
          layer_norm_case(70, 37, false),
          layer_norm_case(33, 53, true),
          layer_norm_case(41, 45, true, false),
          bias_case(70, 32, 48),
          shuffle_case(35, 4, 12),
          bias_case(33, 21, 37),
          activation_case(13, 24, activation_kind::silu, true),
          activation_case(70, 37, activation_kind::silu, false),
          activation_case(13, 24, activation_kind::gelu, false),
          activation_case(70, 37, activation_kind::gelu, true),
          activation_case(70, 37, activation_kind::gelu_tanh, true),
          activation_case(13, 24, activation_kind::relu2, false),
          column_norm_case(9, 16, 0),
          column_norm_case(70, 5, 8),
          column_norm_case(33, 300, 3)};
}

}  // namespace isthmus::kernels::testing
