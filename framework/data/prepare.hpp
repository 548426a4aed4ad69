#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/data/corpus.hpp"
#include "framework/data/token_shard.hpp"
#include "framework/tokenizer/counts.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

/// What a recipe says about a run's data.
struct data_options {
  std::vector<std::string> sources{"perl", "vim", "python"};  // one a site, unless alike
  bool alike = false;                                         // join all sources and deal their documents to the sites
  std::uint32_t sites = 3;
  std::int64_t vocabulary = 2048;
  std::uint64_t count_minimum = 10;      // a pre-token rarer than this at a site never leaves it
  std::uint64_t bytes_max = 10'000'000;  // of text, per source
  std::uint64_t seed = 0;                // chooses the held-out documents
  double held_out_share = 0.02;
  std::uint64_t held_out_tokens_min = 65'536;
};

/// What one site has on its disk after preparation.
struct site_data {
  std::string name, domain;                // of the shard; of its text, e.g. "manuals of a language"
  std::string shard_path, tokenizer_path;  // below the output storage
  std::uint64_t documents = 0, train_tokens = 0, held_out_tokens = 0, text_bytes = 0;
  double unigram_entropy = 0;  // of the held-out text, nats per token
  hash128 content;             // as in the shard's header
  bool reused = false;         // found as it should be; nothing was written
};

/// The documents of one site. Private: they stay there.
expected<std::vector<document>> site_documents(const storage& root, const data_options& options, std::uint32_t site);

/// What a site tells the others so that all share one tokenizer: counts of pre-tokens at or above the minimum.
pre_token_counts shareable_counts(std::span<const document> documents, const data_options& options);

/// Merges the sites' counts (any order gives the same) and trains.
expected<tokenizer> train_shared_tokenizer(std::span<const pre_token_counts> counts, const data_options& options);

/// Tokenises a site's documents, splits off the held-out ones and writes <folder>/<name>.shard; or finds that file made from
/// exactly these documents, options and tokenizer and keeps it.
expected<site_data> prepare_site_data(storage& out, const std::string& folder, std::span<const document> documents, const tokenizer& tokens,
                                      const data_options& options, std::uint32_t site);

/// All of it for sites that share a disk: <folder>/tokenizer.json and one shard a site. Twice the same is a look at the files.
expected<std::vector<site_data>> prepare_data(const storage& root, storage& out, const std::string& folder, const data_options& options);

/// Reads <folder>/tokenizer.json.
expected<tokenizer> read_tokenizer(const storage& disk, const std::string& path);
/// Writes it through a temporary name.
expected<void> write_tokenizer(storage& disk, const std::string& path, const tokenizer& tokens);

}  // namespace isthmus
