#include "framework/tokenizer/byte_alphabet.hpp"
#include "framework/tokenizer/text_template.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace isthmus {

namespace {

using nlohmann::json;

std::string in_quotes(std::string_view text) { return json(text).dump(); }

/// As Llama 3 has it, with a template behind, where something is put around a text.
std::string post_processor_of(const text_template& around, const std::function<std::string(token_id)>& name) {
  const std::string offsets = R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true})";
  if (around == text_template{}) return offsets;
  return fmt::format(R"({{"type": "Sequence", "processors": [
    {},
    {}]}})",
                     offsets, to_template_processing(around, name).dump());
}

}  // namespace

std::string to_tokenizer_json(const bpe_model& model) {
  const auto shown = [&](token_id id) {
    const std::string& token = model.tokens[static_cast<std::size_t>(id)];
    return std::binary_search(model.specials.begin(), model.specials.end(), id) ? token : to_byte_alphabet(token);
  };
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [";
  for (std::size_t i = 0; i < model.specials.size(); ++i)
    out += fmt::format(
        "{}\n    {{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
        "\"special\": true}}",
        i > 0 ? "," : "", model.specials[i], in_quotes(shown(model.specials[i])));
  out += R"(
  ],
  "normalizer": null,
  "pre_tokenizer": )";
  if (model.pattern == pre_token_pattern::gpt2)
    out += R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  else
    out += fmt::format(R"({{"type": "Sequence", "pretokenizers": [
    {{"type": "Split", "pattern": {{"Regex": {}}}, "behavior": "Isolated", "invert": false}},
    {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}}]}})",
                       in_quotes(llama3_regex));
  out += ",\n  \"post_processor\": " + post_processor_of(model.around, shown);
  out += R"(,
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": )";
  out += model.whole_words ? "true" : "false";
  out += R"(,
    "vocab": {)";
  for (std::size_t id = 0; id < model.tokens.size(); ++id)
    out += fmt::format("{}\n      {}: {}", id > 0 ? "," : "", in_quotes(shown(static_cast<token_id>(id))), id);
  out += "\n    },\n    \"merges\": [";
  for (std::size_t i = 0; i < model.merges.size(); ++i)
    out += fmt::format("{}\n      {}", i > 0 ? "," : "", in_quotes(shown(model.merges[i].left) + " " + shown(model.merges[i].right)));
  out += "\n    ]\n  }\n}\n";
  return out;
}

}  // namespace isthmus
