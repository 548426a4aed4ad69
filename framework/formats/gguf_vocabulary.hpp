#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/gguf.hpp"
#include "framework/tokenizer/piece_tokenizer.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isthmus {

/// tokenizer.ggml.token_type, with llama.cpp's numbers.
enum class gguf_token_type : std::uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

/// The tokenizer of a GGUF file: all tokenizer.* keys that we know, checked against one another. A value.
struct gguf_vocabulary {
  std::string model;                   // "gpt2": byte-level BPE; "llama": SentencePiece pieces joined by score
  std::string pre;                     // of BPE: the pre-tokenizer's name, "gpt-2", "llama-bpe", ...; "" when the file has none
  std::vector<std::string> tokens;     // by id, as in the file: BPE's in the byte alphabet, SentencePiece's with U+2581 for blanks
  std::vector<double> scores;          // [tokens.size()], finite; empty for BPE without them
  std::vector<gguf_token_type> types;  // [tokens.size()]
  std::vector<std::string> merges;     // "left right", best first; of BPE alone
  std::optional<token_id> begin, end, unknown, padding;      // ids that lie in the vocabulary
  std::optional<bool> add_begin, add_end, add_space_prefix;  // what the encoder does unasked
  std::map<std::string, std::string> chat_templates;         // Jinja; "": tokenizer.chat_template, else the name behind its dot
};

/// Errors: not_found (no tokenizer), unsupported (another model, by name), malformed, out_of_range, too_large; they name file and key.
expected<gguf_vocabulary> read_gguf_vocabulary(const gguf_file& file);

/// What to_bpe_model does with user-defined tokens, which an encoder would have to cut out of every text (gguf_tokenizer does).
enum class user_defined { refused, kept };

/// As this project's tokenizer, which is byte-level BPE with the pre-tokenizer of GPT-2 or Llama 3. Refused by name, never read in part:
/// "llama" vocabularies, other pre-tokenizers, user-defined tokens unless they are kept, where nothing merges into them. Whether ids are
/// added at the ends (add_begin, add_end) is left to the caller. Errors: unsupported, malformed; they name `where` and the token or merge.
expected<bpe_model> to_bpe_model(const gguf_vocabulary& vocabulary, const std::string& where, user_defined mode = user_defined::refused);

/// The pieces of a "llama" vocabulary (contract_error for others).
piece_model to_piece_model(const gguf_vocabulary& vocabulary);

}  // namespace isthmus
