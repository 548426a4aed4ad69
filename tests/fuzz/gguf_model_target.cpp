#include "framework/formats/gguf_model.hpp"
#include "framework/formats/gguf_tokenizer.hpp"
#include "framework/models/import.hpp"
#include "tests/fuzz/targets.hpp"

#include <algorithm>

namespace isthmus::fuzz {

namespace {

/// The tensors are those that the config asks for, and they can be read.
void check_model(const gguf_model& model) {
  std::vector<hf_tensor> wanted = model_tensors(model.config);
  for (std::size_t i = 0; i < model.config.layers.size(); ++i) {
    const auto more = layer_tensors(model.config, i);
    wanted.insert(wanted.end(), more.begin(), more.end());
  }
  must(wanted.size() == model.tensors.size(), "a tensor for each that is asked for, and no other");
  for (const auto& t : wanted) {
    const auto stored = model.tensors.expect(t.name, t.shape, "fuzz.gguf");
    must(stored.has_value(), "a tensor has the shape that is asked for");
    std::vector<float> values(static_cast<std::size_t>((*stored)->count()));
    must((*stored)->read_floats(values).has_value(), "and its numbers are there");
  }
}

void erase_blanks(std::string& text) {
  std::erase(text, ' ');
  constexpr std::string_view spelt = "\u2581";
  for (std::size_t at = text.find(spelt); at != text.npos; at = text.find(spelt, at)) text.erase(at, spelt.size());
}

/// Blanks aside: SentencePiece adds one behind each token that is cut out, and with no piece for it gives its bytes back as they spell it.
void check_text(const gguf_tokenizer& tokens, std::string text) {
  auto ids = tokens.prompt(text);
  if (tokens.adds_begin()) ids.erase(ids.begin());
  std::string back = tokens.decode(ids);
  for (std::string* t : {&text, &back}) erase_blanks(*t);
  must(back == text, "what is encoded is decoded");
  must(std::ranges::all_of(tokens.encode(text, specials::as_tokens), [&](token_id id) { return id >= 0 && id < tokens.size(); }),
       "ids lie in the vocabulary");
}

}  // namespace

void gguf_models(input bytes) {
  const auto file = open_gguf(memory_source({bytes.begin(), bytes.end()}, "fuzz.gguf"));
  if (!file) return;
  if (const auto model = read_gguf_model(*file)) {
    check_model(*model);
    if (config_from(model->config, "fuzz.gguf")) {
      const auto imported = import_gguf(*file);
      must(imported || imported.error().code == errc::not_finite, "a model that is understood is loaded, where its weights are numbers");
    }
  }
  auto vocabulary = read_gguf_vocabulary(*file);
  if (!vocabulary) return;
  if (const auto tokens = gguf_tokenizer::make(std::move(*vocabulary), "fuzz.gguf")) {
    check_text(*tokens, "The the th.  \xf0\x9f\x8c\x89 42\n <tool><|endoftext|> \xff\xfe");
    if (tokens->pieces() != nullptr)
      must(!to_tokenizer_json(tokens->pieces()->model(), true, tokens->around()).empty(), "pieces are written as JSON");
  }
}

}  // namespace isthmus::fuzz
