#include "framework/tokenizer/tokenizer.hpp"

#include "framework/core/rng.hpp"

#include <fmt/format.h>

#include <array>
#include <limits>
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
  return hash_bytes(std::as_bytes(std::span(words)));
}

}  // namespace

std::size_t tokenizer::pair_hash::operator()(std::uint64_t key) const { return static_cast<std::size_t>(mix64(key)); }

tokenizer::tokenizer(bpe_model model) : model_(std::move(model)), byte_ids_(256, -1), special_(model_.tokens.size(), false) {
  ensure(model_.tokens.size() <= static_cast<std::size_t>(std::numeric_limits<token_id>::max()), "tokenizer: vocabulary too large");
  const auto known = [&](token_id id) { return id >= 0 && id < vocabulary(); };
  for (const token_id id : model_.specials) {
    ensure(known(id), "tokenizer: special token out of range");
    special_[static_cast<std::size_t>(id)] = true;
    if (model_.tokens[static_cast<std::size_t>(id)] == "<|endoftext|>") end_of_text_ = id;
  }
  for (token_id id = 0; id < vocabulary(); ++id) {
    const std::string& token = model_.tokens[static_cast<std::size_t>(id)];
    if (token.size() == 1 && !special_[static_cast<std::size_t>(id)]) byte_ids_[static_cast<unsigned char>(token[0])] = id;
  }
  for (const token_id id : byte_ids_) ensure(id >= 0, "tokenizer: a byte without a token");
  ranks_.reserve(model_.merges.size() * 2);
  for (std::size_t rank = 0; rank < model_.merges.size(); ++rank) {
    const auto& m = model_.merges[rank];
    ensure(known(m.left) && known(m.right) && known(m.result), "tokenizer: merge of an unknown token");
    ranks_[key_of(m.left, m.right)] = {static_cast<std::int32_t>(rank), m.result};
  }
  hash_ = hash_model(model_);
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

const tokenizer::ranked* tokenizer::find_merge(token_id left, token_id right) const {
  const auto found = ranks_.find(key_of(left, right));
  return found == ranks_.end() ? nullptr : &found->second;
}

void tokenizer::merge_short(std::vector<token_id>& ids) const {
  constexpr ranked none{std::numeric_limits<std::int32_t>::max(), -1};
  const auto look = [&](std::size_t i) {
    const ranked* m = i + 1 < ids.size() ? find_merge(ids[i], ids[i + 1]) : nullptr;
    return m ? *m : none;
  };
  std::vector<ranked> best(ids.size());  // [i]: of ids[i], ids[i + 1]
  for (std::size_t i = 0; i < ids.size(); ++i) best[i] = look(i);
  while (ids.size() > 1) {
    std::size_t at = 0;
    for (std::size_t i = 1; i + 1 < ids.size(); ++i)
      if (best[i].rank < best[at].rank) at = i;
    if (best[at].result < 0) break;
    ids[at] = best[at].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    best.erase(best.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    best[at] = look(at);
    if (at > 0) best[at - 1] = look(at - 1);
  }
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
    if (const ranked* m = find_merge(ids[at], ids[next[at]])) queue.push({m->rank, at});
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
    const ranked* m = find_merge(ids[top.at], ids[next[top.at]]);
    if (!m || m->rank != top.rank) continue;  // an entry from before a merge
    const std::uint32_t right = next[top.at];
    ids[top.at] = m->result;
    ids[right] = -1;
    next[top.at] = next[right];
    if (next[right] != gone) previous[next[right]] = top.at;
    if (next[top.at] != gone) push(top.at);
    if (previous[top.at] != gone) push(previous[top.at]);
  }
  std::erase(ids, -1);
}

expected<void> check_vocabulary(const tokenizer& tokens, std::int64_t model_vocabulary, const std::string& where) {
  if (tokens.vocabulary() == model_vocabulary) return {};
  return fail(errc::out_of_range, fmt::format("{}: a vocabulary of {} tokens, but the model has {}: use the tokenizer it was trained with, or set "
                                              "model.vocabulary = {}",
                                              where, tokens.vocabulary(), model_vocabulary, tokens.vocabulary()));
}

}  // namespace isthmus
