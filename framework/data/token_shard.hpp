#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/storage.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace isthmus {

/// Tokens of documents laid end to end, 2 bytes each while the vocabulary allows, with the end of each document.
struct token_section {
  std::variant<std::vector<std::uint16_t>, std::vector<std::uint32_t>> tokens;
  std::vector<std::uint64_t> document_ends;  // ascending strictly; the last one is size()

  std::uint64_t size() const;
  /// Copies tokens [begin, begin + out.size()) as ids.
  void copy(std::uint64_t begin, std::span<token_id> out) const;
};

/// The id with which every document of a section ends; nothing when they end with several, or there is none.
std::optional<token_id> end_of_documents(const token_section& section);

/// A piece of tokenised text that lives at one site: what is trained on, and what is held out. docs/token_shard.md is its file.
struct token_shard {
  std::string name;  // at most 32 bytes; unique in a run
  std::uint32_t vocabulary = 0;
  hash128 tokenizer;  // of the tokenizer whose ids these are
  hash128 content;    // of the documents and options it was made from
  token_section train, held_out;
};

/// What a reader knows beforehand. A field left empty is not compared.
struct shard_expectation {
  std::optional<std::string> name;
  std::optional<std::uint32_t> vocabulary;
  std::optional<hash128> tokenizer, content;
};

inline constexpr std::uint64_t shard_bytes_max = std::uint64_t{2} << 30;

/// Writes to a temporary name, syncs, renames, syncs the folder: a reader sees all of it or nothing.
expected<void> write_shard(storage& disk, const std::string& path, const token_shard& shard);
/// Reads and verifies everything: sizes, order, checksums, every id. Errors name file, byte position, found and expected.
expected<token_shard> read_shard(const storage& disk, const std::string& path, const shard_expectation& expect = {});
/// The bytes of the file, and back; `where` names them in errors.
std::vector<std::byte> encode_shard(const token_shard& shard);
expected<token_shard> decode_shard(std::span<const std::byte> bytes, const std::string& where, const shard_expectation& expect = {});
/// Reads several that one run uses; two with one name are an error.
expected<std::vector<token_shard>> read_shards(const storage& disk, std::span<const std::string> paths,
                                               const shard_expectation& expect = {});

}  // namespace isthmus
