#include "framework/tokenizer/character_bpe.hpp"

#include "framework/tokenizer/piece_tokenizer.hpp"
#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <tuple>

namespace isthmus {

namespace {

constexpr std::string_view blank = "\u2581";

std::uint64_t pair_of(token_id left, token_id right) { return static_cast<std::uint64_t>(left) << 32U | static_cast<std::uint64_t>(right); }

/// A merge that could be done; out of date when its neighbours are others by now.
struct candidate {
  std::int32_t place;
  std::size_t at, next;  // in the list of ids
  token_id left, right, result;
  bool operator<(const candidate& o) const { return std::tie(place, at) > std::tie(o.place, o.at); }  // the least on top
};

}  // namespace

expected<character_bpe> character_bpe::make(character_bpe_model model, const std::string& where) {
  character_bpe out;
  out.byte_ids_.assign(256, -1);
  out.added_by_byte_.resize(256);
  for (std::size_t i = 0; i < model.tokens.size(); ++i) {
    const std::string& token = model.tokens[i];
    const auto id = static_cast<token_id>(i);
    const bool special = std::ranges::binary_search(model.specials, id), added = std::ranges::binary_search(model.added, id);
    const int byte = byte_of_piece(token);  // decoding goes through added tokens as through others
    if (byte >= 0 && !added) out.byte_ids_[static_cast<std::size_t>(byte)] = id;
    out.bytes_.push_back(special ? "" : byte >= 0 ? std::string(1, static_cast<char>(byte)) : with_blanks(token));
    if (added) out.added_by_byte_[static_cast<unsigned char>(token.front())].push_back(id);
    if (model.words[i] && decode_utf8(token, 0).bytes == token.size()) out.letters_.emplace(token, id);
  }
  for (std::size_t byte = 0; byte < 256; ++byte)
    if (out.byte_ids_[byte] < 0) return fail(errc::malformed, fmt::format("{}: model.vocab: no token <0x{:02X}>", where, byte));
  for (auto& names : out.added_by_byte_)
    std::ranges::stable_sort(names, [&](token_id a, token_id b) {
      return model.tokens[static_cast<std::size_t>(a)].size() > model.tokens[static_cast<std::size_t>(b)].size();
    });
  for (std::size_t i = 0; i < model.merges.size(); ++i)
    out.ranks_.emplace(pair_of(model.merges[i].left, model.merges[i].right), rank{static_cast<std::int32_t>(i), model.merges[i].result});
  out.model_ = std::move(model);
  return out;
}

token_id character_bpe::added_at(std::string_view text, specials mode) const {
  for (const token_id id : added_by_byte_[static_cast<unsigned char>(text.front())]) {
    if (mode == specials::as_text && std::ranges::binary_search(model_.specials, id)) continue;
    if (text.starts_with(model_.tokens[static_cast<std::size_t>(id)])) return id;
  }
  return -1;
}

std::vector<token_id> character_bpe::prompt(std::string_view text, specials mode) const {
  std::vector<token_id> ids = model_.around.before;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const token_id id = added_at(text.substr(at), mode);
    if (id < 0) {
      ++at;
      continue;
    }
    encode_part(text.substr(begin, at - begin), begin == 0, ids);
    ids.push_back(id);
    begin = at += model_.tokens[static_cast<std::size_t>(id)].size();
  }
  encode_part(text.substr(begin), begin == 0, ids);
  return ids;
}

std::vector<token_id> character_bpe::encode(std::string_view text, specials mode) const {
  auto ids = prompt(text, mode);
  ids.insert(ids.end(), model_.around.after.begin(), model_.around.after.end());
  return ids;
}

void character_bpe::encode_part(std::string_view part, bool first, std::vector<token_id>& out) const {
  using rule = character_bpe_model::blank_rule;
  if (part.empty()) return;
  std::string text = without_blanks(part);
  const bool lacks = !text.starts_with(blank);
  if (model_.blank == rule::each || (model_.blank == rule::each_lacking && lacks) ||
      (model_.blank == rule::first_lacking && first && lacks))
    text.insert(0, blank);
  std::size_t begin = 0;
  while (model_.cuts_words) {
    const std::size_t cut = text.find(blank, begin + 1);
    if (cut == std::string::npos) break;
    encode_word(std::string_view(text).substr(begin, cut - begin), out);
    begin = cut;
  }
  encode_word(std::string_view(text).substr(begin), out);
}

void character_bpe::encode_word(std::string_view word, std::vector<token_id>& out) const {
  std::vector<token_id> ids;
  for (std::size_t at = 0; at < word.size();) {
    const std::string letter(word.substr(at, decode_utf8(word, at).bytes));
    if (const auto found = letters_.find(letter); found != letters_.end())
      ids.push_back(found->second);
    else
      for (const char c : letter) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    at += letter.size();
  }
  merge(ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

/// ids of what was merged into its left neighbour are -1 on the way.
void character_bpe::merge(std::vector<token_id>& ids) const {
  const std::size_t none = ids.size();
  std::vector<std::size_t> previous(ids.size()), next(ids.size());
  std::priority_queue<candidate> queue;
  const auto consider = [&](std::size_t left, std::size_t right) {
    if (left == none || right == none) return;
    if (const auto found = ranks_.find(pair_of(ids[left], ids[right])); found != ranks_.end())
      queue.push({found->second.place, left, right, ids[left], ids[right], found->second.result});
  };
  for (std::size_t i = 0; i < ids.size(); ++i) {
    previous[i] = i > 0 ? i - 1 : none;
    next[i] = i + 1 < ids.size() ? i + 1 : none;
  }
  for (std::size_t i = 1; i < ids.size(); ++i) consider(i - 1, i);
  while (!queue.empty()) {
    const candidate best = queue.top();
    queue.pop();
    if (ids[best.at] != best.left || next[best.at] != best.next || ids[best.next] != best.right) continue;
    ids[best.at] = best.result;
    ids[best.next] = -1;
    next[best.at] = next[best.next];
    if (next[best.at] != none) previous[next[best.at]] = best.at;
    consider(previous[best.at], best.at);
    consider(best.at, next[best.at]);
  }
  std::erase(ids, -1);
}

std::string character_bpe::decode(std::span<const token_id> ids) const {
  std::string text;
  for (const token_id id : ids)
    if (id >= 0 && id < vocabulary()) text += bytes_[static_cast<std::size_t>(id)];
  return text;
}

}  // namespace isthmus
