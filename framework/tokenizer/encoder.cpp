#include "framework/tokenizer/pre_token.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

static_assert(std::endian::native == std::endian::little, "cache keys are read little endian");

namespace isthmus {

namespace {

constexpr std::size_t key_bytes_max = 15;  // fits two words with its length
constexpr std::size_t cached_bytes_max = 128;
constexpr int slots_bits = 18;
constexpr std::size_t slots_count = std::size_t{1} << slots_bits;
constexpr std::size_t slots_used_max = slots_count / 2;  // what comes later is merged each time: the frequent come early
constexpr std::size_t long_max = 1 << 15;
constexpr std::size_t block = 4096;  // ids written before they are appended

struct cache_key {
  std::uint64_t low = 0, high = 0;
};

// The first `length` <= 15 bytes at `at`, zeros behind, the length in the top byte. Reads 16 bytes at once where the text has them.
cache_key key_at(std::string_view text, std::size_t at, std::size_t length) {
  cache_key key;
  if (text.size() - at >= 16) {
    std::memcpy(&key.low, text.data() + at, 8);
    std::memcpy(&key.high, text.data() + at + 8, 8);
    if (length < 8) key.low &= (std::uint64_t{1} << (8 * length)) - 1;
    key.high = length <= 8 ? 0 : key.high & ((std::uint64_t{1} << (8 * (length - 8))) - 1);
  } else {
    std::memcpy(&key.low, text.data() + at, length < 8 ? length : 8);
    if (length > 8) std::memcpy(&key.high, text.data() + at + 8, length - 8);
  }
  key.high |= static_cast<std::uint64_t>(length) << 56;
  return key;
}

}  // namespace

encoder::encoder(const tokenizer& tokens) : tokens_(tokens), slots_(slots_count) {}

encoder::slot& encoder::find_slot(std::uint64_t low, std::uint64_t high) {
  auto at = static_cast<std::size_t>(((low ^ std::rotl(high, 23)) * 0x9e3779b97f4a7c15U) >> (64 - slots_bits));
  for (;; at = (at + 1) & (slots_count - 1)) {
    slot& s = slots_[at];
    if ((s.low == low && s.high == high) || s.high == 0) return s;
  }
}

void encoder::merge_piece(std::string_view piece) {
  scratch_.clear();
  if (const token_id word = tokens_.model_.whole_words ? tokens_.find_word(piece) : -1; word >= 0) {
    scratch_.push_back(word);
    return;
  }
  for (const char c : piece) scratch_.push_back(tokens_.byte_ids_[static_cast<unsigned char>(c)]);
  if (piece.size() <= tokenizer::short_max)
    tokens_.merge_short(scratch_);
  else
    tokens_.merge_long(scratch_);
}

encoder::range encoder::keep() {
  const range ids{static_cast<std::uint32_t>(pool_.size()), static_cast<std::uint32_t>(scratch_.size())};
  pool_.insert(pool_.end(), scratch_.begin(), scratch_.end());
  return ids;
}

void encoder::fill(slot& empty, std::uint64_t low, std::uint64_t high, std::string_view piece) {
  merge_piece(piece);
  empty.low = low;
  empty.high = high;
  empty.count = static_cast<std::uint32_t>(scratch_.size());
  if (scratch_.size() <= inline_ids)
    std::copy(scratch_.begin(), scratch_.end(), empty.ids);
  else
    empty.ids[0] = static_cast<token_id>(keep().begin);
  ++used_;
}

void encoder::encode_long(std::string_view piece, std::vector<token_id>& out) {
  if (const auto found = long_.find(piece); found != long_.end()) {
    const auto first = pool_.begin() + found->second.begin;
    out.insert(out.end(), first, first + found->second.count);
    return;
  }
  merge_piece(piece);
  out.insert(out.end(), scratch_.begin(), scratch_.end());
  if (piece.size() <= cached_bytes_max && long_.size() < long_max) long_.emplace(piece, keep());
}

void encoder::encode_plain(std::string_view text, std::vector<token_id>& out) {
  token_id ids[block + inline_ids];
  std::size_t written = 0;
  const bool gpt2 = tokens_.model_.pattern == pre_token_pattern::gpt2;
  const auto flush = [&] {
    out.insert(out.end(), ids, ids + written);
    written = 0;
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = gpt2 ? pre_token_end(text, at) : pre_token_end(text, at, tokens_.model_.pattern), length = end - at;
    const std::string_view piece = text.substr(at, length);
    if (length > key_bytes_max) {
      flush();
      encode_long(piece, out);
    } else {
      const cache_key key = key_at(text, at, length);
      slot& s = find_slot(key.low, key.high);
      if (s.high == 0 && used_ < slots_used_max) fill(s, key.low, key.high, piece);
      if (s.high == 0) {
        flush();
        merge_piece(piece);
        out.insert(out.end(), scratch_.begin(), scratch_.end());
      } else if (s.count <= inline_ids) {
        std::memcpy(ids + written, s.ids, sizeof s.ids);  // a fixed size is one move; what is past count is overwritten next
        written += s.count;
      } else {
        std::copy_n(pool_.data() + s.ids[0], s.count, ids + written);
        written += s.count;
      }
      if (written + key_bytes_max > block) flush();
    }
    at = end;
  }
  flush();
}

std::vector<token_id> encoder::prompt(std::string_view text, specials mode) {
  std::vector<token_id> ids = tokens_.model_.around.before;
  encode(text, ids, mode);
  return ids;
}

void encoder::encode(std::string_view text, std::vector<token_id>& out, specials mode) {
  if (mode == specials::as_text) return encode_plain(text, out);
  struct occurrence {
    token_id id;
    std::size_t at;
  };
  std::vector<occurrence> next;  // of each special, looked for anew only once it is passed
  for (const token_id id : tokens_.model_.specials) next.push_back({id, text.find(tokens_.bytes(id))});
  for (std::size_t done = 0; done < text.size();) {
    const occurrence* first = nullptr;  // leftmost, longest
    for (occurrence& o : next) {
      if (o.at < done) o.at = text.find(tokens_.bytes(o.id), done);
      if (o.at == std::string_view::npos) continue;
      if (!first || o.at < first->at || (o.at == first->at && tokens_.bytes(o.id).size() > tokens_.bytes(first->id).size())) first = &o;
    }
    if (!first) return encode_plain(text.substr(done), out);
    encode_plain(text.substr(done, first->at - done), out);
    out.push_back(first->id);
    done = first->at + tokens_.bytes(first->id).size();
  }
}

}  // namespace isthmus
