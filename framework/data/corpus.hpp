#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/storage.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

struct document {
  std::string name;  // where it came from, below the package's folder
  std::string text;  // valid UTF-8
};

/// A Debian package whose files hold plain text of one domain.
struct corpus_source {
  std::string name, domain, package, license;
};

/// perl, vim, wordnet, python, go.
const std::vector<corpus_source>& corpus_sources();
expected<corpus_source> find_source(std::string_view name);

/// The documents of a source, sorted by name, without exact duplicates, without those under 256 bytes; at most bytes_max bytes in
/// all (a sample by hash of the name, the same on every machine). `root` is the disk from "/". A package that is not installed is
/// an error with the line that installs it.
expected<std::vector<document>> build_corpus(const storage& root, std::string_view source, std::uint64_t bytes_max = 10'000'000);

/// Of all names and texts, in order.
hash128 hash_documents(std::span<const document> documents);

/// Deals documents to `sites` hands, the largest first, each to the hand with the fewest bytes: shards drawn alike, of one size.
/// Gives hand number `site`, in the order of the documents.
std::vector<document> deal(std::span<const document> documents, std::uint32_t sites, std::uint32_t site);

}  // namespace isthmus
