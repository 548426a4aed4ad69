#pragma once

#include "kernels/attention.hpp"
#include "kernels/linear.hpp"

namespace isthmus {

/// What inference keeps in other numbers than training: the weights of products, and what attention remembers of a sequence.
struct inference_formats {
  kernels::weight_format weights = kernels::weight_format::master;
  kernels::cache_format caches = kernels::cache_format::activations;
};

}  // namespace isthmus
