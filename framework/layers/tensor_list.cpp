#include "framework/layers/tensor_list.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus {

initialiser constant_values(float value) {
  return [value](rng&, std::span<float> w) { std::fill(w.begin(), w.end(), value); };
}

initialiser drawn_values(std::function<double(rng&)> draw) {
  return [draw = std::move(draw)](rng& random, std::span<float> w) {
    std::generate(w.begin(), w.end(), [&] { return static_cast<float>(draw(random)); });
  };
}

initialiser uniform_values(double bound) {
  return drawn_values([bound](rng& random) { return (2 * random.uniform() - 1) * bound; });
}

initialiser normal_values(double deviation) {
  return drawn_values([deviation](rng& random) { return deviation * random.normal(); });
}

void tensor_list::add(std::string_view name, std::vector<std::int64_t> shape, bool decays, initialiser begin) {
  layout_.add(prefix_ + std::string(name), std::move(shape), decays);
  beginnings_.push_back(std::move(begin));
}

void tensor_list::add_matrix(std::string_view name, std::int64_t out, std::int64_t in) {
  add(name, {out, in}, true, uniform_values(1 / std::sqrt(static_cast<double>(in))));
}

void tensor_list::add_output(std::string_view name, std::int64_t out, std::int64_t in) {
  add(name, {out, in}, true, uniform_values(1 / std::sqrt(static_cast<double>(in)) / std::sqrt(2.0 * static_cast<double>(n_layers_))));
}

void tensor_list::add_vector(std::string_view name, std::int64_t count, initialiser begin) { add(name, {count}, false, std::move(begin)); }

}  // namespace isthmus
