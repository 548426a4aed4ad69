#include "framework/layers/layer_kind.hpp"

#include "framework/core/error.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {

const option_field& field_of(const layer_shape& shape, std::string_view key) {
  const auto at = std::ranges::find(shape.kind->options, key, &option_field::key);
  ensure(at != shape.kind->options.end(), "layer_shape: the kind has no option of that name");
  return *at;
}

}  // namespace

double layer_shape::real(std::string_view key) const {
  const auto at = options.find(key);
  return at != options.end() ? at->second : field_of(*this, key).initial;
}

std::string_view layer_shape::word(std::string_view key) const { return field_of(*this, key).words[static_cast<std::size_t>(real(key))]; }

unexpected bad_option(const layer_shape& shape, std::string_view key, std::string_view allowed) {
  return fail(errc::recipe_invalid,
              fmt::format("{}.{} is {}: {}", shape.where, key, option_text(field_of(shape, key), shape.real(key)), allowed));
}

}  // namespace isthmus
