#include "tests/kernels/cases.hpp"

#include "tests/kernels/make_case.hpp"

#include "kernels/reference/backend.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

namespace isthmus::kernels::testing {

std::uint64_t inputs::bits() {  // splitmix64
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

double inputs::next() {  // the sum of four uniform numbers, of variance 1
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
  return sum * std::sqrt(3.0);
}

namespace {

kernel_case linear_case(std::int64_t rows, std::int64_t out, std::int64_t in, std::int64_t pad) {
  return make("linear " + std::to_string(rows) + "x" + std::to_string(out) + "x" + std::to_string(in) + " pad " + std::to_string(pad),
              [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
                auto values = random.weights<Act>(out * in);
                auto w = random.place(values);
                const auto x = random.act<Act>(rows * (in + pad)), dy = random.act<Act>(rows * (out + pad));
                auto y = random.blank<Act>(rows * (out + pad)), dx = random.blank<Act>(rows * (in + pad));
                auto dw = random.reals<Act>(out * in);
                const auto m = ops.make_matrix(w.data(), out, in);
                // The second round sees weights that have changed.
                for (int round = 0; round < 2; ++round) {
                  ops.linear(s, {m.get(), x.data(), y.data(), rows, in + pad, out + pad});
                  ops.linear_backward_input(s, {m.get(), dy.data(), dx.data(), rows, out + pad, in + pad});
                  ops.linear_backward_weight(s, {m.get(), x.data(), dy.data(), dw.data(), rows, in + pad, out + pad});
                  for (auto& v : values) v *= 2;
                  w.set(values);
                  m->weights_changed();
                }
                outputs o;
                o.add("y", y);
                o.add("dx", dx);
                o.add("dw", dw);
                return o;
              });
}

kernel_case block_linear_case(std::int64_t rows, std::int64_t blocks, std::int64_t out, std::int64_t in, std::int64_t pad) {
  const std::string extents =
      std::to_string(rows) + " rows, " + std::to_string(blocks) + " of " + std::to_string(out) + "x" + std::to_string(in);
  return make("block_linear " + extents, [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t x_stride = blocks * in + pad, y_stride = blocks * out + pad;
    auto values = random.weights<Act>(blocks * out * in);
    auto w = random.place(values);
    const auto x = random.act<Act>(rows * x_stride), dy = random.act<Act>(rows * y_stride);
    auto y = random.blank<Act>(rows * y_stride), dx = random.blank<Act>(rows * x_stride);
    auto dw = random.reals<Act>(blocks * out * in);
    std::vector<std::unique_ptr<matrix<Act>>> owned;
    std::vector<matrix<Act>*> m;
    for (std::int64_t k = 0; k < blocks; ++k) {
      owned.push_back(ops.make_matrix(w.data() + k * out * in, out, in));
      m.push_back(owned.back().get());
    }
    for (int round = 0; round < 2; ++round) {  // the second sees weights that have changed
      ops.block_linear(s, {m.data(), x.data(), y.data(), blocks, rows, x_stride, y_stride});
      ops.block_linear_backward_input(s, {m.data(), dy.data(), dx.data(), blocks, rows, y_stride, x_stride});
      ops.block_linear_backward_weight(s, {m.data(), x.data(), dy.data(), dw.data(), blocks, rows, x_stride, y_stride});
      for (auto& v : values) v *= 2;
      w.set(values);
      for (auto* each : m) each->weights_changed();
    }
    outputs o;
    o.add("y", y);
    o.add("dx", dx);
    o.add("dw", dw);
    return o;
  });
}

kernel_case gate_case(std::int64_t rows, std::int64_t cols) {
  return make("gate", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    const std::int64_t stride = 2 * cols + 3;
    const auto x = random.act<Act>(rows * stride);
    auto dy = random.act<Act>(rows * cols), y = random.blank<Act>(rows * cols), db = random.blank<Act>(rows * stride);
    const Act *a = x.data(), *b = x.data() + cols;
    ops.gate(s, {a, b, y.data(), rows, cols, stride, stride, cols});
    ops.gate_backward(s, {a, b, dy.data(), dy.data(), db.data() + cols, rows, cols, stride, stride, cols, cols, stride});
    auto sum = random.act<Act>(rows * cols);
    ops.add(s, {a, sum.data(), rows, cols, stride, cols});
    outputs o;
    o.add("y", y);
    o.add("sum", sum);
    o.add("da", dy);
    o.add("db", db);
    return o;
  });
}

kernel_case embedding_case(std::int64_t rows, std::int64_t cols, std::int64_t vocabulary) {
  return make("embedding", [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const auto table = random.reals<Act>(vocabulary * cols), dx = random.reals<Act>(rows * cols);
    const auto ids = random.ids(rows, vocabulary);
    auto x = random.blank<R>(rows * cols);
    auto d_table = random.reals<Act>(vocabulary * cols);
    ops.embedding(s, {table.data(), ids.data(), x.data(), rows, cols, vocabulary});
    ops.embedding_backward(s, {dx.data(), ids.data(), d_table.data(), rows, cols, vocabulary});
    outputs o;
    o.add("x", x);
    o.add("d_table", d_table);
    return o;
  });
}

kernel_case cross_entropy_case(std::int64_t rows, std::int64_t vocabulary, std::int64_t cols, bool biased = false) {
  return make(
      "cross_entropy " + std::to_string(rows) + "x" + std::to_string(vocabulary) + "x" + std::to_string(cols) + (biased ? ", bias" : ""),
      [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
        const auto w = random.place(random.weights<Act>(vocabulary * cols, 0.3));
        const auto h = random.act<Act>(rows * cols);
        const auto targets = random.targets(rows, vocabulary);
        auto losses = random.blank<real<Act>>(rows), only_losses = losses, dw = random.reals<Act>(vocabulary * cols);
        auto dh = random.blank<Act>(rows * cols);
        const auto head = ops.make_matrix(w.data(), vocabulary, cols);
        const auto bias = random.reals<Act>(biased ? vocabulary : 1);
        auto d_bias = random.reals<Act>(biased ? vocabulary : 1);
        const auto* b = biased ? bias.data() : nullptr;
        ops.cross_entropy(s, {head.get(), h.data(), targets.data(), only_losses.data(), nullptr, nullptr, rows, 1, 0, b});
        ops.cross_entropy(s, {head.get(), h.data(), targets.data(), losses.data(), dh.data(), dw.data(), rows, real<Act>(0.25F),
                              real<Act>(0.125F), b, d_bias.data()});
        outputs o;
        o.add("losses, forward only", only_losses);
        o.add("losses", losses);
        o.add("dh", dh);
        o.add("dw", dw);
        if (biased) o.add("d_bias", d_bias);
        return o;
      });
}

}  // namespace

namespace {

/// Behind "--" on the command line stand beginnings of the names of the cases that are wanted; all, if nothing stands there.
bool wanted(const kernel_case& c) {
  const auto& suite = boost::unit_test::framework::master_test_suite();
  return suite.argc < 2 ||
         std::any_of(suite.argv + 1, suite.argv + suite.argc, [&](const char* begin) { return c.name.starts_with(begin); });
}

}  // namespace

std::vector<kernel_case> kernel_cases() {
  auto cases = mixer_cases();
  for (auto& c : row_cases()) cases.push_back(std::move(c));
  for (auto& c : scan_cases()) cases.push_back(std::move(c));
  for (auto& c : route_cases()) cases.push_back(std::move(c));
  for (auto& c : convolution_cases()) cases.push_back(std::move(c));
  for (auto& c : {linear_case(1, 48, 32, 0),
                  linear_case(7, 5, 3, 0),
                  linear_case(90, 700, 40, 3),
                  linear_case(200, 130, 530, 0),
                  linear_case(65, 80, 96, 0),
                  linear_case(130, 70, 64, 5),
                  linear_case(256, 256, 128, 0),
                  linear_case(0, 16, 16, 0),
                  linear_case(6, 129, 48, 2),
                  linear_case(25, 200, 97, 1),
                  linear_case(63, 1100, 48, 0),
                  block_linear_case(5, 3, 7, 4, 0),
                  block_linear_case(70, 6, 32, 32, 5),
                  block_linear_case(100, 2, 192, 96, 0),
                  block_linear_case(200, 4, 40, 33, 0),
                  gate_case(3, 17),
                  gate_case(70, 48),
                  embedding_case(33, 48, 11),
                  cross_entropy_case(3, 37, 16),
                  cross_entropy_case(140, 300, 64),
                  cross_entropy_case(5, 41, 16, true),
                  cross_entropy_case(150, 290, 64, true)})
    cases.push_back(c);
  std::erase_if(cases, [](const kernel_case& c) { return !wanted(c); });
  return cases;
}

template <class Act>
std::pair<double, std::string> distance_from_reference(const kernel_case& c, const backend& b, stream& s, std::uint64_t seed) {
  constexpr bool narrow = std::is_same_v<Act, bf16>;
  serial_team alone;
  stream plain(alone);
  placed_inputs ours(seed, narrow, *b.memory, s), theirs(seed, narrow, host_memory, plain);
  const outputs found = c.of<Act>()(ops_of<Act>(b), s, ours), expected = c.of<double>()(reference_double_ops(), plain, theirs);
  std::pair<double, std::string> worst{0, "none"};
  for (std::size_t t = 0; t < expected.tensors.size(); ++t) {
    double scale = 1e-30, difference = 0;
    for (const double v : expected.tensors[t].second) scale = std::max(scale, std::abs(v));
    for (std::size_t i = 0; i < expected.tensors[t].second.size(); ++i) {
      const double d = std::abs(found.tensors[t].second[i] - expected.tensors[t].second[i]);
      difference = std::max(difference, std::isfinite(d) ? d : std::numeric_limits<double>::infinity());
    }
    if (difference / scale > worst.first) worst = {difference / scale, expected.tensors[t].first};
  }
  return worst;
}

template std::pair<double, std::string> distance_from_reference<float>(const kernel_case&, const backend&, stream&, std::uint64_t);
template std::pair<double, std::string> distance_from_reference<bf16>(const kernel_case&, const backend&, stream&, std::uint64_t);

}  // namespace isthmus::kernels::testing
