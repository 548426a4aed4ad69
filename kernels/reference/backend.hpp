#pragma once

#include "kernels/backend.hpp"

namespace isthmus::kernels {

/// Plain loops: the specification that every other backend is tested against, and what simulations run on. Contraction off and
/// transcendental functions rounded from double, so that a seed means the same on every CPU.
const backend& reference_backend();

/// The same loops in double, to check gradients by central differences.
const op_table<double>& reference_double_ops();

}  // namespace isthmus::kernels
