#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace isthmus {

enum class option_type { integer, real, flag, word };

/// One thing that a kind of layer can be told: a key of a recipe's [model]. Kinds that share a key mean the same by it.
struct option_field {
  std::string_view key;  // "ssm_state"
  option_type type;
  double initial;   // the default; of a flag 0 or 1, of a word its place among the words
  double min, max;  // what is allowed, both included; of a flag 0 and 1, of a word the first and last place
  std::string_view help;
  std::span<const std::string_view> words = {};
};

constexpr option_field integer_option(std::string_view key, double initial, double min, double max, std::string_view help) {
  return {key, option_type::integer, initial, min, max, help};
}
constexpr option_field real_option(std::string_view key, double initial, double min, double max, std::string_view help) {
  return {key, option_type::real, initial, min, max, help};
}
constexpr option_field flag_option(std::string_view key, bool initial, std::string_view help) {
  return {key, option_type::flag, initial ? 1.0 : 0.0, 0, 1, help};
}
constexpr option_field word_option(std::string_view key, std::span<const std::string_view> words, std::string_view help) {
  return {key, option_type::word, 0, 0, static_cast<double>(words.size()) - 1, help, words};
}

/// Options by key. What is not there stands at its default. Integers are exact: all are below 2^53.
using layer_options = std::map<std::string, double, std::less<>>;

/// A value as a recipe writes it: 4, 10000.0, true, "relu2".
std::string option_text(const option_field& field, double value);

/// What is allowed, in words: "an integer from 1 to 1024".
std::string allowed_text(const option_field& field);

/// Whether the value is one that the field allows.
bool allows(const option_field& field, double value);

}  // namespace isthmus
