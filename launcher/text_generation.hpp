#pragma once

#include "framework/core/expected.hpp"
#include "framework/layers/inference_formats.hpp"
#include "launcher/run_folder.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus::launcher {

struct text_options {
  std::string prompt;
  std::int64_t tokens = 96;
  double temperature = 0.8, top_p = 0.95;
  std::uint64_t seed = 1;
  std::optional<site_id> site;  // whose checkpoint; absent: the newest of all sites
  inference_formats formats = {};
  bool one_by_one = false;  // without the model's Medusa heads, which are used with temperature 0
};

struct generated_text {
  std::string text;        // without the prompt
  std::string checkpoint;  // its folder
  site_id site = 0;
  round_number round = 0;
  std::uint64_t tokens = 0;    // made
  double seconds = 0;          // without loading
  double tokens_per_pass = 1;  // through the model; 1 without heads
  bool by_heads = false;
  std::vector<std::string> warnings;  // newer checkpoints that could not be used, and why
};

/// Loads the newest checkpoint that verifies and continues the prompt with the anchor's weights; on_text hears the text as it is made.
/// Errors: not_found (no checkpoint yet), wrong_recipe, malformed, ...
expected<generated_text> generate_text(const run_folder& run, const text_options& options,
                                       const std::function<void(std::string_view)>& on_text = {});

/// Whether a folder holds a model as Hugging Face Transformers leaves it: it has a config.json.
bool holds_hugging_face(const std::string& folder);
/// The same from such a folder, with its tokenizer.json: the prompt begins with what that puts before a text, and the text ends with any end
/// token of generation_config.json, or of config.json where there is no such file. Errors: those of import_hugging_face, of the tokenizer and
/// of read_generation_config.
expected<generated_text> generate_text(const std::string& hugging_face_folder, const text_options& options,
                                       const std::function<void(std::string_view)>& on_text = {});

/// Whether a model of others can read the ids of its tokenizer. It often has more rows than that has tokens, for widths that are round; ids behind
/// them show as nothing. Errors: out_of_range, naming `where` the tokenizer is, when it has fewer.
expected<void> check_rows(std::int64_t tokens, std::int64_t of_model, const std::string& where);

/// Whether a model that is named is a file of its own: runs and Hugging Face models are folders.
bool is_gguf(const std::string& path);
/// The same from a GGUF file, with its own tokenizer; the prompt begins with the begin token where the file says so.
/// Errors: those of import_gguf and gguf_tokenizer; malformed, when the two have unlike vocabularies.
expected<generated_text> generate_text_from_gguf(const std::string& path, const text_options& options,
                                                 const std::function<void(std::string_view)>& on_text = {});

}  // namespace isthmus::launcher
