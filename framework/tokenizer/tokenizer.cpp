#include "framework/tokenizer/tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <queue>

namespace isthmus {

namespace {

std::uint64_t key_of(token_id left, token_id right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

hash128 hash_model(const bpe_model& model) {
  std::vector<std::uint64_t> words{model.tokens.size(), model.merges.size(), model.specials.size()};
  for (const std::string& token : model.tokens) {
    const hash128 h = hash_bytes(std::as_bytes(std::span(token)));
    words.push_back(h.high);
    words.push_back(h.low);
  }
  for (const auto& m : model.merges) {
    words.push_back(key_of(m.left, m.right));
    words.push_back(static_cast<std::uint64_t>(m.result));
  }
  for (const token_id id : model.specials) words.push_back(static_cast<std::uint64_t>(id));
  if (model.pattern != pre_token_pattern::gpt2 || model.whole_words)
    words.push_back(std::uint64_t{model.whole_words} << 32 | static_cast<std::uint64_t>(model.pattern));
  return hash_bytes(std::as_bytes(std::span(words)));
}

}  // namespace

tokenizer::tokenizer(bpe_model model) : model_(std::move(model)), byte_ids_(256, -1), special_(model_.tokens.size(), false) {
  ensure(model_.tokens.size() <= static_cast<std::size_t>(std::numeric_limits<token_id>::max()), "tokenizer: vocabulary too large");
  const auto known = [&](token_id id) { return id >= 0 && id < vocabulary(); };
  for (const token_id id : model_.specials) {
    ensure(known(id), "tokenizer: special token out of range");
    special_[static_cast<std::size_t>(id)] = true;
    if (model_.tokens[static_cast<std::size_t>(id)] == "<|endoftext|>") end_of_text_ = id;
  }
  for (const auto* ids : {&model_.around.before, &model_.around.after})
    for (const token_id id : *ids) ensure(known(id), "tokenizer: a token around a text is out of range");
  for (token_id id = 0; id < vocabulary(); ++id) {
    const std::string& token = model_.tokens[static_cast<std::size_t>(id)];
    if (token.size() == 1 && !special_[static_cast<std::size_t>(id)]) byte_ids_[static_cast<unsigned char>(token[0])] = id;
  }
  for (const token_id id : byte_ids_) ensure(id >= 0, "tokenizer: a byte without a token");
  ranks_.resize(std::bit_ceil(4 * model_.merges.size() + 1));
  for (std::size_t rank = 0; rank < model_.merges.size(); ++rank) {
    const auto& m = model_.merges[rank];
    ensure(known(m.left) && known(m.right) && known(m.result), "tokenizer: merge of an unknown token");
    ranks_[place_of(m.left, m.right)] = {m.left, m.right, static_cast<std::int32_t>(rank), m.result};
  }
  if (model_.whole_words)
    for (token_id id = 0; id < vocabulary(); ++id)
      if (!special_[static_cast<std::size_t>(id)]) words_.emplace(model_.tokens[static_cast<std::size_t>(id)], id);
  hash_ = hash_model(model_);
}

token_id tokenizer::find_word(std::string_view piece) const {
  const auto found = words_.find(piece);
  return found == words_.end() ? -1 : found->second;
}

std::string_view tokenizer::bytes(token_id id) const {
  ensure(id >= 0 && id < vocabulary(), "tokenizer: id out of range");
  return model_.tokens[static_cast<std::size_t>(id)];
}

std::string tokenizer::decode(std::span<const token_id> ids, bool with_specials) const {
  std::string text;
  for (const token_id id : ids)
    if (id >= 0 && id < vocabulary() && (with_specials || !special_[static_cast<std::size_t>(id)])) text += bytes(id);
  return text;
}

std::size_t tokenizer::place_of(token_id left, token_id right) const {
  const std::size_t mask = ranks_.size() - 1;
  for (std::size_t at = static_cast<std::size_t>((key_of(left, right) * 0x9e3779b97f4a7c15U) >> 32) & mask;; at = (at + 1) & mask) {
    const ranked& m = ranks_[at];
    if ((m.left == left && m.right == right) || m.left < 0) return at;
  }
}

void tokenizer::merge_short(std::vector<token_id>& ids) const {
  ensure(ids.size() <= short_max, "tokenizer: too long for a scan a merge");
  constexpr std::int32_t never = std::numeric_limits<std::int32_t>::max();
  std::array<std::int32_t, short_max> rank;  // [i]: of ids[i], ids[i + 1]
  std::size_t count = ids.size();
  const auto look = [&](std::size_t i) { rank[i] = i + 1 < count ? find_merge(ids[i], ids[i + 1]).rank : never; };
  for (std::size_t i = 0; i < count; ++i) look(i);
  while (count > 1) {
    const auto at =
        static_cast<std::size_t>(std::min_element(rank.begin(), rank.begin() + static_cast<std::ptrdiff_t>(count)) - rank.begin());
    if (rank[at] == never) break;
    ids[at] = model_.merges[static_cast<std::size_t>(rank[at])].result;
    --count;
    for (std::size_t i = at + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      rank[i] = rank[i + 1];
    }
    look(at);
    if (at > 0) look(at - 1);
  }
  ids.resize(count);
}

void tokenizer::merge_long(std::vector<token_id>& ids) const {
  struct entry {
    std::int32_t rank;
    std::uint32_t at;
    bool operator>(const entry& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  constexpr std::uint32_t gone = 0xffffffffU;
  const auto count = static_cast<std::uint32_t>(ids.size());
  std::vector<std::uint32_t> next(count), previous(count);  // a linked list over ids; gone: none, or merged into the left
  std::priority_queue<entry, std::vector<entry>, std::greater<>> queue;
  const auto push = [&](std::uint32_t at) {
    if (const ranked& m = find_merge(ids[at], ids[next[at]]); m.result >= 0) queue.push({m.rank, at});
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? i + 1 : gone;
    previous[i] = i > 0 ? i - 1 : gone;
  }
  for (std::uint32_t i = 0; i + 1 < count; ++i) push(i);
  while (!queue.empty()) {
    const entry top = queue.top();
    queue.pop();
    if (ids[top.at] < 0 || next[top.at] == gone) continue;
    const ranked& m = find_merge(ids[top.at], ids[next[top.at]]);
    if (m.rank != top.rank) continue;  // an entry from before a merge
    const std::uint32_t right = next[top.at];
    ids[top.at] = m.result;
    ids[right] = -1;
    next[top.at] = next[right];
    if (next[right] != gone) previous[next[right]] = top.at;
    if (next[top.at] != gone) push(top.at);
    if (previous[top.at] != gone) push(previous[top.at]);
  }
  std::erase(ids, -1);
}

expected<void> check_vocabulary(std::int64_t tokens, std::int64_t of_model, const std::string& where) {
  if (tokens == of_model) return {};
  return fail(errc::out_of_range,
              fmt::format("{}: a vocabulary of {} tokens, but the model has {}: use the tokenizer it was trained with, or in a recipe set "
                          "data.vocabulary = {}",
                          where, tokens, of_model, tokens));
}

}  // namespace isthmus
