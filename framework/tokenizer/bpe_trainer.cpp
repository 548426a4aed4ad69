#include "framework/tokenizer/bpe_trainer.hpp"

#include "framework/core/rng.hpp"
#include "framework/tokenizer/byte_alphabet.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <unordered_set>

namespace isthmus {

namespace {

struct id_pair {
  token_id left = 0, right = 0;
  auto operator<=>(const id_pair&) const = default;
};

struct id_pair_hash {
  std::size_t operator()(const id_pair& p) const {
    return static_cast<std::size_t>(mix64(static_cast<std::uint64_t>(p.left) << 32 | static_cast<std::uint32_t>(p.right)));
  }
};

struct word {
  std::vector<token_id> symbols;
  std::int64_t count = 0;
};

/// A pair that may be merged next. `words` hold it, or did when the entry was made.
struct candidate {
  id_pair pair;
  std::int64_t count = 0;
  std::vector<std::uint32_t> words;
};

struct worse {
  bool operator()(const candidate& a, const candidate& b) const { return a.count != b.count ? a.count < b.count : a.pair > b.pair; }
};

class trainer {
public:
  trainer(const pre_token_counts& counts, const bpe_options& options) : options_(options) {
    start_vocabulary();
    split_words(counts);
  }

  bpe_model run() {
    while (static_cast<std::int64_t>(model_.tokens.size()) < options_.vocabulary && !queue_.empty()) {
      candidate best = queue_.top();
      queue_.pop();
      if (const std::int64_t now = pair_counts_[best.pair]; best.count != now) {
        best.count = now;
        queue_.push(std::move(best));
        continue;
      }
      if (best.count < static_cast<std::int64_t>(std::max<std::uint64_t>(options_.pair_count_minimum, 1))) break;
      merge(best);
    }
    keep_last_of_each_pair();
    return std::move(model_);
  }

private:
  void start_vocabulary() {
    for (const std::string& name : options_.specials) {
      model_.specials.push_back(static_cast<token_id>(model_.tokens.size()));
      model_.tokens.push_back(name);
    }
    for (const std::uint8_t byte : byte_order_of_ids()) {
      byte_ids_[byte] = static_cast<token_id>(model_.tokens.size());
      model_.tokens.emplace_back(1, static_cast<char>(byte));
    }
    for (std::size_t id = options_.specials.size(); id < model_.tokens.size(); ++id) ids_[model_.tokens[id]] = static_cast<token_id>(id);
  }

  void split_words(const pre_token_counts& counts) {
    for (const auto& entry : counts.sorted()) {
      word w{{}, static_cast<std::int64_t>(entry.count)};
      for (const char c : entry.text) w.symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      const auto index = static_cast<std::uint32_t>(words_.size());
      for (std::size_t i = 0; i + 1 < w.symbols.size(); ++i) change({w.symbols[i], w.symbols[i + 1]}, 1, index, w.count);
      words_.push_back(std::move(w));
    }
    queue_changed();
  }

  void change(const id_pair& pair, int sign, std::uint32_t index, std::int64_t count) {
    pair_counts_[pair] += sign * count;
    if (sign < 0) return;
    auto& holders = changed_[pair];
    if (holders.empty() || holders.back() != index) holders.push_back(index);
  }

  void queue_changed() {
    for (auto& [pair, holders] : changed_)
      if (const std::int64_t count = pair_counts_[pair]; count > 0) queue_.push({pair, count, std::move(holders)});
    changed_.clear();
  }

  void merge(const candidate& best) {
    const std::string text =
        model_.tokens[static_cast<std::size_t>(best.pair.left)] + model_.tokens[static_cast<std::size_t>(best.pair.right)];
    const auto [found, fresh] = ids_.try_emplace(text, static_cast<token_id>(model_.tokens.size()));
    if (fresh) model_.tokens.push_back(text);
    model_.merges.push_back({best.pair.left, best.pair.right, found->second});
    for (const std::uint32_t index : best.words) merge_in(index, best.pair, found->second);
    queue_changed();
  }

  void merge_in(std::uint32_t index, const id_pair& pair, token_id result) {
    auto& symbols = words_[index].symbols;
    const std::int64_t count = words_[index].count;
    std::size_t kept = 0;  // symbols[0, kept) is done
    for (std::size_t i = 0; i < symbols.size(); ++kept) {
      if (i + 1 == symbols.size() || symbols[i] != pair.left || symbols[i + 1] != pair.right) {
        symbols[kept] = symbols[i++];
        continue;
      }
      if (kept > 0) {
        change({symbols[kept - 1], pair.left}, -1, index, count);
        change({symbols[kept - 1], result}, 1, index, count);
      }
      i += 2;
      if (i < symbols.size()) {
        change({pair.right, symbols[i]}, -1, index, count);
        change({result, symbols[i]}, 1, index, count);
      }
      symbols[kept] = result;
    }
    symbols.resize(kept);
  }

  // A pair can be merged twice when its left or right token came to be in two ways: the later merge counts, as in `tokenizers`.
  void keep_last_of_each_pair() {
    std::unordered_set<id_pair, id_pair_hash> seen;
    std::vector<bpe_model::merge> kept;
    for (auto m = model_.merges.rbegin(); m != model_.merges.rend(); ++m)
      if (seen.insert({m->left, m->right}).second) kept.push_back(*m);
    std::reverse(kept.begin(), kept.end());
    model_.merges = std::move(kept);
  }

  const bpe_options& options_;
  bpe_model model_;
  token_id byte_ids_[256] = {};
  std::unordered_map<std::string, token_id> ids_;
  std::vector<word> words_;
  std::unordered_map<id_pair, std::int64_t, id_pair_hash> pair_counts_;
  std::unordered_map<id_pair, std::vector<std::uint32_t>, id_pair_hash> changed_;
  std::priority_queue<candidate, std::vector<candidate>, worse> queue_;
};

}  // namespace

expected<bpe_model> train_bpe(const pre_token_counts& counts, const bpe_options& options) {
  const auto smallest = static_cast<std::int64_t>(options.specials.size()) + 256;
  if (options.vocabulary < smallest)
    return fail(errc::out_of_range, fmt::format("tokenizer: a vocabulary of {} is too small: {} special tokens and 256 bytes need {}",
                                                options.vocabulary, options.specials.size(), smallest));
  bpe_model model = trainer(counts, options).run();
  if (const auto reached = static_cast<std::int64_t>(model.tokens.size()); reached < options.vocabulary)
    return fail(errc::out_of_range,
                fmt::format("tokenizer: {} distinct pre-tokens give a vocabulary of {}, {} wanted: add text or ask for less",
                            counts.distinct(), reached, options.vocabulary));
  return model;
}

}  // namespace isthmus
