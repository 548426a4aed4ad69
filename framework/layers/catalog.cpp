#include "framework/layers/catalog.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

const layer_kind* layer_catalog::find(std::string_view name) const {
  const auto at = std::ranges::find(kinds_, name, [](const layer_kind* k) { return k->name; });
  return at != kinds_.end() ? *at : nullptr;
}

const option_field* layer_catalog::find_option(std::string_view key) const {
  for (const auto* kind : kinds_)
    if (const auto at = std::ranges::find(kind->options, key, &option_field::key); at != kind->options.end()) return &*at;
  return nullptr;
}

std::vector<const option_field*> layer_catalog::options() const {
  std::vector<const option_field*> all;
  for (const auto* kind : kinds_)
    for (const auto& field : kind->options)
      if (std::ranges::none_of(all, [&](const option_field* f) { return f->key == field.key; })) all.push_back(&field);
  return all;
}

layer_catalog layer_catalog::with(const layer_kind& kind) const {
  ensure(find(kind.name) == nullptr, "layer_catalog: there is a kind of that name");
  auto kinds = kinds_;
  kinds.push_back(&kind);
  return layer_catalog(std::move(kinds));
}

}  // namespace isthmus
