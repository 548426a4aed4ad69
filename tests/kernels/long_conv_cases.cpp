#include "tests/kernels/make_case.hpp"

#include <cmath>
#include <cstdint>

namespace isthmus::kernels::testing {

namespace {

struct conv1d_shape {
  std::int64_t batch, length, channels, filters, width, pad;
  bool carried, silu;
  std::string name() const {
    return "conv1d " + std::to_string(batch) + "x" + std::to_string(length) + " channels " + std::to_string(channels) + "/" +
           std::to_string(filters) + " taps " + std::to_string(width) + (carried ? " from a state" : "") + (silu ? " silu" : "");
  }
};

/// Those with silu have a bias and no skip, the others a skip and no bias.
kernel_case conv1d_case(conv1d_shape a) {
  return make(a.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t rows = a.batch * a.length, stride = a.channels + a.pad, taps = a.filters * a.width;
    const auto x = random.act<Act>(rows * stride), dy = random.act<Act>(rows * a.channels);
    const auto weight = random.reals<Act>(taps, 0.5), each = random.reals<Act>(a.channels, 0.5);
    auto state = random.act<Act>(a.batch * (a.width - 1) * a.channels), d_state = random.act<Act>(a.batch * (a.width - 1) * a.channels);
    const auto initial = state;
    auto y = random.blank<Act>(rows * a.channels), dx = random.blank<Act>(rows * stride), step_y = random.blank<Act>(a.channels);
    auto d_weight = random.reals<Act>(taps), d_each = random.reals<Act>(a.channels);
    const auto* bias = a.silu ? each.data() : nullptr;
    const auto* skip = a.silu ? nullptr : each.data();
    const auto f = a.silu ? conv_activation::silu : conv_activation::none;
    ops.conv1d(s, {.x = x.data(),
                   .weight = weight.data(),
                   .bias = bias,
                   .skip = skip,
                   .y = y.data(),
                   .initial = a.carried ? state.data() : nullptr,
                   .final = state.data(),
                   .batch = a.batch,
                   .length = a.length,
                   .channels = a.channels,
                   .filters = a.filters,
                   .width = a.width,
                   .x_stride = stride,
                   .activation = f});
    ops.conv1d_backward(s, {.x = x.data(),
                            .weight = weight.data(),
                            .bias = bias,
                            .skip = skip,
                            .dy = dy.data(),
                            .dx = dx.data(),
                            .d_weight = d_weight.data(),
                            .d_bias = a.silu ? d_each.data() : nullptr,
                            .d_skip = a.silu ? nullptr : d_each.data(),
                            .initial = a.carried ? initial.data() : nullptr,
                            .d_final = a.carried ? d_state.data() : nullptr,
                            .d_initial = a.carried ? d_state.data() : nullptr,
                            .batch = a.batch,
                            .length = a.length,
                            .channels = a.channels,
                            .filters = a.filters,
                            .width = a.width,
                            .x_stride = stride,
                            .dx_stride = stride,
                            .activation = f});
    ops.conv1d_step(s, {.x = x.data(),
                        .weight = weight.data(),
                        .bias = bias,
                        .skip = skip,
                        .state = state.data(),
                        .y = step_y.data(),
                        .channels = a.channels,
                        .filters = a.filters,
                        .width = a.width,
                        .activation = f});
    outputs o;
    o.add("y", y);
    o.add("state", state);
    o.add("dx", dx);
    o.add("d_weight", d_weight);
    o.add("d_bias or d_skip", d_each);
    o.add("d_initial", d_state);
    o.add("step y", step_y);
    return o;
  });
}

struct long_conv_shape {
  std::int64_t batch, length, channels, filters, taps;
  bool gated, both_sides, with_d;
  std::string name() const {
    return "long_conv " + std::to_string(batch) + "x" + std::to_string(length) + " channels " + std::to_string(channels) + "/" +
           std::to_string(filters) + " taps " + std::to_string(taps) + (gated ? " gated" : "") + (both_sides ? " both sides" : "");
  }
};

/// v, x1 and x2 are columns of one projection; outputs have a stride of their own.
kernel_case long_conv_case(long_conv_shape a) {
  return make(a.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t rows = a.batch * a.length, n = a.channels, stride = 3 * n + 5, y_stride = n + 3, taps = a.filters * a.taps;
    const auto x = random.act<Act>(rows * stride), dy = random.act<Act>(rows * y_stride);
    const auto h = random.reals<Act>(taps, 0.3), h_back = random.reals<Act>(taps, 0.3), d = random.reals<Act>(n);
    auto y = random.blank<Act>(rows * y_stride), dx = random.blank<Act>(rows * stride);
    auto dh = random.reals<Act>(taps), dh_back = random.reals<Act>(taps), dd = random.reals<Act>(n);
    const auto plan = ops.make_long_conv_plan(a.length);
    for (int round = 0; round < 2; ++round)  // a plan serves more than once
      ops.long_conv(s, {.plan = plan.get(),
                        .v = x.data(),
                        .x1 = a.gated ? x.data() + n : nullptr,
                        .x2 = a.gated ? x.data() + 2 * n : nullptr,
                        .h = h.data(),
                        .h_back = a.both_sides ? h_back.data() : nullptr,
                        .d = a.with_d ? d.data() : nullptr,
                        .y = y.data(),
                        .batch = a.batch,
                        .length = a.length,
                        .channels = n,
                        .filters = a.filters,
                        .taps = a.taps,
                        .x_stride = stride,
                        .y_stride = y_stride});
    ops.long_conv_backward(s, {.plan = plan.get(),
                               .v = x.data(),
                               .x1 = a.gated ? x.data() + n : nullptr,
                               .x2 = a.gated ? x.data() + 2 * n : nullptr,
                               .h = h.data(),
                               .h_back = a.both_sides ? h_back.data() : nullptr,
                               .d = a.with_d ? d.data() : nullptr,
                               .dy = dy.data(),
                               .dv = dx.data(),
                               .dx1 = a.gated ? dx.data() + n : nullptr,
                               .dx2 = a.gated ? dx.data() + 2 * n : nullptr,
                               .dh = dh.data(),
                               .dh_back = a.both_sides ? dh_back.data() : nullptr,
                               .dd = a.with_d ? dd.data() : nullptr,
                               .batch = a.batch,
                               .length = a.length,
                               .channels = n,
                               .filters = a.filters,
                               .taps = a.taps,
                               .x_stride = stride,
                               .dy_stride = y_stride,
                               .dx_stride = stride});
    outputs o;
    o.add("y", y);
    o.add("dv, dx1, dx2", dx);
    o.add("dh", dh);
    o.add("dh_back", dh_back);
    o.add("dd", dd);
    return o;
  });
}

struct modal_shape {
  std::int64_t batch, length, channels, modes;
  modal_form form;
  bool gated, carried;
  std::string name() const {
    return std::string("modal ") + (form == modal_form::complex ? "complex " : "decays ") + std::to_string(batch) + "x" +
           std::to_string(length) + " channels " + std::to_string(channels) + " modes " + std::to_string(modes);
  }
};

/// Poles from 0.5 to about 0.999 in magnitude.
template <class Act>
std::vector<real<Act>> some_poles(modal_form form, std::int64_t count, placed_inputs& random) {
  std::vector<real<Act>> poles;
  const auto raw = random.host.reals<double>(2 * count);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const double magnitude = 1 - std::exp(-0.7 - 3 * std::abs(raw[2 * i])), angle = raw[2 * i + 1];
    if (form == modal_form::decays) {
      poles.push_back(static_cast<float>(std::log(magnitude)));
    } else {
      poles.push_back(static_cast<float>(magnitude * std::cos(angle)));
      poles.push_back(static_cast<float>(magnitude * std::sin(angle)));
    }
  }
  return poles;
}

/// The filter and its gradients, a scan and one step behind it.
kernel_case modal_case(modal_shape a) {
  return make(a.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t n = a.channels, rows = a.batch * a.length, stride = 3 * n + 1, modes = n * a.modes;
    const std::int64_t numbers = modes * (a.form == modal_form::complex ? 2 : 1);
    const auto poles = random.place(some_poles<Act>(a.form, modes, random));
    const auto residues = random.reals<Act>(numbers, 0.3), d = random.reals<Act>(n), dh = random.reals<Act>(n * a.length);
    const auto x = random.act<Act>(rows * stride);
    auto h = random.blank<real<Act>>(n * a.length), d_poles = random.reals<Act>(numbers), d_residues = random.reals<Act>(numbers);
    const std::int64_t chunks = (a.length + modal_scan_chunk - 1) / modal_scan_chunk;
    auto state = random.reals<Act>(a.batch * numbers), d_state = random.reals<Act>(a.batch * numbers), d_d = random.reals<Act>(n);
    auto states = random.blank<real<Act>>(a.batch * chunks * numbers);
    const auto dy = random.act<Act>(rows * (n + 2));
    auto dx = random.blank<Act>(rows * stride);
    auto y = random.blank<Act>(rows * (n + 2)), step_y = random.blank<Act>(n);
    ops.modal_filter(s, {a.form, poles.data(), residues.data(), h.data(), n, a.modes, a.length});
    ops.modal_filter_backward(s,
                              {a.form, poles.data(), residues.data(), dh.data(), d_poles.data(), d_residues.data(), n, a.modes, a.length});
    const Act* x1 = a.gated ? x.data() + n : nullptr;
    const Act* x2 = a.gated ? x.data() + 2 * n : nullptr;
    ops.modal_scan(s, {.form = a.form,
                       .poles = poles.data(),
                       .residues = residues.data(),
                       .d = a.gated ? d.data() : nullptr,
                       .v = x.data(),
                       .x1 = x1,
                       .x2 = x2,
                       .y = y.data(),
                       .initial = a.carried ? state.data() : nullptr,
                       .final = state.data(),
                       .states = states.data(),
                       .batch = a.batch,
                       .length = a.length,
                       .channels = n,
                       .modes = a.modes,
                       .x_stride = stride,
                       .y_stride = n + 2});
    ops.modal_scan_backward(s, {.form = a.form,
                                .poles = poles.data(),
                                .residues = residues.data(),
                                .d = a.gated ? d.data() : nullptr,
                                .v = x.data(),
                                .x1 = x1,
                                .x2 = x2,
                                .dy = dy.data(),
                                .states = states.data(),
                                .dv = dx.data(),
                                .dx1 = dx.data() + n,
                                .dx2 = dx.data() + 2 * n,
                                .d_poles = d_poles.data(),
                                .d_residues = d_residues.data(),
                                .d_d = d_d.data(),
                                .d_final = a.carried ? d_state.data() : nullptr,
                                .d_initial = a.carried ? d_state.data() : nullptr,
                                .batch = a.batch,
                                .length = a.length,
                                .channels = n,
                                .modes = a.modes,
                                .x_stride = stride,
                                .dy_stride = n + 2,
                                .dx_stride = stride});
    ops.modal_step(s, {.form = a.form,
                       .poles = poles.data(),
                       .residues = residues.data(),
                       .d = a.gated ? d.data() : nullptr,
                       .v = x.data(),
                       .x1 = x1,
                       .x2 = x2,
                       .state = state.data(),
                       .y = step_y.data(),
                       .channels = n,
                       .modes = a.modes});
    outputs o;
    o.add("h", h);
    o.add("d_poles of filter and scan", d_poles);
    o.add("d_residues of filter and scan", d_residues);
    o.add("d_d", d_d);
    o.add("dx", dx);
    o.add("d_initial", d_state);
    o.add("y", y);
    o.add("states", states);
    o.add("state", state);
    o.add("step y", step_y);
    return o;
  });
}

/// Taps far out count as much as the first: they are compared by themselves.
kernel_case long_filter_case(modal_form form, std::int64_t taps) {
  return make("modal filter of many taps", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    std::vector<R> poles, residues;
    for (const float slow : {1e-4F, 7e-4F, 3e-5F}) {
      residues.push_back(slow * 300);
      if (form == modal_form::decays) {
        poles.push_back(-slow);
        continue;
      }
      poles.push_back((1 - slow) * 0.8F);
      poles.push_back((1 - slow) * 0.6F);
      residues.push_back(0.5F);
    }
    const auto numbers = static_cast<std::int64_t>(poles.size());
    const auto p = random.place(poles), r = random.place(residues), dh = random.reals<Act>(taps, 0.01);
    auto h = random.blank<R>(taps), dp = random.reals<Act>(numbers), dr = random.reals<Act>(numbers);
    ops.modal_filter(s, {form, p.data(), r.data(), h.data(), 1, 3, taps});
    ops.modal_filter_backward(s, {form, p.data(), r.data(), dh.data(), dp.data(), dr.data(), 1, 3, taps});
    outputs o;
    o.add("h", h);
    const auto& all = o.tensors[0].second;
    std::vector<double> last(all.end() - 1000, all.end());
    o.tensors.emplace_back("the last of h", std::move(last));
    o.add("d_poles", dp);
    o.add("d_residues", dr);
    return o;
  });
}

}  // namespace

std::vector<kernel_case> convolution_cases() {
  return {conv1d_case({2, 3, 20, 20, 4, 7, false, true}), conv1d_case({2, 70, 48, 48, 4, 0, true, true}),
          conv1d_case({1, 2, 16, 16, 4, 3, true, true}), conv1d_case({1, 9, 17, 17, 2, 0, false, true}),
          conv1d_case({2, 33, 36, 12, 3, 5, false, false}), conv1d_case({1, 40, 24, 2, 7, 0, true, false}),
          conv1d_case({2, 150, 40, 10, 128, 4, true, false}), conv1d_case({1, 600, 34, 34, 31, 0, false, true}),
          conv1d_case({1, 20, 6, 3, 128, 0, true, true}), conv1d_case({2, 30, 57, 3, 128, 0, true, false}),
          conv1d_case({1, 1, 40, 2, 5, 0, true, true}),
          // Transforms of 16, 32, 48, 64, 96, 128, 512 points and so on, whole and with zeros behind.
          long_conv_case({1, 1, 3, 3, 1, false, false, true}), long_conv_case({2, 16, 16, 16, 16, true, false, true}),
          long_conv_case({1, 31, 20, 20, 31, true, true, true}), long_conv_case({2, 48, 33, 11, 40, true, false, false}),
          long_conv_case({1, 64, 34, 2, 100, false, true, true}), long_conv_case({1, 90, 40, 1, 90, true, false, true}),
          long_conv_case({1, 128, 18, 18, 128, true, true, false}), long_conv_case({2, 300, 17, 17, 300, true, false, true}),
          long_conv_case({1, 512, 5, 5, 512, false, false, false}), long_conv_case({1, 1000, 4, 4, 1000, true, true, true}),
          long_conv_case({1, 2100, 3, 3, 2100, true, false, true}),
          // Few taps, which the reference can afford: transforms beyond what a GPU's block holds, by one, two and four levels.
          long_conv_case({1, 20000, 4, 2, 9, true, true, true}), long_conv_case({2, 33000, 2, 2, 12, true, false, true}),
          long_conv_case({1, 140000, 1, 1, 5, false, true, false}), modal_case({2, 150, 20, 2, modal_form::complex, true, true}),
          modal_case({1, 1, 5, 3, modal_form::complex, false, true}), modal_case({1, 700, 16, 5, modal_form::complex, false, false}),
          modal_case({2, 130, 37, 16, modal_form::decays, true, true}), modal_case({1, 64, 3, 9, modal_form::decays, false, false}),
          long_filter_case(modal_form::complex, 65536), long_filter_case(modal_form::decays, 65536)};
}

}  // namespace isthmus::kernels::testing
