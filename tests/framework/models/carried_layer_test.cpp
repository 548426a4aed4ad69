#include "framework/core/buffer.hpp"
#include "framework/layers/catalog.hpp"
#include "framework/models/layer_pairs.hpp"
#include "kernels/reference/backend.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>

// Layers whose state gradients go through: a text in pieces, chained by the state, gives the gradients of the whole.
using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(carried_layers)

namespace {

constexpr std::int64_t length = 71, cut = 30, d = 16;  // the rows of the recurrences' kept states do not divide them
constexpr std::int64_t held = 9;                       // rows of a state that grows, at the beginning
constexpr char mixers[] = {'a', 'w', 'm', 's', 'g', 'h', 'd', 'e', 'r'};

/// Zeros shaped as the state that so many rows more make of it.
layer_state zeros_behind(layer_state state, std::int64_t rows) {
  for (state_part& part : state) {
    if (part.row_bytes > 0) part.grow(rows);
    std::fill(part.bytes.begin(), part.bytes.end(), std::byte{});
  }
  return state;
}

/// Memory as layers expect it, at multiples of 64 bytes.
template <class T>
struct aligned {
  using value_type = T;
  aligned() = default;
  template <class U>
  aligned(const aligned<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* at, std::size_t) { ::operator delete (at, std::align_val_t{64}); }
  bool operator==(const aligned&) const { return true; }
};
template <class T>
using numbers = std::vector<T, aligned<T>>;

/// Kernels of a backend; in double those of the reference.
template <class Act>
const kernels::op_table<Act>& table(const kernels::backend& backend) {
  if constexpr (std::is_same_v<Act, double>)
    return kernels::reference_double_ops();
  else
    return kernels::ops_of<Act>(backend);
}

/// One mixer alone.
template <class Act>
struct alone {
  using real = kernels::real<Act>;
  explicit alone(char letter, const kernels::backend& backend = kernels::reference_backend())
      : ops(table<Act>(backend)), real_ops(table<real>(backend)), stream(backend.make_stream(team)) {
    const auto config = tiny_config(std::string(1, letter).c_str());
    shape = *(*resolve_layers(config))[0].mixer;
    tensor_list tensors(1);
    shape.kind->declare(shape, tensors);
    layout = tensors.layout();
    std::vector<float> begun(static_cast<std::size_t>(layout.size));
    rng random(1, 0, 0, draw::sampling);
    for (std::size_t i = 0; i < layout.slots.size(); ++i) {
      const auto& slot = layout.slots[i];
      tensors.beginning(i)(random, std::span(begun).subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count)));
    }
    for (const float w : begun) weights.push_back(static_cast<real>(static_cast<double>(w) + 0.05 * random.normal()));
    const auto draw_values = [&](std::int64_t n) {
      numbers<Act> values;
      for (std::int64_t i = 0; i < n; ++i) values.push_back(static_cast<Act>(static_cast<real>(random.normal())));
      return values;
    };
    x = draw_values(length * d);
    dy = draw_values(length * d);
    made = make_layer_of<Act>(shape, {ops, view(), "", real_ops});
    initial = zeros_behind(made->start(), held);
    d_final = zeros_behind(initial, length);
    for (layer_state* state : {&initial, &d_final}) {
      for (state_part& part : *state) {  // of activations, or real numbers
        const bool is_real = part.kind != state_kind::conv && part.row_bytes == 0 && !(letter == 'e' && part.kind == state_kind::hyena);
        if (is_real)
          for (std::size_t i = 0; i < part.bytes.size() / sizeof(real); ++i) part.as<real>()[i] = static_cast<real>(0.5 * random.normal());
        else
          for (std::size_t i = 0; i < part.bytes.size() / sizeof(Act); ++i)
            part.as<Act>()[i] = static_cast<Act>(static_cast<real>(0.5 * random.normal()));
      }
    }
  }
  const parameter_view<real>& view() {
    gradients.resize(weights.size());
    parameters.emplace(parameter_view<real>{layout, weights.data(), gradients.data()});
    return *parameters;
  }
  void place(std::int64_t rows) {
    arena counting, shared_counting;
    made->place(1, rows, counting, shared_counting);
    kept = std::make_unique<buffer>(counting.most_used());
    shared = std::make_unique<buffer>(shared_counting.most_used());
    arena k(kept->bytes()), s(shared->bytes());
    made->place(1, rows, k, s);
  }
  layer_pass<Act> pass(std::int64_t first, std::int64_t rows) { return {ops, *stream, 1, rows, first, rotary}; }
  void forward(std::int64_t first, std::int64_t rows, layer_state& state, numbers<Act>& y) {
    place(rows);
    made->forward_from(pass(first, rows), state, x.data() + first * d, y.data() + first * d);
  }
  void backward(std::int64_t first, std::int64_t rows, const layer_state& before, numbers<Act>& dx, layer_state& d_state) {
    made->backward_from(pass(first, rows), before, x.data() + first * d, dy.data() + first * d, dx.data() + first * d, d_state);
  }

  const kernels::op_table<Act>& ops;
  const kernels::op_table<real>& real_ops;
  layer_shape shape;
  parameter_layout layout;
  numbers<real> weights, gradients;
  std::optional<parameter_view<real>> parameters;
  kernels::serial_team team;
  std::unique_ptr<kernels::stream> stream;
  rotary_tables<real> rotary;
  numbers<Act> x, dy;
  std::unique_ptr<buffer> kept, shared;
  std::unique_ptr<layer<Act>> made;
  layer_state initial, d_final;
};

template <class Act>
std::vector<double> wide(const numbers<Act>& values) {
  std::vector<double> out;
  for (const Act v : values) out.push_back(static_cast<double>(static_cast<kernels::real<Act>>(v)));
  return out;
}

void check_near(const char* what, const std::vector<double>& found, const std::vector<double>& expected, double tolerance) {
  BOOST_TEST_REQUIRE(found.size() == expected.size());
  double largest = 1e-30, off = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    off = std::max(off, std::abs(found[i] - expected[i]));
  }
  BOOST_TEST(off <= tolerance * largest, what << " are off by " << off << " of " << largest);
}

/// Numbers of one part of a state in double.
std::vector<double> numbers_of(const state_part& part) {
  return {part.as<double>(), part.as<double>() + part.bytes.size() / sizeof(double)};
}

template <class Act>
void check_chained(char letter, const kernels::backend& backend, double tolerance) {
  alone<Act> whole(letter, backend), pieces(letter, backend);
  BOOST_TEST(whole.made->carries_gradients());
  numbers<Act> y(whole.x.size()), y_of_pieces(y), dx(y), dx_of_pieces(y);
  auto state = whole.initial, d_state = whole.d_final;
  whole.forward(0, length, state, y);
  whole.backward(0, length, whole.initial, dx, d_state);

  auto moved = pieces.initial, d_moved = pieces.d_final;
  pieces.forward(0, cut, moved, y_of_pieces);
  const layer_state between = moved;
  pieces.forward(cut, length - cut, moved, y_of_pieces);
  pieces.backward(cut, length - cut, between, dx_of_pieces, d_moved);
  moved = pieces.initial;
  pieces.forward(0, cut, moved, y_of_pieces);
  pieces.backward(0, cut, pieces.initial, dx_of_pieces, d_moved);
  check_near("outputs", wide(y_of_pieces), wide(y), tolerance);
  check_near("inputs' gradients", wide(dx_of_pieces), wide(dx), tolerance);
  check_near("weights' gradients", wide(pieces.gradients), wide(whole.gradients), tolerance);
  if constexpr (std::is_same_v<Act, double>)
    for (std::size_t part = 0; part < d_state.size(); ++part)
      check_near("the first state's gradients", numbers_of(d_moved[part]), numbers_of(d_state[part]), tolerance);
}

}  // namespace

BOOST_AUTO_TEST_CASE(pieces_chained_give_the_gradients_of_the_whole) {
  for (const char letter : mixers) {
    BOOST_TEST_CONTEXT(mixer_of(letter)) {
      check_chained<double>(letter, kernels::reference_backend(), 1e-11);
      for (const auto* b : kernels::backends()) {
        check_chained<float>(letter, *b, 1e-4);
        check_chained<kernels::bf16>(letter, *b, 0.1);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_of_states_inputs_and_weights_agree_with_central_differences) {
  for (const char letter : mixers) {
    alone<double> m(letter);
    numbers<double> y(m.x.size()), dx(y);
    auto d_state = m.d_final;
    auto state = m.initial;
    m.forward(0, length, state, y);
    m.backward(0, length, m.initial, dx, d_state);
    const auto loss = [&] {
      m.made->weights_changed();
      auto moved = m.initial;
      m.forward(0, length, moved, y);
      double sum = std::inner_product(y.begin(), y.end(), m.dy.begin(), 0.0);
      for (std::size_t part = 0; part < moved.size(); ++part) {
        const auto found = numbers_of(moved[part]), along = numbers_of(m.d_final[part]);
        sum = std::inner_product(found.begin(), found.end(), along.begin(), sum);
      }
      return sum;
    };
    const auto check = [&](const char* what, double* values, const double* gradient, std::size_t count) {
      for (std::size_t i = 0; i < count; i += count / 12 + 1) {
        const double at = values[i], step = 1e-5;
        values[i] = at + step;
        const double above = loss();
        values[i] = at - step;
        const double expected = (above - loss()) / (2 * step);
        values[i] = at;
        BOOST_TEST(std::abs(gradient[i] - expected) <= 1e-6 * (1 + std::abs(expected)),
                   mixer_of(letter) << ", " << what << "[" << i << "]: " << gradient[i] << " against " << expected);
      }
    };
    check("x", m.x.data(), dx.data(), dx.size());
    for (const auto& slot : m.layout.slots)
      check(slot.name.c_str(), m.weights.data() + slot.offset, m.gradients.data() + slot.offset, static_cast<std::size_t>(slot.count));
    for (std::size_t part = 0; part < m.initial.size(); ++part)
      check("initial", m.initial[part].as<double>(), d_state[part].as<double>(), m.initial[part].bytes.size() / sizeof(double));
  }
}

/// From nothing it is what forward and backward give.
BOOST_AUTO_TEST_CASE(from_the_first_state_it_is_forward_and_backward) {
  for (const char letter : mixers) {
    BOOST_TEST_CONTEXT(mixer_of(letter)) {
      alone<double> m(letter), plain(letter);
      numbers<double> y(m.x.size()), dx(y), y_plain(y), dx_plain(y);
      auto state = m.made->start(), d_state = zeros_behind(state, length);
      m.forward(0, length, state, y);
      m.backward(0, length, m.made->start(), dx, d_state);
      plain.place(length);
      plain.made->forward(plain.pass(0, length), plain.x.data(), y_plain.data());
      plain.made->backward(plain.pass(0, length), plain.x.data(), plain.dy.data(), dx_plain.data());
      check_near("outputs", wide(y), wide(y_plain), 1e-10);
      check_near("inputs' gradients", wide(dx), wide(dx_plain), 1e-10);
      check_near("weights' gradients", wide(m.gradients), wide(plain.gradients), 1e-10);
    }
  }
}

/// What a state gives when many rows come at once is what it gives to rows one by one.
BOOST_AUTO_TEST_CASE(many_rows_from_a_state_are_rows_one_by_one) {
  for (const char letter : mixers) {
    BOOST_TEST_CONTEXT(mixer_of(letter)) {
      alone<double> m(letter);
      numbers<double> at_once(m.x.size()), one_by_one(m.x.size());
      auto state = m.initial, stepped = m.initial;
      m.place(length);
      const moving_sequence all{0, length, held, &state};
      m.made->advance(m.pass(0, length), {&all, 1}, m.x.data(), at_once.data());
      for (std::int64_t t = 0; t < length; ++t) {
        const moving_sequence row{0, 1, held + t, &stepped};
        m.made->advance(m.pass(0, 1), {&row, 1}, m.x.data() + t * d, one_by_one.data() + t * d);
      }
      check_near("outputs", wide(at_once), wide(one_by_one), 1e-11);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_layer_that_sees_ahead_says_so) {
  for (const char letter : {'b', 'f'}) {
    alone<double> m(letter);
    BOOST_TEST(!m.made->carries_gradients());
    numbers<double> y(m.x.size());
    auto state = m.made->start();
    BOOST_CHECK_THROW(m.forward(0, length, state, y), contract_error);
  }
}

BOOST_AUTO_TEST_SUITE_END()
