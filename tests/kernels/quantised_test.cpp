#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/backends.hpp"
#include "kernels/quantise.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"
#include "tests/kernels/cases.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(quantised_weights_of_matrices)

namespace {

constexpr weight_format formats[] = {weight_format::bf16, weight_format::int8, weight_format::int4};
const char* name_of(weight_format f) {
  return f == weight_format::bf16 ? "bf16" : f == weight_format::int8 ? "int8" : f == weight_format::int4 ? "int4" : "master";
}

/// A backend with a stream; `exact`: it does not round activations beside quantised weights.
struct candidate {
  std::string name;
  const backend* table;
  std::unique_ptr<team> workers;
  std::unique_ptr<stream> where;
  bool exact;
};

std::vector<candidate> candidates() {
  std::vector<candidate> all;
  const auto add = [&](std::string name, const backend* b, bool exact) {
    auto workers = std::make_unique<stealing_team>(3);
    auto where = b->make_stream(*workers);
    all.push_back({std::move(name), b, std::move(workers), std::move(where), exact});
  };
  for (const backend* b : backends()) add(b->name, b, b != &cpu_backend());
  for (const auto way : {cpu::pair_way::dots, cpu::pair_way::widened}) {
    if (!cpu::pair_products_work()) break;
    auto workers = std::make_unique<stealing_team>(3);
    auto where = std::make_unique<cpu::cpu_stream>(*workers, nullptr, false, false, true, way);
    const bool widened = way == cpu::pair_way::widened;
    all.push_back({widened ? "cpu, widened pairs" : "cpu, dots of pairs", &cpu_backend(), std::move(workers), std::move(where), widened});
  }
  for (const backend* b : cpu_backends()) {
    if (b == &cpu_backend()) {  // the same instruction set without what a newer CPU adds
      auto workers = std::make_unique<stealing_team>(3);
      auto where = std::make_unique<cpu::cpu_stream>(*workers, nullptr, false);
      all.push_back({"cpu, own kernels", b, std::move(workers), std::move(where), true});
    } else {
      add("cpu, older", b, true);
    }
  }
  return all;
}

struct extents {
  std::int64_t rows, out, in, pad;
};

std::vector<float> through(const std::vector<float>& w, const extents& e, weight_format format) {
  std::vector<float> made(w.size());
  for (std::int64_t o = 0; o < e.out; ++o)
    for (std::int64_t i = 0; i < e.in; i += quantised_group)
      through_format(w.data() + o * e.in + i, std::min(quantised_group, e.in - i), format, made.data() + o * e.in + i);
  return made;
}

/// What y[r, o] should be, and by how much it may be off.
template <class Act>
std::pair<double, double> expected(const std::vector<float>& w, const std::vector<Act>& x, const extents& e, std::int64_t r, std::int64_t o,
                                   weight_format format, bool exact) {
  double sum = 0, magnitude = 0, rounding = 0;
  for (std::int64_t i = 0; i < e.in; i += quantised_group) {
    double largest = 0, weights = 0;
    for (std::int64_t k = i; k < std::min(e.in, i + quantised_group); ++k) {
      const double xk = static_cast<double>(static_cast<float>(x[static_cast<std::size_t>(r * (e.in + e.pad) + k)]));
      const double wk = static_cast<double>(w[static_cast<std::size_t>(o * e.in + k)]);
      sum += xk * wk;
      magnitude += std::abs(xk * wk);
      weights += std::abs(wk);
      largest = std::max(largest, std::abs(xk));
    }
    rounding += largest / 254 * weights;  // half a step of a group's activations, times its weights
  }
  double bound = 2e-6 * magnitude + 1e-30;
  if (!exact) bound += format == weight_format::bf16 ? 0x1p-8 * magnitude : rounding;  // bf16 keeps 8 bits: half a step is 2^-8
  if (std::is_same_v<Act, bf16>) bound += 0x1p-8 * (std::abs(sum) + bound);
  return {sum, bound};
}

template <class Act>
void check(const candidate& c, const extents& e, weight_format format) {
  placed_inputs random(static_cast<std::uint64_t>(e.rows + e.out + e.in), false, *c.table->memory, *c.where);
  auto values = random.host.reals<float>(e.out * e.in, 0.3);
  auto w = random.place(values);
  const auto x = random.act<Act>(e.rows * (e.in + e.pad));
  auto y = random.blank<Act>(e.rows * (e.out + e.pad));
  const auto& ops = ops_of<Act>(*c.table);
  const auto m = ops.make_quantised_matrix(w.data(), e.out, e.in, format);
  for (const float factor : {1.0F, -3.0F}) {  // the second round sees weights that have changed
    for (float& v : values) v *= factor;
    w.set(values);
    m->weights_changed();
    ops.linear(*c.where, {m.get(), x.data(), y.data(), e.rows, e.in + e.pad, e.out + e.pad});
    const auto made = through(values, e, format);
    const auto xs = x.values();
    const auto found = y.values();
    double worst = 0;
    for (std::int64_t r = 0; r < e.rows; ++r) {
      for (std::int64_t o = 0; o < e.out; ++o) {
        const auto [sum, bound] = expected<Act>(made, xs, e, r, o, format, c.exact);
        const double off =
            std::abs(static_cast<double>(static_cast<float>(found[static_cast<std::size_t>(r * (e.out + e.pad) + o)])) - sum);
        worst = std::max(worst, std::isfinite(off) ? off / bound : std::numeric_limits<double>::infinity());
      }
      for (std::int64_t p = e.out; p < e.out + e.pad; ++p)
        BOOST_REQUIRE(static_cast<float>(found[static_cast<std::size_t>(r * (e.out + e.pad) + p)]) == -77);
    }
    BOOST_TEST(worst <= 1, c.name << ", " << name_of(format) << ", " << e.rows << "x" << e.out << "x" << e.in << ": off by " << worst
                                  << " of what is allowed");
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(products_are_those_of_the_formats_weights) {
  const extents all[] = {{1, 48, 64, 0},  {1, 37, 100, 3},  {2, 16, 32, 0},    {3, 5, 3, 1},     {4, 130, 256, 0}, {5, 33, 96, 0},
                         {7, 64, 160, 5}, {13, 80, 65, 0},  {70, 100, 128, 0}, {200, 48, 64, 0}, {0, 16, 32, 0},   {6, 64, 32, 0},
                         {25, 70, 97, 1}, {63, 129, 48, 2}, {9, 70, 2500, 1}};  // the last is deeper than a piece of a panel
  for (const auto& c : candidates())
    for (const weight_format format : formats)
      for (const auto& e : all) {
        check<float>(c, e, format);
        check<bf16>(c, e, format);
      }
}

// Ones on the diagonal bring the weights themselves to light: those of quantise(), on every backend.
BOOST_AUTO_TEST_CASE(every_backend_makes_the_same_steps) {
  const extents e{70, 33, 70, 0};
  for (const auto& c : candidates())
    for (const weight_format format : formats) {
      placed_inputs random(9, false, *c.table->memory, *c.where);
      const auto values = random.host.reals<float>(e.out * e.in, 0.1);
      std::vector<float> ones(static_cast<std::size_t>(e.rows * e.in));
      for (std::int64_t i = 0; i < e.in; ++i) ones[static_cast<std::size_t>(i * e.in + i)] = 1;
      auto w = random.place(values), x = random.place(ones), y = random.blank<float>(e.rows * e.out);
      const auto m = c.table->f32.make_quantised_matrix(w.data(), e.out, e.in, format);
      c.table->f32.linear(*c.where, {m.get(), x.data(), y.data(), e.rows, e.in, e.out});
      const auto made = through(values, e, format);
      const auto found = y.values();
      for (std::int64_t i = 0; i < e.in; ++i)
        for (std::int64_t o = 0; o < e.out; ++o) {
          const float wanted = made[static_cast<std::size_t>(o * e.in + i)], got = found[static_cast<std::size_t>(i * e.out + o)];
          BOOST_REQUIRE_MESSAGE(std::abs(got - wanted) <= 1e-6F * std::abs(wanted),
                                c.name << ", " << name_of(format) << ": weight " << o << ", " << i << " is " << got << ", not " << wanted);
        }
    }
}

BOOST_AUTO_TEST_CASE(steps_and_scales_are_those_of_the_specification) {
  const float w[] = {0.5F, -1.0F, 0.25F, 0.99F, 0.0F};
  const auto eight = quantise(w, 5, weight_format::int8), four = quantise(w, 5, weight_format::int4);
  BOOST_TEST(static_cast<float>(eight.scale) == 0.0079345703125F);  // 1 / 127 rounded up to bf16
  const std::int8_t eights[] = {63, -126, 32, 125, 0};
  BOOST_TEST(static_cast<float>(four.scale) == 0.125F);  // -(-1) / 8
  const std::int8_t fours[] = {4, -8, 2, 7, 0};          // 0.99 ends at 7 steps
  for (int k = 0; k < 5; ++k) {
    BOOST_TEST(int{eight.steps[k]} == int{eights[k]});
    BOOST_TEST(int{four.steps[k]} == int{fours[k]});
  }
  for (int k = 5; k < quantised_group; ++k) BOOST_TEST((eight.steps[k] == 0 && four.steps[k] == 0));
}

BOOST_AUTO_TEST_CASE(weights_are_met_within_their_step) {
  inputs random(3, false);
  for (int i = 0; i < 200; ++i) {
    const auto w = random.reals<float>(quantised_group, std::pow(10.0, i % 40 - 20));
    const auto eight = quantise(w.data(), quantised_group, weight_format::int8),
               four = quantise(w.data(), quantised_group, weight_format::int4);
    const float half = 0.500001F * static_cast<float>(eight.scale), step = std::abs(static_cast<float>(four.scale));
    for (std::size_t k = 0; k < w.size(); ++k) {
      BOOST_REQUIRE(std::abs(w[k] - static_cast<float>(eight.steps[k]) * static_cast<float>(eight.scale)) <= half);
      const float off = std::abs(w[k] - static_cast<float>(four.steps[k]) * static_cast<float>(four.scale));
      BOOST_REQUIRE(off <= (std::abs(w[k]) <= 7 * step ? 0.500001F : 1.000001F) * step);
    }
  }
  const float nothing[quantised_group] = {};
  const auto q = quantise(nothing, quantised_group, weight_format::int4);
  BOOST_TEST((static_cast<float>(q.scale) == 0 && q.steps[0] == 0));
}

BOOST_AUTO_TEST_CASE(a_quantised_matrix_does_not_train) {
  for (const auto& c : candidates())
    for (const weight_format format : formats) {
      placed_inputs random(1, false, *c.table->memory, *c.where);
      auto w = random.reals<float>(32 * 32), x = random.reals<float>(32), y = random.reals<float>(32);
      const auto m = c.table->f32.make_quantised_matrix(w.data(), 32, 32, format);
      BOOST_CHECK_THROW(c.table->f32.linear_backward_input(*c.where, {m.get(), y.data(), x.data(), 1, 32, 32}), std::logic_error);
      BOOST_CHECK_THROW(c.table->f32.linear_backward_weight(*c.where, {m.get(), x.data(), y.data(), w.data(), 1, 32, 32}),
                        std::logic_error);
    }
}

BOOST_AUTO_TEST_CASE(what_is_not_a_number_stays_so) {
  for (const auto& c : candidates())
    for (const weight_format format : formats)
      for (const std::int64_t rows : {1, 9}) {
        placed_inputs random(1, false, *c.table->memory, *c.where);
        auto values = random.host.reals<float>(rows * 64);
        values[40] = std::nanf("");
        auto w = random.reals<float>(32 * 64), x = random.place(values), y = random.reals<float>(rows * 32);
        const auto m = c.table->f32.make_quantised_matrix(w.data(), 32, 64, format);
        c.table->f32.linear(*c.where, {m.get(), x.data(), y.data(), rows, 64, 32});
        const auto found = y.values();
        for (std::size_t o = 0; o < 32; ++o) BOOST_REQUIRE_MESSAGE(std::isnan(found[o]), c.name << ", " << name_of(format));
        for (std::size_t i = 32; i < found.size(); ++i) BOOST_REQUIRE(std::isfinite(found[i]));
      }
}

BOOST_AUTO_TEST_CASE(the_team_changes_no_bit) {
  const extents e{6, 500, 200, 0};
  for (const backend* b : cpu_backends())
    for (const weight_format format : formats) {
      std::vector<float> first;
      for (const int threads : {1, 3}) {
        stealing_team workers(threads);
        const auto s = b->make_stream(workers);
        placed_inputs random(4, false, *b->memory, *s);
        auto w = random.reals<float>(e.out * e.in), x = random.reals<float>(e.rows * e.in), y = random.blank<float>(e.rows * e.out);
        const auto m = b->f32.make_quantised_matrix(w.data(), e.out, e.in, format);
        b->f32.linear(*s, {m.get(), x.data(), y.data(), e.rows, e.in, e.out});
        if (threads == 1)
          first = y.values();
        else
          BOOST_TEST((first == y.values()), name_of(format));
      }
    }
}

BOOST_AUTO_TEST_SUITE_END()
