#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/gguf_vocabulary.hpp"
#include "framework/tokenizer/piece_tokenizer.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace isthmus {

/// A GGUF file's vocabulary at work, id for id as llama.cpp: byte-level BPE ("gpt2") or SentencePiece ("llama"). User-defined tokens are
/// cut out of the text first, the longest first. Immutable: threads share one.
class gguf_tokenizer {
public:
  /// Errors: unsupported, malformed, too_large (more than 16384 user-defined tokens); they name `where`.
  static expected<gguf_tokenizer> make(gguf_vocabulary vocabulary, const std::string& where);

  const gguf_vocabulary& vocabulary() const { return vocabulary_; }
  std::int64_t size() const { return static_cast<std::int64_t>(vocabulary_.tokens.size()); }
  /// The ids of a text: behind the begin token, and before the end token, where the file says so. as_tokens: names of control tokens in the
  /// text are these tokens, which is for templates and not for strangers' texts. Makes the tables of a byte-level encoder: some
  /// milliseconds a call.
  std::vector<token_id> encode(std::string_view text, specials mode = specials::as_text) const;
  /// The same without the end token: what a model is to continue.
  std::vector<token_id> prompt(std::string_view text, specials mode = specials::as_text) const;
  /// The bytes of the tokens joined, without those of control tokens; ids out of range are skipped. A SentencePiece text begins with the
  /// blank that its encoder put before it.
  std::string decode(std::span<const token_id> ids) const;
  std::optional<token_id> begin() const { return vocabulary_.begin; }
  std::optional<token_id> end() const { return vocabulary_.end; }
  bool adds_begin() const;
  /// What encode() puts around a text.
  text_template around() const;
  /// Jinja, as the file has it; nothing here runs it. Null when there is none of that name; "": the default one.
  const std::string* chat_template(std::string_view name = "") const;
  /// What a byte-level vocabulary is made of; null for SentencePiece. Without user-defined tokens in its specials.
  const tokenizer* byte_level() const { return std::get_if<tokenizer>(&words_); }
  const piece_tokenizer* pieces() const { return std::get_if<piece_tokenizer>(&words_); }

private:
  gguf_tokenizer(gguf_vocabulary vocabulary, std::variant<tokenizer, piece_tokenizer> words)
      : vocabulary_(std::move(vocabulary)), words_(std::move(words)) {}
  struct fragment {
    std::string_view text;
    token_id token = -1;  // instead of the text
  };
  std::vector<fragment> fragments(std::string_view text, specials mode) const;

  gguf_vocabulary vocabulary_;
  std::variant<tokenizer, piece_tokenizer> words_;
  std::vector<token_id> cut_out_;  // user-defined, control and unknown tokens, the longest first
};

}  // namespace isthmus
