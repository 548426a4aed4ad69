#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/tokenizer/pre_token.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace isthmus {

using token_id = std::int32_t;

/// What a tokenizer puts around every text that is given to a model. Documents of a corpus are encoded without it.
struct text_template {
  std::vector<token_id> before, after;
  bool operator==(const text_template&) const = default;
};

/// A byte-level BPE as a value: what is trained, written as tokenizer.json, read and hashed.
struct bpe_model {
  struct merge {
    token_id left = 0, right = 0, result = 0;
    bool operator==(const merge&) const = default;
  };
  std::vector<std::string> tokens;  // by id: the bytes of a token, for a special one its name
  std::vector<merge> merges;        // by rank, best first
  std::vector<token_id> specials;   // ascending; cut out of the text before all else when asked for
  pre_token_pattern pattern = pre_token_pattern::gpt2;
  bool whole_words = false;  // a pre-token that is a token is that token, whatever the merges give (`ignore_merges`)
  text_template around = {};
  bool operator==(const bpe_model&) const = default;
};

/// Encodes and decodes. Immutable: threads share one. Equal to Hugging Face `tokenizers` with a ByteLevel pre-tokenizer
/// (GPT-2's or Llama 3's pattern, no prefix space) and model BPE, id for id.
class tokenizer {
public:
  /// The model must be sound: every byte has a token, merges name tokens, specials and those around a text are ids (contract_error
  /// otherwise).
  explicit tokenizer(bpe_model model);

  std::int64_t vocabulary() const { return static_cast<std::int64_t>(model_.tokens.size()); }
  const bpe_model& model() const { return model_; }
  /// Of "<|endoftext|>", which ends every document; absent when the vocabulary has none.
  std::optional<token_id> end_of_text() const { return end_of_text_; }
  /// Identifies the ids' meaning, whatever the layout of the file: of tokens, merges and specials; not what is put around a text.
  const hash128& hash() const { return hash_; }
  /// The bytes of the tokens joined; skips specials unless asked. Ids out of range are skipped. May end inside a UTF-8 character.
  std::string decode(std::span<const token_id> ids, bool with_specials = false) const;
  /// The bytes of one token; id must be in range.
  std::string_view bytes(token_id id) const;

private:
  friend class encoder;
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct ranked {
    token_id left = -1, right = -1;  // -1: an empty place
    std::int32_t rank = std::numeric_limits<std::int32_t>::max();
    token_id result = -1;
  };
  /// Where the merge of a pair lies in ranks_, or the empty place where it would.
  std::size_t place_of(token_id left, token_id right) const;
  const ranked& find_merge(token_id left, token_id right) const { return ranks_[place_of(left, right)]; }
  /// Merge ids in place, the best ranked pair first, of equals the leftmost. Short, up to short_max ids: a scan a merge; long: a heap.
  static constexpr std::size_t short_max = 48;
  void merge_short(std::vector<token_id>& ids) const;
  void merge_long(std::vector<token_id>& ids) const;

  /// Of whole words: the token of these bytes that is no special; -1: none.
  token_id find_word(std::string_view piece) const;

  bpe_model model_;
  std::vector<token_id> byte_ids_;                                               // [256]
  std::vector<bool> special_;                                                    // [vocabulary]
  std::vector<ranked> ranks_;                                                    // a power of two, open addressing
  std::unordered_map<std::string, token_id, text_hash, std::equal_to<>> words_;  // empty unless model_.whole_words
  std::optional<token_id> end_of_text_;
  hash128 hash_;
};

/// What to do with the name of a special token inside a text. Documents of strangers are encoded as_text.
enum class specials { as_text, as_tokens };

/// Encodes with one tokenizer and remembers the pre-tokens it meets first, in at most some 20 MB. One thread each; borrows the
/// tokenizer.
class encoder {
public:
  explicit encoder(const tokenizer& tokens);
  /// Appends the ids of text. O(n log n) in the longest pre-token, so that no text stalls it.
  void encode(std::string_view text, std::vector<token_id>& out, specials mode = specials::as_text);
  /// What a model is to continue: what is put before a text, and its ids.
  std::vector<token_id> prompt(std::string_view text, specials mode = specials::as_text);

private:
  static constexpr std::size_t inline_ids = 3;
  struct range {
    std::uint32_t begin = 0, count = 0;  // in pool_
  };
  struct alignas(32) slot {
    std::uint64_t low = 0, high = 0;  // up to 15 bytes, the length above them; 0, 0 is empty
    std::uint32_t count = 0;
    token_id ids[inline_ids] = {};  // of more than three ids, the first entry says where they lie in pool_
  };
  void encode_plain(std::string_view text, std::vector<token_id>& out);
  void encode_long(std::string_view piece, std::vector<token_id>& out);
  slot& find_slot(std::uint64_t low, std::uint64_t high);
  void fill(slot& empty, std::uint64_t low, std::uint64_t high, std::string_view piece);
  void merge_piece(std::string_view piece);  // into scratch_
  range keep();                              // scratch_ in pool_

  const tokenizer& tokens_;
  std::vector<slot> slots_;  // a power of two, open addressing
  std::size_t used_ = 0;
  std::unordered_map<std::string, range, tokenizer::text_hash, std::equal_to<>> long_;
  std::vector<token_id> pool_, scratch_;
};

/// tokenizer.json as Hugging Face `tokenizers` reads it.
std::string to_tokenizer_json(const bpe_model& model);
/// Reads tokenizer.json. Refuses, never skips, what this project does not do the same way (other models, normalizers,
/// pre-tokenizers). Errors name `where` and the line and column, or the path of the value in the file.
expected<bpe_model> parse_tokenizer_json(std::string_view text, const std::string& where);
/// Whether a model of so many tokens can read the ids of a tokenizer of so many. Errors: out_of_range, naming `where` the tokenizer is.
expected<void> check_vocabulary(std::int64_t tokens, std::int64_t of_model, const std::string& where);

}  // namespace isthmus
