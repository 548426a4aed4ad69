#pragma once

#include "tests/kernels/cases.hpp"

#include <string>
#include <utility>
#include <vector>

// What the lists of cases are made with.
namespace isthmus::kernels::testing {

/// A case for every type from one generic function: f.operator()<Act>(ops, stream, inputs) gives outputs.
template <class F>
kernel_case make(std::string name, F f) {
  return {std::move(name), [f](const op_table<float>& ops, stream& s, inputs& in) { return f.template operator()<float>(ops, s, in); },
          [f](const op_table<bf16>& ops, stream& s, inputs& in) { return f.template operator()<bf16>(ops, s, in); },
          [f](const op_table<double>& ops, stream& s, inputs& in) { return f.template operator()<double>(ops, s, in); }};
}

template <class T>
std::vector<T> blank(std::int64_t count) {  // overwritten or an error: not zero
  return std::vector<T>(static_cast<std::size_t>(count), static_cast<T>(static_cast<real<T>>(-77)));
}

/// The cases of attention, RoPE, convolution and SSD.
std::vector<kernel_case> mixer_cases();

}  // namespace isthmus::kernels::testing
