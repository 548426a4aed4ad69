#pragma once

#include "framework/core/expected.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace isthmus {

/// A BPE over characters with a token for each byte, as a value: how Hugging Face keeps the SentencePiece vocabularies of Llama 2 and Mistral.
struct character_bpe_model {
  /// Where a blank is put before a part of the text; parts are what lies between added tokens.
  enum class blank_rule {
    none,
    each,          // before each part (Prepend)
    each_lacking,  // before each part that begins with none (Metaspace, "always")
    first_lacking  // before a part that begins with none, if it is the text's beginning (Metaspace, "first")
  };
  std::vector<std::string> tokens;       // by id: U+2581 stands for a blank, "<0x0A>" is the token of a byte
  std::vector<bool> words;               // [tokens.size()]: in the BPE's own vocabulary, not an added token alone
  std::vector<bpe_model::merge> merges;  // by rank, best first
  std::vector<token_id> added;           // ascending: cut out of the text before all else, the leftmost first, of these the longest
  std::vector<token_id> specials;        // ascending, of `added`: cut out when asked for alone, nothing when decoded
  blank_rule blank = blank_rule::none;
  bool cuts_words = false;  // a part is cut before each blank, and no merge goes over a cut
  text_template around = {};
  bool operator==(const character_bpe_model&) const = default;
};

/// Encodes and decodes, id for id as Hugging Face `tokenizers`: characters, then the merge of least rank again and again, of equal ones the
/// leftmost; characters without a token become the tokens of their bytes. Immutable: threads share one.
class character_bpe {
public:
  /// Errors: malformed, when a byte has no token; it names `where`. What parse_character_bpe_json gives is sound otherwise.
  static expected<character_bpe> make(character_bpe_model model, const std::string& where);

  std::int64_t vocabulary() const { return static_cast<std::int64_t>(model_.tokens.size()); }
  const character_bpe_model& model() const { return model_; }
  /// as_text: names of special tokens in the text are text. O(n log n) in the longest part.
  std::vector<token_id> encode(std::string_view text, specials mode = specials::as_text) const;
  /// The same without what is put behind a text: what a model is to continue.
  std::vector<token_id> prompt(std::string_view text, specials mode = specials::as_text) const;
  /// The bytes of the tokens joined, without special ones; ids out of range are skipped. The blank that was put before a text is there.
  std::string decode(std::span<const token_id> ids) const;

private:
  character_bpe() = default;
  struct rank {
    std::int32_t place = 0;
    token_id result = 0;
  };
  /// The longest added token that begins here; -1: none.
  token_id added_at(std::string_view text, specials mode) const;
  /// part: without added tokens; first: it is the text's beginning.
  void encode_part(std::string_view part, bool first, std::vector<token_id>& out) const;
  /// word: with U+2581 for blanks.
  void encode_word(std::string_view word, std::vector<token_id>& out) const;
  void merge(std::vector<token_id>& ids) const;

  character_bpe_model model_;
  std::vector<std::string> bytes_;                     // [vocabulary]: what a token stands for
  std::vector<token_id> byte_ids_;                     // [256]
  std::unordered_map<std::string, token_id> letters_;  // of one character
  std::unordered_map<std::uint64_t, rank> ranks_;      // by left << 32 | right
  std::vector<std::vector<token_id>> added_by_byte_;   // [256]: by the first byte of their names, the longest first
};

/// Whether a tokenizer.json is of this kind: its model is a BPE with byte_fallback. False for what is no JSON.
bool is_character_bpe_json(std::string_view text);

/// Reads such a tokenizer.json: normalizer Prepend and Replace (Llama 2), or pre-tokenizer Metaspace (Mistral), or a Replace alone.
/// Refuses, never skips, what this project does not do the same way. Errors name `where` and the path of the value in the file.
expected<character_bpe_model> parse_character_bpe_json(std::string_view text, const std::string& where);

}  // namespace isthmus
