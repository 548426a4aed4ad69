#pragma once

#include "framework/core/expected.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace isthmus {

/// What a piece is for, with SentencePiece's numbers.
enum class piece_kind : std::uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

/// A SentencePiece vocabulary (Kudo & Richardson 2018, arXiv:1808.06226) whose pieces are joined by score, as a value.
struct piece_model {
  std::vector<std::string> pieces;  // by id; U+2581 stands for a blank, "<0x0A>" is the piece of a byte
  std::vector<float> scores;        // [pieces.size()]: of two joins the one whose result has the higher score goes first
  std::vector<piece_kind> kinds;    // [pieces.size()]
};

/// Encodes and decodes as SentencePiece's BPE does, id for id as llama.cpp: characters, then the best join again and again, of equal ones
/// the leftmost; characters that are no piece become the pieces of their bytes. Immutable: threads share one.
class piece_tokenizer {
public:
  /// The three lists are equally long. Errors: malformed, when a byte has no piece or a piece stands twice; it names `where`.
  static expected<piece_tokenizer> make(piece_model model, const std::string& where);

  std::int64_t vocabulary() const { return static_cast<std::int64_t>(model_.pieces.size()); }
  const piece_model& model() const { return model_; }
  /// Appends the ids of text, which holds no control pieces: their names are text like any other. O(n log n).
  void encode(std::string_view text, std::vector<token_id>& out) const;
  /// What a piece stands for, with blanks; nothing for control and unknown pieces. id must be in range.
  std::string_view bytes(token_id id) const;

private:
  piece_tokenizer() = default;
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  /// The piece of that text; -1: none.
  token_id find(std::string_view text) const;

  piece_model model_;
  std::unordered_map<std::string, token_id, text_hash, std::equal_to<>> ids_;  // of those that text can become
  std::vector<std::string> bytes_;                                             // [vocabulary]
  std::vector<token_id> byte_ids_;                                             // [256]
  std::size_t longest_ = 0;                                                    // piece, in bytes
};

/// The byte that a piece like "<0x0A>" names; -1: it names none.
int byte_of_piece(std::string_view name);
/// A piece with blanks for U+2581, and a text with U+2581 for blanks.
std::string with_blanks(std::string_view piece);
std::string without_blanks(std::string_view text);

/// The vocabulary as Hugging Face `tokenizers` takes it, for Transformers: BPE whose merges are ordered by score. Of joins with one score
/// `tokenizers` takes the one with the lower ids first, SentencePiece the leftmost.
std::string to_tokenizer_json(const piece_model& model, bool space_prefix, const text_template& around);

}  // namespace isthmus
