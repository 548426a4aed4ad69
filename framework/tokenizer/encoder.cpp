#include "framework/core/rng.hpp"
#include "framework/tokenizer/pre_token.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <bit>
#include <cstring>

static_assert(std::endian::native == std::endian::little, "cache keys are read little endian");

namespace isthmus {

namespace {

constexpr std::size_t key_bytes_max = 15;     // fits two words with its length
constexpr std::size_t cached_bytes_max = 128;
constexpr std::size_t short_merge_max = 48;   // above, a heap beats the scan
constexpr std::size_t slots_count = std::size_t{1} << 16;
constexpr std::size_t slots_used_max = slots_count / 2;
constexpr std::size_t long_max = 1 << 16;

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

void encoder::forget() {
  slots_.assign(slots_count, {});
  used_ = 0;
  long_.clear();
  pool_.clear();
}

encoder::slot& encoder::find_slot(std::uint64_t low, std::uint64_t high) {
  std::size_t at = static_cast<std::size_t>(((low ^ std::rotl(high, 23)) * 0x9e3779b97f4a7c15U) >> 48);
  static_assert(slots_count == std::size_t{1} << 16, "the hash has 16 bits");
  for (;; at = (at + 1) & (slots_count - 1)) {
    slot& s = slots_[at];
    if ((s.low == low && s.high == high) || s.high == 0) return s;
  }
}

encoder::range encoder::merged(std::string_view piece) {
  scratch_.clear();
  for (const char c : piece) scratch_.push_back(tokens_.byte_ids_[static_cast<unsigned char>(c)]);
  if (piece.size() <= short_merge_max)
    tokens_.merge_short(scratch_);
  else
    tokens_.merge_long(scratch_);
  const range ids{static_cast<std::uint32_t>(pool_.size()), static_cast<std::uint32_t>(scratch_.size())};
  pool_.insert(pool_.end(), scratch_.begin(), scratch_.end());
  return ids;
}

void encoder::encode_long(std::string_view piece, std::vector<token_id>& out) {
  if (piece.size() > cached_bytes_max) {
    const std::size_t pool = pool_.size();
    (void)merged(piece);
    pool_.resize(pool);
    out.insert(out.end(), scratch_.begin(), scratch_.end());
    return;
  }
  auto found = long_.find(piece);
  if (found == long_.end()) {
    if (long_.size() >= long_max) forget();
    found = long_.emplace(piece, merged(piece)).first;
  }
  const range ids = found->second;
  out.insert(out.end(), pool_.begin() + ids.begin, pool_.begin() + ids.begin + ids.count);
}

void encoder::encode_plain(std::string_view text, std::vector<token_id>& out) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = pre_token_end(text, at), length = end - at;
    if (length > key_bytes_max) {
      encode_long(text.substr(at, length), out);
    } else {
      const cache_key key = key_at(text, at, length);
      slot* s = &find_slot(key.low, key.high);
      if (s->high == 0) {
        if (used_ >= slots_used_max) {
          forget();
          s = &find_slot(key.low, key.high);
        }
        *s = {key.low, key.high, merged(text.substr(at, length))};
        ++used_;
      }
      const token_id* ids = pool_.data() + s->ids.begin;
      for (std::uint32_t i = 0; i < s->ids.count; ++i) out.push_back(ids[i]);
    }
    at = end;
  }
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
