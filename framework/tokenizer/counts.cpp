#include "framework/tokenizer/counts.hpp"

#include "framework/core/hash.hpp"
#include "framework/tokenizer/pre_token.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace isthmus {

namespace {

constexpr std::string_view magic = "ISTHCNT1";
constexpr std::size_t checksum_bytes = 16;
constexpr std::uint64_t count_sum_max = std::uint64_t{1} << 48;  // so that no merge of many sites overflows

void put(std::vector<std::byte>& out, std::string_view text) {
  for (const char c : text) out.push_back(static_cast<std::byte>(c));
}

void put_varint(std::vector<std::byte>& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::byte>(value | 0x80));
  out.push_back(static_cast<std::byte>(value));
}

void put_checksum(std::vector<std::byte>& out) {
  const hash128 sum = hash_bytes(out);
  for (const std::uint64_t word : {sum.high, sum.low})
    for (int i = 0; i < 8; ++i) out.push_back(static_cast<std::byte>(word >> (8 * i)));
}

class cursor {
public:
  cursor(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}
  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  expected<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (left() == 0) return bad(errc::truncated, "a number ends past the table");
      const auto byte = static_cast<std::uint64_t>(bytes_[at_++]);
      if (shift == 63 && byte > 1) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return bad(errc::malformed, "a number over 64 bits");
  }
  std::string text(std::size_t length) {
    std::string out(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return out;
  }
  unexpected bad(errc code, const std::string& what) const { return fail(code, fmt::format("{}: byte {}: {}", where_, at_, what)); }

private:
  std::span<const std::byte> bytes_;
  const std::string& where_;
  std::size_t at_ = 0;
};

}  // namespace

void pre_token_counts::add(std::string_view document) {
  std::string key;
  for_each_pre_token(document, [&](std::string_view piece) {
    key.assign(piece);
    ++counts_[key];
  });
}

void pre_token_counts::merge(const pre_token_counts& other) {
  for (const auto& [text, count] : other.counts_) counts_[text] += count;
}

void pre_token_counts::drop_below(std::uint64_t minimum, std::size_t bytes_max) {
  std::erase_if(counts_, [&](const auto& e) { return e.second < minimum || e.first.size() > bytes_max; });
}

std::uint64_t pre_token_counts::count(const std::string& pre_token) const {
  const auto found = counts_.find(pre_token);
  return found == counts_.end() ? 0 : found->second;
}

std::uint64_t pre_token_counts::total() const {
  std::uint64_t sum = 0;
  for (const auto& [text, count] : counts_) sum += count;
  return sum;
}

std::vector<pre_token_counts::entry> pre_token_counts::sorted() const {
  std::vector<entry> entries;
  entries.reserve(counts_.size());
  for (const auto& [text, count] : counts_) entries.push_back({text, count});
  std::sort(entries.begin(), entries.end(), [](const entry& a, const entry& b) { return a.text < b.text; });
  return entries;
}

std::vector<std::byte> pre_token_counts::serialize() const {
  std::vector<std::byte> out;
  put(out, magic);
  put_varint(out, counts_.size());
  for (const entry& e : sorted()) {
    put_varint(out, e.count);
    put_varint(out, e.text.size());
    put(out, e.text);
  }
  put_checksum(out);
  return out;
}

expected<pre_token_counts> pre_token_counts::parse(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() < magic.size() + 1 + checksum_bytes)
    return fail(errc::truncated, fmt::format("{}: {} bytes are too few for a table of pre-token counts", where, bytes.size()));
  const auto body = bytes.first(bytes.size() - checksum_bytes);
  cursor in(body, where);
  if (const std::string found = in.text(magic.size()); found != magic)
    return fail(errc::malformed, fmt::format("{}: byte 0: not a table of pre-token counts, which begins with '{}'", where, magic));
  std::vector<std::byte> summed(body.begin(), body.end());
  put_checksum(summed);
  if (std::memcmp(summed.data() + body.size(), bytes.data() + body.size(), checksum_bytes) != 0)
    return fail(errc::checksum_mismatch,
                fmt::format("{}: byte {}: the checksum differs from that of the bytes before", where, body.size()));
  const auto entries = in.varint();
  if (!entries) return entries.failure();
  pre_token_counts table;
  std::string previous;
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < *entries; ++i) {
    const auto count = in.varint();
    if (!count) return count.failure();
    const auto length = in.varint();
    if (!length) return length.failure();
    if (*length > in.left()) return in.bad(errc::truncated, fmt::format("entry {} has {} bytes, {} are left", i, *length, in.left()));
    std::string text = in.text(static_cast<std::size_t>(*length));
    if (*count == 0 || text.empty() || (i > 0 && text <= previous))
      return in.bad(errc::malformed, fmt::format("entry {} is empty or not above the one before", i));
    if (*count > count_sum_max - sum) return in.bad(errc::out_of_range, fmt::format("entry {}: the counts sum up past 2^48", i));
    sum += *count;
    previous = text;
    table.counts_.emplace(std::move(text), *count);
  }
  if (in.left() != 0) return in.bad(errc::malformed, fmt::format("{} bytes behind the last entry", in.left()));
  return table;
}

}  // namespace isthmus
