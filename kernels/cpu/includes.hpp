#pragma once

// All that the kernels need from outside, included before a target pragma: what is defined here is built for any CPU.
#include "kernels/backend.hpp"
#include "kernels/cpu/attention_pairs.hpp"
#include "kernels/cpu/backends.hpp"
#include "kernels/cpu/grouped_weights.hpp"
#include "kernels/cpu/long_conv_plan.hpp"
#include "kernels/cpu/packed_matrix.hpp"
#include "kernels/cpu/traits.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
