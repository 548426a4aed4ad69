#include "framework/formats/gguf_vocabulary.hpp"

#include "framework/tokenizer/byte_alphabet.hpp"
#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t vocabulary_max = 1 << 22;
constexpr std::size_t token_bytes_max = 4096;
constexpr std::size_t template_bytes_max = 1 << 20;
const std::string prefix = "tokenizer.ggml.";

/// Names of llama.cpp that stand for a pattern that we have, and whether a pre-token that is a token is taken whole.
struct known_pattern {
  std::string_view name;
  pre_token_pattern pattern;
  bool whole_words;
};
constexpr std::array<known_pattern, 10> patterns{{{"gpt-2", pre_token_pattern::gpt2, false},
                                                  {"mpt", pre_token_pattern::gpt2, false},
                                                  {"olmo", pre_token_pattern::gpt2, false},
                                                  {"jais", pre_token_pattern::gpt2, false},
                                                  {"trillion", pre_token_pattern::gpt2, false},
                                                  {"granite-docling", pre_token_pattern::gpt2, false},
                                                  {"llama-bpe", pre_token_pattern::llama3, true},
                                                  {"llama3", pre_token_pattern::llama3, true},
                                                  {"llama-v3", pre_token_pattern::llama3, true},
                                                  {"dbrx", pre_token_pattern::llama3, false}}};

std::string pattern_names() {
  std::string names;
  for (const auto& p : patterns) names += (names.empty() ? "" : ", ") + std::string(p.name);
  return names;
}

std::string in_quotes(std::string_view text) { return "\"" + std::string(text.substr(0, 80)) + "\""; }

class reader {
public:
  explicit reader(const gguf_file& file) : file_(file) {}

  expected<gguf_vocabulary> read() {
    for (auto part : {&reader::read_kind, &reader::read_tokens, &reader::read_types, &reader::read_scores, &reader::read_merges,
                      &reader::read_options, &reader::read_templates})
      if (auto ok = (this->*part)(); !ok) return ok.failure();
    return std::move(out_);
  }

private:
  unexpected bad(errc code, const std::string& key, const std::string& what) const {
    return fail(code, fmt::format("{}: {}: {}", file_.where, key, what));
  }

  /// The array of a key; null when there is no such key.
  template <class T>
  expected<const std::vector<T>*> array(const std::string& key, const char* wanted) const {
    const gguf_value* value = file_.find(key);
    if (value == nullptr) return static_cast<const std::vector<T>*>(nullptr);
    if (const auto* held = std::get_if<std::vector<T>>(&value->data)) return held;
    return bad(errc::malformed, key, std::string("must be an array of ") + wanted);
  }

  expected<void> read_kind() {
    const auto model = file_.text(prefix + "model");
    if (!model) return model.failure();
    if (*model != "gpt2" && *model != "llama")
      return bad(errc::unsupported, prefix + "model", in_quotes(*model) + " is not supported, only \"gpt2\" and \"llama\"");
    out_.model = *model;
    if (file_.find(prefix + "pre") == nullptr) return {};
    auto pre = file_.text(prefix + "pre");
    if (!pre) return pre.failure();
    out_.pre = std::move(*pre);
    return {};
  }

  expected<void> read_tokens() {
    const std::string key = prefix + "tokens";
    const auto tokens = array<std::string>(key, "strings");
    if (!tokens) return tokens.failure();
    if (*tokens == nullptr || (*tokens)->empty()) return bad(errc::malformed, key, "must be there and not empty");
    if ((*tokens)->size() > vocabulary_max)
      return bad(errc::too_large, key, fmt::format("{} tokens, at most {} allowed", (*tokens)->size(), vocabulary_max));
    for (std::size_t id = 0; id < (*tokens)->size(); ++id) {
      const std::string& token = (**tokens)[id];
      if (token.size() > token_bytes_max || !is_utf8(token))
        return bad(errc::malformed, key, fmt::format("token {} must be UTF-8 of at most {} bytes", id, token_bytes_max));
    }
    out_.tokens = **tokens;
    return {};
  }

  expected<void> check_count(const std::string& key, std::size_t count) const {
    if (count == out_.tokens.size()) return {};
    return bad(errc::malformed, key, fmt::format("has {} entries for {} tokens", count, out_.tokens.size()));
  }

  expected<void> read_types() {
    const std::string key = prefix + "token_type";
    const auto types = array<std::int64_t>(key, "i32");
    if (!types) return types.failure();
    if (*types == nullptr) {
      if (out_.model == "llama") return bad(errc::malformed, key, "must be there: it says which tokens are bytes");
      out_.types.assign(out_.tokens.size(), gguf_token_type::normal);
      return {};
    }
    if (auto ok = check_count(key, (*types)->size()); !ok) return ok;
    for (std::size_t id = 0; id < (*types)->size(); ++id) {
      const std::int64_t type = (**types)[id];
      if (type < 1 || type > 6) return bad(errc::out_of_range, key, fmt::format("token {} has type {}, 1 to 6 are known", id, type));
      out_.types.push_back(static_cast<gguf_token_type>(type));
      if (out_.types.back() == gguf_token_type::byte && !is_byte_name(out_.tokens[id]))
        return bad(errc::malformed, key,
                   fmt::format("token {} is a byte, but is called {}, not <0x00> to <0xFF>", id, in_quotes(out_.tokens[id])));
    }
    return {};
  }

  static bool is_byte_name(std::string_view name) {
    const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    return name.size() == 6 && name.starts_with("<0x") && name.ends_with(">") && digit(name[3]) && digit(name[4]);
  }

  expected<void> read_scores() {
    const std::string key = prefix + "scores";
    const auto scores = array<double>(key, "floats");
    if (!scores) return scores.failure();
    if (*scores == nullptr) {
      if (out_.model == "llama") return bad(errc::malformed, key, "must be there: pieces are joined by score");
      return {};
    }
    if (auto ok = check_count(key, (*scores)->size()); !ok) return ok;
    for (std::size_t id = 0; id < (*scores)->size(); ++id)
      if (!std::isfinite((**scores)[id])) return bad(errc::out_of_range, key, fmt::format("token {} has no finite score", id));
    out_.scores = **scores;
    return {};
  }

  expected<void> read_merges() {
    const std::string key = prefix + "merges";
    const auto merges = array<std::string>(key, "strings");
    if (!merges) return merges.failure();
    if (*merges == nullptr) return out_.model == "gpt2" ? bad(errc::malformed, key, "must be there") : expected<void>();
    if (out_.model == "llama") return bad(errc::malformed, key, "does not belong to a \"llama\" vocabulary");
    if ((*merges)->size() > vocabulary_max)
      return bad(errc::too_large, key, fmt::format("{} merges, at most {} allowed", (*merges)->size(), vocabulary_max));
    out_.merges = **merges;
    return {};
  }

  expected<void> read_id(const char* name, std::optional<token_id>& out) {
    const std::string key = prefix + name;
    if (file_.find(key) == nullptr) return {};
    const auto id = file_.whole(key);
    if (!id) return id.failure();
    if (static_cast<std::uint64_t>(*id) >= out_.tokens.size())
      return bad(errc::out_of_range, key, fmt::format("id {} is past the end of the vocabulary of {} tokens", *id, out_.tokens.size()));
    out = static_cast<token_id>(*id);
    return {};
  }
  expected<void> read_flag(const char* name, std::optional<bool>& out) {
    const std::string key = prefix + name;
    if (file_.find(key) == nullptr) return {};
    const auto value = file_.flag(key);
    if (!value) return value.failure();
    out = *value;
    return {};
  }

  expected<void> read_options() {
    for (const auto& [name, out] : {std::pair{"bos_token_id", &out_.begin},
                                    {"eos_token_id", &out_.end},
                                    {"unknown_token_id", &out_.unknown},
                                    {"padding_token_id", &out_.padding}})
      if (auto ok = read_id(name, *out); !ok) return ok;
    for (const auto& [name, out] :
         {std::pair{"add_bos_token", &out_.add_begin}, {"add_eos_token", &out_.add_end}, {"add_space_prefix", &out_.add_space_prefix}})
      if (auto ok = read_flag(name, *out); !ok) return ok;
    return {};
  }

  expected<void> read_templates() {
    const std::string base = "tokenizer.chat_template";
    for (const auto& [key, value] : file_.metadata) {
      if (key != base && !key.starts_with(base + ".")) continue;
      const auto* text = std::get_if<std::string>(&value.data);
      if (text == nullptr || text->size() > template_bytes_max || !is_utf8(*text))
        return bad(errc::malformed, key, fmt::format("must be UTF-8 text of at most {} bytes", template_bytes_max));
      out_.chat_templates.emplace(key == base ? "" : key.substr(base.size() + 1), *text);
    }
    return {};
  }

  const gguf_file& file_;
  gguf_vocabulary out_;
};

class bpe_builder {
public:
  bpe_builder(const gguf_vocabulary& vocabulary, const std::string& where, user_defined mode)
      : from_(vocabulary), where_(where), mode_(mode) {}

  expected<bpe_model> build() {
    for (auto part : {&bpe_builder::check_kind, &bpe_builder::add_tokens, &bpe_builder::check_bytes, &bpe_builder::add_merges})
      if (auto ok = (this->*part)(); !ok) return ok.failure();
    return std::move(model_);
  }

private:
  unexpected bad(errc code, const std::string& key, const std::string& what) const {
    return fail(code, fmt::format("{}: {}{}: {}", where_, prefix, key, what));
  }

  expected<void> check_kind() {
    if (from_.model != "gpt2")
      return bad(errc::unsupported, "model",
                 in_quotes(from_.model) + " (SentencePiece, joined by score) is not supported, only \"gpt2\" (byte-level BPE)");
    const auto known = std::find_if(patterns.begin(), patterns.end(), [&](const known_pattern& p) { return p.name == from_.pre; });
    if (known == patterns.end())
      return bad(errc::unsupported, "pre",
                 fmt::format("the pre-tokenizer {} is not supported, only {}", in_quotes(from_.pre), pattern_names()));
    model_.pattern = known->pattern;
    model_.whole_words = known->whole_words;
    if (from_.add_space_prefix.value_or(false)) return bad(errc::unsupported, "add_space_prefix", "true is not supported");
    return {};
  }

  /// Special and unused tokens stand for themselves; the others are written in the byte alphabet.
  expected<void> add_tokens() {
    for (std::size_t i = 0; i < from_.tokens.size(); ++i) {
      const std::string& name = from_.tokens[i];
      const gguf_token_type type = from_.types[i];
      const auto of_token = [&](errc code, const std::string& what) {
        return bad(code, "tokens", fmt::format("token {} {} {}", i, in_quotes(name), what));
      };
      if ((type == gguf_token_type::user_defined && mode_ == user_defined::refused) || type == gguf_token_type::byte)
        return of_token(errc::unsupported, type == gguf_token_type::byte
                                               ? "is of type byte, which byte-level BPE does not have"
                                               : "is user-defined: cut out of every text, which is not supported");
      const bool literal = type != gguf_token_type::normal;
      if (name.empty() || (literal && name.size() == 1)) return of_token(errc::malformed, "is too short");
      if (!ids_.emplace(name, static_cast<token_id>(i)).second) return of_token(errc::malformed, "stands twice");
      auto bytes = literal ? expected<std::string>(name) : from_byte_alphabet(name);
      if (!bytes) return of_token(errc::malformed, "is not in the byte alphabet: " + bytes.error().message);
      model_.tokens.push_back(std::move(*bytes));
      if (type == gguf_token_type::control || type == gguf_token_type::unknown) model_.specials.push_back(static_cast<token_id>(i));
    }
    return {};
  }

  expected<void> check_bytes() {
    for (unsigned byte = 0; byte < 256; ++byte) {
      const std::string name = to_byte_alphabet(std::string(1, static_cast<char>(byte)));
      const auto found = ids_.find(name);
      if (found == ids_.end() || from_.types[static_cast<std::size_t>(found->second)] != gguf_token_type::normal)
        return bad(errc::malformed, "tokens", fmt::format("no token {} for byte {}: not a byte-level vocabulary", in_quotes(name), byte));
    }
    return {};
  }

  expected<void> add_merges() {
    std::unordered_set<std::string> seen;
    for (std::size_t rank = 0; rank < from_.merges.size(); ++rank) {
      const std::string& merge = from_.merges[rank];
      const auto of_merge = [&](const std::string& what) {
        return bad(errc::malformed, "merges", fmt::format("merge {} {} {}", rank, in_quotes(merge), what));
      };
      const std::size_t space = merge.find(' ');
      if (space == std::string::npos || space == 0 || space + 1 == merge.size() || merge.find(' ', space + 1) != std::string::npos)
        return of_merge("must be \"left right\"");
      const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
      bpe_model::merge m;
      for (const auto& [name, id] : {std::pair{&left, &m.left}, {&right, &m.right}}) {
        const auto found = ids_.find(*name);
        if (found == ids_.end() || !is_normal(found->second)) return of_merge("joins " + in_quotes(*name) + ", which is no token");
        *id = found->second;
      }
      const auto result = ids_.find(left + right);
      if (result == ids_.end() || !is_normal(result->second)) return of_merge("gives what is no token");
      m.result = result->second;
      if (!seen.insert(merge).second) return of_merge("stands twice");
      model_.merges.push_back(m);
    }
    return {};
  }

  bool is_normal(token_id id) const { return from_.types[static_cast<std::size_t>(id)] == gguf_token_type::normal; }

  const gguf_vocabulary& from_;
  const std::string& where_;
  user_defined mode_;
  bpe_model model_;
  std::unordered_map<std::string, token_id> ids_;  // by name as in the file
};

}  // namespace

expected<gguf_vocabulary> read_gguf_vocabulary(const gguf_file& file) { return reader(file).read(); }

expected<bpe_model> to_bpe_model(const gguf_vocabulary& vocabulary, const std::string& where, user_defined mode) {
  ensure(vocabulary.types.size() == vocabulary.tokens.size(), "to_bpe_model: a vocabulary without types");
  return bpe_builder(vocabulary, where, mode).build();
}

piece_model to_piece_model(const gguf_vocabulary& vocabulary) {
  ensure(vocabulary.model == "llama", "to_piece_model: a vocabulary of another model");
  piece_model out{vocabulary.tokens, {}, {}};
  for (const double score : vocabulary.scores) out.scores.push_back(static_cast<float>(score));
  for (const gguf_token_type type : vocabulary.types) out.kinds.push_back(static_cast<piece_kind>(type));
  return out;
}

}  // namespace isthmus
