#include "framework/layers/option.hpp"

#include <fmt/format.h>

#include <cmath>

namespace isthmus {

std::string option_text(const option_field& field, double value) {
  switch (field.type) {
    case option_type::integer: return fmt::format("{}", static_cast<std::int64_t>(value));
    case option_type::flag: return value != 0 ? "true" : "false";
    case option_type::word: return fmt::format("\"{}\"", field.words[static_cast<std::size_t>(value)]);
    case option_type::real: break;
  }
  auto text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";  // or it would read as an integer
  return text;
}

std::string allowed_text(const option_field& field) {
  switch (field.type) {
    case option_type::integer:
      return fmt::format("an integer from {} to {}", static_cast<std::int64_t>(field.min), static_cast<std::int64_t>(field.max));
    case option_type::flag: return "true or false";
    case option_type::word: return fmt::format("\"{}\"", fmt::join(field.words, "\", \""));
    case option_type::real: break;
  }
  return fmt::format("a number from {} to {}", field.min, field.max);
}

bool allows(const option_field& field, double value) {
  return value >= field.min && value <= field.max && (field.type == option_type::real || value == std::floor(value));
}

}  // namespace isthmus
