#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace isthmus {

/// How often each pre-token occurs in a text: all that a tokenizer is trained from, so all that sites exchange to share one.
/// Tables add up, in any order, to the table of the joined texts. Call drop_below before a table leaves its site: it keeps
/// rare strings (names, keys, numbers) at home.
class pre_token_counts {
public:
  struct entry {
    std::string text;
    std::uint64_t count = 0;
    bool operator==(const entry&) const = default;
  };

  void add(std::string_view document);
  void merge(const pre_token_counts& other);
  /// Forgets pre-tokens that occur fewer than `minimum` times, and those longer than bytes_max.
  void drop_below(std::uint64_t minimum, std::size_t bytes_max = 64);

  std::uint64_t count(const std::string& pre_token) const;
  std::size_t distinct() const { return counts_.size(); }
  std::uint64_t total() const;
  /// By text, ascending bytes: one order everywhere.
  std::vector<entry> sorted() const;

  /// docs/data.md: magic, entry count, then per entry count and length as LEB128 and the bytes, and XXH3 of all that.
  std::vector<std::byte> serialize() const;
  /// Errors name `where` and the byte position.
  static expected<pre_token_counts> parse(std::span<const std::byte> bytes, const std::string& where);

private:
  std::unordered_map<std::string, std::uint64_t> counts_;
};

}  // namespace isthmus
