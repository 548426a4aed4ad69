#include "framework/formats/gguf_tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t cut_out_max = 16'384;

expected<std::variant<tokenizer, piece_tokenizer>> words_of(const gguf_vocabulary& v, const std::string& where) {
  using either = std::variant<tokenizer, piece_tokenizer>;
  if (v.model == "gpt2") {
    auto model = to_bpe_model(v, where, user_defined::kept);
    if (!model) return model.failure();
    return either(std::in_place_type<tokenizer>, std::move(*model));
  }
  auto made = piece_tokenizer::make(to_piece_model(v), where);
  if (!made) return made.failure();
  return either(std::move(*made));
}

/// What llama.cpp takes where the file does not say.
void fill_defaults(gguf_vocabulary& v) {
  const auto at_most = [&](std::optional<token_id>& id, token_id otherwise) {
    if (!id && static_cast<std::size_t>(otherwise) < v.tokens.size()) id = otherwise;
  };
  if (v.model == "llama") {
    at_most(v.unknown, 0);
    at_most(v.begin, 1);
    at_most(v.end, 2);
  }
  constexpr std::array<std::string_view, 3> llama3{"llama-bpe", "llama3", "llama-v3"};
  if (!v.add_begin) v.add_begin = v.model == "llama" || std::ranges::find(llama3, v.pre) != llama3.end();
  if (!v.add_end) v.add_end = false;
  if (!v.add_space_prefix) v.add_space_prefix = v.model == "llama";
}

}  // namespace

expected<gguf_tokenizer> gguf_tokenizer::make(gguf_vocabulary vocabulary, const std::string& where) {
  fill_defaults(vocabulary);
  auto words = words_of(vocabulary, where);
  if (!words) return words.failure();
  gguf_tokenizer out(std::move(vocabulary), std::move(*words));
  const gguf_vocabulary& v = out.vocabulary_;
  for (std::size_t i = 0; i < v.tokens.size(); ++i)
    if (v.types[i] != gguf_token_type::normal && v.types[i] != gguf_token_type::unused && v.types[i] != gguf_token_type::byte &&
        !v.tokens[i].empty())
      out.cut_out_.push_back(static_cast<token_id>(i));
  if (out.cut_out_.size() > cut_out_max)
    return fail(errc::too_large,
                fmt::format("{}: {} control and user-defined tokens, at most {} allowed", where, out.cut_out_.size(), cut_out_max));
  std::stable_sort(out.cut_out_.begin(), out.cut_out_.end(), [&](token_id a, token_id b) {
    return v.tokens[static_cast<std::size_t>(a)].size() > v.tokens[static_cast<std::size_t>(b)].size();
  });
  return out;
}

bool gguf_tokenizer::adds_begin() const { return *vocabulary_.add_begin && vocabulary_.begin.has_value(); }

text_template gguf_tokenizer::around() const {
  text_template out;
  if (adds_begin()) out.before.push_back(*vocabulary_.begin);
  if (*vocabulary_.add_end && vocabulary_.end) out.after.push_back(*vocabulary_.end);
  return out;
}

const std::string* gguf_tokenizer::chat_template(std::string_view name) const {
  const auto found = vocabulary_.chat_templates.find(std::string(name));
  return found == vocabulary_.chat_templates.end() ? nullptr : &found->second;
}

std::vector<gguf_tokenizer::fragment> gguf_tokenizer::fragments(std::string_view text, specials mode) const {
  std::vector<fragment> whole;
  if (!text.empty()) whole.push_back({text});
  for (const token_id id : cut_out_) {
    const auto at = static_cast<std::size_t>(id);
    if (mode == specials::as_text && vocabulary_.types[at] != gguf_token_type::user_defined) continue;
    const std::string& name = vocabulary_.tokens[at];
    if (text.find(name) == std::string_view::npos) continue;
    std::vector<fragment> cut;
    for (fragment f : whole) {
      for (std::size_t found = f.token < 0 ? f.text.find(name) : std::string_view::npos; found != std::string_view::npos;
           found = f.text.find(name)) {
        if (found > 0) cut.push_back({f.text.substr(0, found)});
        cut.push_back({name, id});
        f.text.remove_prefix(found + name.size());
      }
      if (!f.text.empty()) cut.push_back(f);
    }
    whole = std::move(cut);
  }
  return whole;
}

std::vector<token_id> gguf_tokenizer::prompt(std::string_view text, specials mode) const {
  std::vector<token_id> ids = around().before;
  const auto parts = fragments(text, mode);
  if (const tokenizer* bytes = byte_level()) {
    encoder words(*bytes);
    for (const fragment& f : parts) {
      if (f.token >= 0)
        ids.push_back(f.token);
      else
        words.encode(f.text, ids);
    }
    return ids;
  }
  bool behind_token = true;  // so is the beginning
  for (const fragment& f : parts) {
    if (f.token >= 0)
      ids.push_back(f.token);
    else
      pieces()->encode((behind_token && *vocabulary_.add_space_prefix ? " " : "") + std::string(f.text), ids);
    behind_token = f.token >= 0;
  }
  return ids;
}

std::vector<token_id> gguf_tokenizer::encode(std::string_view text, specials mode) const {
  auto ids = prompt(text, mode);
  const text_template wrap = around();
  ids.insert(ids.end(), wrap.after.begin(), wrap.after.end());
  return ids;
}

std::string gguf_tokenizer::decode(std::span<const token_id> ids) const {
  if (const tokenizer* bytes = byte_level()) return bytes->decode(ids);
  std::string text;
  for (const token_id id : ids)
    if (id >= 0 && id < size()) text += pieces()->bytes(id);
  return text;
}

}  // namespace isthmus
