#include "framework/core/checked.hpp"
#include "framework/formats/generation_config.hpp"
#include "framework/formats/gguf_vocabulary.hpp"
#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "tests/fuzz/targets.hpp"

#include <algorithm>
#include <limits>
#include <set>

namespace isthmus::fuzz {

namespace {

/// Every tensor lies inside the file, none over another, and gives as many floats as its shape says.
void check_tensors(const std::vector<stored_tensor>& tensors, std::uint64_t file_bytes) {
  std::uint64_t inside = 0;
  for (const auto& t : tensors) {
    must(t.offset <= file_bytes && t.bytes <= file_bytes - t.offset, "a tensor lies inside its file");
    must(static_cast<std::uint64_t>(t.count() / t.encoding->block * t.encoding->block_bytes) == t.bytes,
         "its bytes are those of its shape");
    inside += t.bytes;
    std::vector<float> values(static_cast<std::size_t>(t.count()));
    must(t.read_floats(values).has_value() == (t.encoding->decode != nullptr), "what can be decoded is read");
  }
  must(inside <= file_bytes, "tensors do not overlap");
}

void check_vocabulary(const gguf_file& file) {
  const auto vocabulary = read_gguf_vocabulary(file);
  if (!vocabulary) return;
  must(vocabulary->types.size() == vocabulary->tokens.size(), "each token has a type");
  const auto model = to_bpe_model(*vocabulary, "fuzz.gguf");
  if (!model) return;
  const tokenizer tokens(*model);
  encoder words(tokens);
  std::vector<token_id> ids;
  const std::string text = "The end. \xf0\x9f\x8c\x89 42\n  <|endoftext|>";
  words.encode(text, ids);
  must(tokens.decode(ids) == text, "what is encoded is decoded");
}

/// Shapes whose bytes fit 63 bits, and names that are all different.
void check_asked(const std::vector<hf_tensor>& tensors) {
  std::set<std::string> names;
  for (const auto& t : tensors) {
    must(names.insert(t.name).second, "a tensor is asked for once");
    std::optional<std::uint64_t> bytes = 4;
    for (const std::int64_t extent : t.shape) {
      must(extent > 0, "an extent is positive");
      if (bytes) bytes = checked_product(*bytes, static_cast<std::uint64_t>(extent));
    }
    must(bytes && *bytes <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()), "a tensor's bytes fit 63 bits");
  }
}

}  // namespace

void ggufs(input bytes) {
  const auto file = open_gguf(memory_source({bytes.begin(), bytes.end()}, "fuzz.gguf"));
  if (!file) return;
  check_tensors(file->tensors.all(), bytes.size());
  check_vocabulary(*file);
}

void hf_configs(input bytes) {
  if (const auto ends = read_generation_config(as_text(bytes), 32, "generation_config.json"))
    for (const std::int64_t id : ends->end_tokens) must(id >= 0 && id < 32, "an end token is in the vocabulary");
  const auto config = read_hf_config(as_text(bytes), "config.json");
  if (!config) return;
  check_asked(model_tensors(*config));
  for (std::size_t i = 0; i < std::min<std::size_t>(config->layers.size(), 4); ++i) check_asked(layer_tensors(*config, i));
}

void shard_indexes(input bytes) {
  const auto index = parse_shard_index(as_text(bytes), "model.safetensors.index.json");
  if (!index) return;
  for (const auto& [tensor, shard] : *index)
    must(
        shard.ends_with(".safetensors") && shard.find('/') == std::string::npos && shard.find('\0') == std::string::npos && shard[0] != '.',
        "a shard is a file of the folder");
}

void safetensors(input bytes) {
  const auto tensors = open_safetensors(memory_source({bytes.begin(), bytes.end()}, "fuzz.safetensors"));
  const auto whole = parse_safetensors({bytes.begin(), bytes.end()}, "fuzz.safetensors");
  must(tensors.has_value() == whole.has_value(), "both readers of safetensors agree");
  if (tensors) check_tensors(*tensors, bytes.size());
}

}  // namespace isthmus::fuzz
