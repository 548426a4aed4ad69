#include "framework/core/error.hpp"
#include "framework/data/atomic_write.hpp"
#include "framework/data/token_shard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>
#include <tuple>

static_assert(std::endian::native == std::endian::little, "shards are read as they lie in memory");

namespace isthmus {

namespace {

constexpr std::string_view magic = "ISTHTOKS";
constexpr std::uint32_t version = 1;
constexpr std::uint32_t byte_order = 0x01020304;
constexpr std::size_t name_bytes = 32;
constexpr auto vocabulary_max = static_cast<std::uint32_t>(std::numeric_limits<token_id>::max());

/// The first 168 bytes, little endian; docs/token_shard.md. Every field lies at a multiple of its size, so there is no padding.
struct file_header {
  char magic[8];
  std::uint32_t version, byte_order, item_bytes, vocabulary;
  std::uint64_t file_bytes;
  std::uint64_t train_tokens, train_documents, held_out_tokens, held_out_documents;
  char name[name_bytes];
  std::uint64_t tokenizer[2], content[2];                 // high, low
  std::uint64_t checksum_train[2], checksum_held_out[2];  // XXH3-128 of tokens and index, high, low
  std::uint64_t header_checksum;                          // low half of XXH3-128 of all bytes before
};
static_assert(sizeof(file_header) == 168 && offsetof(file_header, header_checksum) == 160);

std::uint64_t padded(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

void set(std::uint64_t (&words)[2], const hash128& h) {
  words[0] = h.high;
  words[1] = h.low;
}
hash128 get(const std::uint64_t (&words)[2]) { return {words[0], words[1]}; }

std::uint64_t checksum_of(const file_header& header) {
  return hash_bytes(std::as_bytes(std::span(&header, 1)).first(offsetof(file_header, header_checksum))).low;
}

template <class T>
void append(std::vector<std::byte>& out, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  out.insert(out.end(), bytes.begin(), bytes.end());
  out.resize(padded(out.size()));
}

/// Appends a section and gives its checksum.
hash128 append_section(std::vector<std::byte>& out, const token_section& section) {
  const std::size_t begin = out.size();
  std::visit([&](const auto& t) { append(out, t); }, section.tokens);
  append(out, section.document_ends);
  return hash_bytes(std::span(out).subspan(begin));
}

class reader {
public:
  reader(std::span<const std::byte> bytes, const std::string& where, const shard_expectation& expect)
      : bytes_(bytes), where_(where), expect_(expect) {}

  expected<token_shard> read() {
    for (auto check : {&reader::read_header, &reader::check_layout, &reader::check_expected})
      if (auto ok = (this->*check)(); !ok) return ok.failure();
    token_shard shard{name_, header_.vocabulary, get(header_.tokenizer), get(header_.content), {}, {}};
    at_ = sizeof(file_header);
    if (auto ok = read_section("train", header_.train_tokens, header_.train_documents, get(header_.checksum_train), shard.train); !ok)
      return ok.failure();
    if (auto ok =
            read_section("held-out", header_.held_out_tokens, header_.held_out_documents, get(header_.checksum_held_out), shard.held_out);
        !ok)
      return ok.failure();
    return shard;
  }

private:
  template <class... Args>
  unexpected bad(errc code, std::uint64_t at, fmt::format_string<Args...> text, Args&&... args) const {
    return fail(code, fmt::format("{}: byte {}: {}", where_, at, fmt::format(text, std::forward<Args>(args)...)));
  }

  expected<void> read_header() {
    if (bytes_.size() < sizeof(file_header))
      return bad(errc::truncated, 0, "{} bytes, a token shard has a header of {}", bytes_.size(), sizeof(file_header));
    std::memcpy(&header_, bytes_.data(), sizeof(file_header));
    if (std::string_view(header_.magic, magic.size()) != magic)
      return bad(errc::malformed, 0, "not a token shard, which begins with '{}'", magic);
    if (header_.byte_order != byte_order)
      return bad(errc::unsupported, offsetof(file_header, byte_order), "byte order mark {:#010x}, expected {:#010x} (little endian)",
                 header_.byte_order, byte_order);
    if (header_.version != version)
      return bad(errc::unsupported, offsetof(file_header, version), "version {}, expected {}: make the shard anew", header_.version,
                 version);
    if (const auto sum = checksum_of(header_); sum != header_.header_checksum)
      return bad(errc::checksum_mismatch, offsetof(file_header, header_checksum), "header checksum {:016x}, expected {:016x}",
                 header_.header_checksum, sum);
    return {};
  }

  expected<void> check_layout() {
    if (header_.vocabulary == 0 || header_.vocabulary > vocabulary_max)
      return bad(errc::out_of_range, offsetof(file_header, vocabulary), "vocabulary {}, expected 1 to {}", header_.vocabulary,
                 vocabulary_max);
    if (const std::uint32_t item = header_.vocabulary <= 65536 ? 2 : 4; header_.item_bytes != item)
      return bad(errc::malformed, offsetof(file_header, item_bytes), "{} bytes an id, expected {} for a vocabulary of {}",
                 header_.item_bytes, item, header_.vocabulary);
    const char* const last = header_.name + name_bytes;
    const char* const end = std::find(static_cast<const char*>(header_.name), last, '\0');
    name_.assign(static_cast<const char*>(header_.name), end);
    if (name_.empty() || std::any_of(end, last, [](char c) { return c != '\0'; }))
      return bad(errc::malformed, offsetof(file_header, name), "the name is empty or not padded with zeros");
    if (header_.train_tokens == 0)
      return bad(errc::out_of_range, offsetof(file_header, train_tokens), "an empty shard: no tokens to train on");
    std::uint64_t expected_bytes = sizeof(file_header);
    for (const auto& [count, at] : {std::pair{header_.train_tokens, offsetof(file_header, train_tokens)},
                                    std::pair{header_.held_out_tokens, offsetof(file_header, held_out_tokens)}}) {
      if (count > shard_bytes_max / header_.item_bytes)
        return bad(errc::too_large, at, "{} tokens, at most {} allowed", count, shard_bytes_max / header_.item_bytes);
      expected_bytes += padded(count * header_.item_bytes);
    }
    for (const auto& [count, tokens, at] :
         {std::tuple{header_.train_documents, header_.train_tokens, offsetof(file_header, train_documents)},
          std::tuple{header_.held_out_documents, header_.held_out_tokens, offsetof(file_header, held_out_documents)}}) {
      if (count > tokens || (count == 0 && tokens > 0)) return bad(errc::out_of_range, at, "{} documents for {} tokens", count, tokens);
      expected_bytes += count * sizeof(std::uint64_t);
    }
    if (header_.file_bytes != expected_bytes)
      return bad(errc::malformed, offsetof(file_header, file_bytes), "a file size of {}, but the counts give {}", header_.file_bytes,
                 expected_bytes);
    if (bytes_.size() != expected_bytes)
      return bad(bytes_.size() < expected_bytes ? errc::truncated : errc::malformed, bytes_.size(),
                 "the file ends here, expected at byte {}", expected_bytes);
    return {};
  }

  expected<void> check_expected() {
    if (expect_.name && *expect_.name != name_)
      return bad(errc::hash_mismatch, offsetof(file_header, name), "shard '{}', expected '{}'", name_, *expect_.name);
    if (expect_.tokenizer && *expect_.tokenizer != get(header_.tokenizer))
      return bad(errc::hash_mismatch, offsetof(file_header, tokenizer), "made with tokenizer {}, expected {}: make the shard anew",
                 get(header_.tokenizer).hex(), expect_.tokenizer->hex());
    if (expect_.vocabulary && *expect_.vocabulary != header_.vocabulary)
      return bad(errc::hash_mismatch, offsetof(file_header, vocabulary), "a vocabulary of {}, the tokenizer has {}", header_.vocabulary,
                 *expect_.vocabulary);
    if (expect_.content && *expect_.content != get(header_.content))
      return bad(errc::hash_mismatch, offsetof(file_header, content), "made from content {}, expected {}: the shard was replaced",
                 get(header_.content).hex(), expect_.content->hex());
    return {};
  }

  template <class T>
  std::vector<T> take(std::uint64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    if (count > 0) std::memcpy(values.data(), bytes_.data() + at_, values.size() * sizeof(T));
    at_ += padded(values.size() * sizeof(T));
    return values;
  }

  template <class T>
  expected<void> read_tokens(const char* section, std::uint64_t count, token_section& into) {
    const std::uint64_t begin = at_;
    auto tokens = take<T>(count);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i] >= header_.vocabulary)
        return bad(errc::out_of_range, begin + i * sizeof(T), "{} token {} has id {}, the vocabulary ends at {}", section, i, tokens[i],
                   header_.vocabulary);
    into.tokens = std::move(tokens);
    for (std::uint64_t at = begin + count * sizeof(T); at < at_; ++at)
      if (bytes_[at] != std::byte{0}) return bad(errc::malformed, at, "the {} tokens are not padded with zeros", section);
    return {};
  }

  expected<void> read_section(const char* section, std::uint64_t tokens, std::uint64_t documents, const hash128& sum, token_section& into) {
    const std::uint64_t begin = at_;
    const std::uint64_t size = padded(tokens * header_.item_bytes) + documents * sizeof(std::uint64_t);
    if (const hash128 found = hash_bytes(bytes_.subspan(begin, size)); found != sum)
      return bad(errc::checksum_mismatch, begin, "the {} section of {} bytes has checksum {}, expected {}", section, size, found.hex(),
                 sum.hex());
    auto ok =
        header_.item_bytes == 2 ? read_tokens<std::uint16_t>(section, tokens, into) : read_tokens<std::uint32_t>(section, tokens, into);
    if (!ok) return ok;
    const std::uint64_t index = at_;
    into.document_ends = take<std::uint64_t>(documents);
    std::uint64_t previous = 0;
    for (std::size_t i = 0; i < into.document_ends.size(); previous = into.document_ends[i++])
      if (into.document_ends[i] <= previous || into.document_ends[i] > tokens)
        return bad(errc::malformed, index + i * sizeof(std::uint64_t), "{} document {} ends at token {}, expected in ({}, {}]", section, i,
                   into.document_ends[i], previous, tokens);
    if (previous != tokens)
      return bad(errc::malformed, at_ - sizeof(std::uint64_t), "the last {} document ends at token {}, expected {}", section, previous,
                 tokens);
    return {};
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  const shard_expectation& expect_;
  file_header header_{};
  std::string name_;
  std::uint64_t at_ = 0;
};

}  // namespace

std::vector<std::byte> encode_shard(const token_shard& shard) {
  ensure(!shard.name.empty() && shard.name.size() <= name_bytes && shard.name.find('\0') == std::string::npos, "token_shard: bad name");
  file_header header{};
  std::copy(magic.begin(), magic.end(), header.magic);
  header.version = version;
  header.byte_order = byte_order;
  header.item_bytes = shard.vocabulary <= 65536 ? 2 : 4;
  header.vocabulary = shard.vocabulary;
  for (const token_section* s : {&shard.train, &shard.held_out})
    ensure((s->tokens.index() == 0) == (header.item_bytes == 2), "token_shard: ids of the wrong size");
  header.train_tokens = shard.train.size();
  header.train_documents = shard.train.document_ends.size();
  header.held_out_tokens = shard.held_out.size();
  header.held_out_documents = shard.held_out.document_ends.size();
  std::copy(shard.name.begin(), shard.name.end(), header.name);
  set(header.tokenizer, shard.tokenizer);
  set(header.content, shard.content);
  std::vector<std::byte> out(sizeof header);
  set(header.checksum_train, append_section(out, shard.train));
  set(header.checksum_held_out, append_section(out, shard.held_out));
  header.file_bytes = out.size();
  header.header_checksum = checksum_of(header);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

expected<token_shard> decode_shard(std::span<const std::byte> bytes, const std::string& where, const shard_expectation& expect) {
  return reader(bytes, where, expect).read();
}

expected<void> write_atomically(storage& disk, const std::string& path, std::span<const std::byte> bytes) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
  if (auto ok = disk.make_folders(folder); !ok) return ok;
  const std::string unfinished = path + ".unfinished";
  if (auto ok = disk.write_synced(unfinished, bytes); !ok) return ok;
  if (auto ok = disk.rename(unfinished, path); !ok) return ok;
  return disk.sync_folder(folder);
}

expected<void> write_shard(storage& disk, const std::string& path, const token_shard& shard) {
  return write_atomically(disk, path, encode_shard(shard));
}

expected<token_shard> read_shard(const storage& disk, const std::string& path, const shard_expectation& expect) {
  auto bytes = disk.read(path, shard_bytes_max);
  if (!bytes) return bytes.failure();
  return decode_shard(*bytes, path, expect);
}

expected<std::vector<token_shard>> read_shards(const storage& disk, std::span<const std::string> paths, const shard_expectation& expect) {
  std::vector<token_shard> shards;
  for (const std::string& path : paths) {
    auto shard = read_shard(disk, path, expect);
    if (!shard) return shard.failure();
    for (std::size_t i = 0; i < shards.size(); ++i)
      if (shards[i].name == shard->name)
        return fail(errc::malformed, fmt::format("{}: byte {}: the shard's name '{}' is also that of {}", path, offsetof(file_header, name),
                                                 shard->name, paths[i]));
    shards.push_back(std::move(*shard));
  }
  return shards;
}

}  // namespace isthmus
