#pragma once

#include "framework/layers/layer_kind.hpp"

#include <span>
#include <string_view>
#include <vector>

namespace isthmus {

/// The kinds of layers that a program knows. Two kinds that share an option's key agree in everything about it.
class layer_catalog {
public:
  explicit layer_catalog(std::vector<const layer_kind*> kinds) : kinds_(std::move(kinds)) {}

  std::span<const layer_kind* const> kinds() const { return kinds_; }
  /// Null when there is none of that name.
  const layer_kind* find(std::string_view name) const;
  /// Null when no kind has such an option.
  const option_field* find_option(std::string_view key) const;
  /// Each option once, in the order of the kinds.
  std::vector<const option_field*> options() const;
  /// A catalog of these kinds and one more, which must outlive it: a program's own.
  layer_catalog with(const layer_kind& kind) const;

private:
  std::vector<const layer_kind*> kinds_;
};

/// One kind for each folder of framework/layers.
const layer_catalog& builtin_layers();

}  // namespace isthmus
