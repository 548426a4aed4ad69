#pragma once

#include "framework/layers/pass.hpp"

#include <cstdint>
#include <map>
#include <memory>

namespace isthmus {

/// A layer's plans of long convolutions, each made once for its length.
template <class Act>
class long_conv_plans {
public:
  /// For the pass's length; lives as long as this.
  kernels::long_conv_plan* of(const layer_pass<Act>& p) {
    auto& made = plans_[p.length];
    if (!made) made = p.ops.make_long_conv_plan(p.length);
    return made.get();
  }

private:
  std::map<std::int64_t, std::unique_ptr<kernels::long_conv_plan>> plans_;
};

}  // namespace isthmus
