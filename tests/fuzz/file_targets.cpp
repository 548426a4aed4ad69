#include "framework/checkpoint/manifest.hpp"
#include "framework/core/hash.hpp"
#include "framework/data/token_shard.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/json_lines.hpp"
#include "framework/rounds/ledger_check.hpp"
#include "framework/sim/disk.hpp"
#include "framework/tokenizer/character_bpe.hpp"
#include "framework/tokenizer/tokenizer.hpp"
#include "tests/fuzz/targets.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

namespace isthmus::fuzz {

void recipes(input bytes) {
  const auto reading = read_recipe(as_text(bytes), "fuzz.toml");
  static_cast<void>(show_problems(reading.problems));
  if (!reading.value) return;
  const auto written = write_recipe(*reading.value);
  const auto again = read_recipe(written, "again.toml");
  must(again.value.has_value(), "a recipe that was read is written and read again");
  must(recipe_hash(*again.value) == recipe_hash(*reading.value), "and has the same hash");
}

namespace {

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
void put_hash(std::vector<std::byte>& bytes, std::size_t at, const hash128& hash) {
  std::memcpy(bytes.data() + at, &hash.high, 8);
  std::memcpy(bytes.data() + at + 8, &hash.low, 8);
}

/// As docs/token_shard.md has it; sections that do not lie in the file are left.
void put_checksums_right(std::vector<std::byte>& bytes) {
  constexpr std::size_t header = 168, header_sum = 160, counts = 32, sums = 128;
  if (bytes.size() < header) return;
  const std::uint64_t item = word_at(bytes, 16) & 0xffffffff;
  std::size_t begin = header;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::uint64_t tokens = word_at(bytes, counts + 16 * i), documents = word_at(bytes, counts + 16 * i + 8), most = bytes.size();
    if (item > 8 || tokens > most || documents > most) break;
    const std::size_t size = static_cast<std::size_t>((tokens * item + 7) / 8 * 8 + documents * 8);
    if (size > bytes.size() - begin) break;
    put_hash(bytes, sums + 16 * i, hash_bytes(std::span(bytes).subspan(begin, size)));
    begin += size;
  }
  const std::uint64_t sum = hash_bytes(std::span(bytes).first(header_sum)).low;
  std::memcpy(bytes.data() + header_sum, &sum, 8);
}

}  // namespace

void shards(input bytes) {
  static_cast<void>(decode_shard(bytes, "fuzz.shard"));
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  put_checksums_right(sealed);
  const auto shard = decode_shard(sealed, "fuzz.shard");
  if (shard) must(std::ranges::equal(encode_shard(*shard), sealed), "a shard has one form");
}

void manifests(input bytes) {
  static_cast<void>(parse_manifest(as_text(bytes), "manifest.json"));
  auto object = nlohmann::json::parse(as_text(bytes), nullptr, false);
  if (!object.is_object()) return;
  object.erase("xxh3");
  try {
    const auto body = object.dump();
    object["xxh3"] = hash_bytes(std::as_bytes(std::span(body.data(), body.size()))).hex();
  } catch (const nlohmann::json::exception&) { return; }  // text that is no UTF-8
  const auto manifest = parse_manifest(object.dump(), "manifest.json");
  if (!manifest) return;
  const auto written = write_manifest(*manifest);
  const auto again = parse_manifest(written, "manifest.json");
  must(again.has_value() && write_manifest(*again) == written, "a manifest is written as it was read");
}

void tensors(input bytes) {
  const auto file = parse_safetensors({bytes.begin(), bytes.end()}, "fuzz.safetensors");
  if (!file) return;
  std::size_t inside = 0;
  for (const auto& t : file->tensors) {
    inside += t.bytes.size();
    must(
        t.bytes.empty() || (t.bytes.data() >= file->bytes->data() && t.bytes.data() + t.bytes.size() <= file->bytes->data() + bytes.size()),
        "a tensor lies inside its file");
    must(file->find(t.name) != nullptr, "a tensor is found by its name");
  }
  must(inside <= bytes.size(), "tensors do not overlap");
}

void check_characters(std::string_view file) {
  auto model = parse_character_bpe_json(file, "tokenizer.json");
  if (!model) return;
  const auto tokens = character_bpe::make(std::move(*model), "tokenizer.json");
  if (!tokens) return;
  const std::string text = "The end. \xf0\x9f\x8c\x89 42\n  <s>";
  const auto ids = tokens->encode(text, specials::as_tokens);
  must(!ids.empty(), "a text has ids");
  for (const token_id id : ids) must(id >= 0 && id < tokens->vocabulary(), "ids are in range");
}

void tokenizers(input bytes) {
  check_characters(as_text(bytes));
  const auto model = parse_tokenizer_json(as_text(bytes), "tokenizer.json");
  if (!model) return;
  const auto again = parse_tokenizer_json(to_tokenizer_json(*model), "again.json");
  must(again.has_value() && *again == *model, "a tokenizer is written as it was read");
  const tokenizer tokens(*model);
  encoder words(tokens);
  std::vector<token_id> ids;
  const std::string text = "The end. \xf0\x9f\x8c\x89 42\n  <|endoftext|>";
  words.encode(text, ids);
  must(tokens.decode(ids) == text, "what is encoded is decoded");
}

/// Each line is an object without its seal; "#" begins the lines of the coordinator's log.
void ledgers(input bytes) {
  sim::disk memory;
  const auto disk = memory.open("run");
  std::string site, coordinator;
  const auto text = as_text(bytes);
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (line.size() > 3 && line.starts_with("#{") && line.ends_with("}"))
      coordinator += json_lines::seal(line.substr(1));
    else if (line.size() > 2 && line.starts_with("{") && line.ends_with("}"))
      site += json_lines::seal(line);
    else
      site += std::string(line) + (end < text.size() ? "\n" : "");
    at = end + 1;
  }
  static_cast<void>(disk->write_synced("ledger/site-0.jsonl", std::as_bytes(std::span(site))));
  if (!coordinator.empty()) static_cast<void>(disk->write_synced("coordinator.jsonl", std::as_bytes(std::span(coordinator))));
  static_cast<void>(check_ledgers(*disk));
}

}  // namespace isthmus::fuzz
