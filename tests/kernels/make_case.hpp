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
  return {std::move(name),
          [f](const op_table<float>& ops, stream& s, placed_inputs& in) { return f.template operator()<float>(ops, s, in); },
          [f](const op_table<bf16>& ops, stream& s, placed_inputs& in) { return f.template operator()<bf16>(ops, s, in); },
          [f](const op_table<double>& ops, stream& s, placed_inputs& in) { return f.template operator()<double>(ops, s, in); }};
}

/// The cases of attention and RoPE.
std::vector<kernel_case> mixer_cases();
/// Those of convolutions, short and long.
std::vector<kernel_case> convolution_cases();
/// Those of mixtures of experts.
std::vector<kernel_case> route_cases();
/// Those of SSD and the selective scan.
std::vector<kernel_case> scan_cases();
/// Norms, biases, functions of channels: row_cases.cpp.
std::vector<kernel_case> row_cases();

}  // namespace isthmus::kernels::testing
