#include "framework/data/prepare.hpp"

#include "framework/data/atomic_write.hpp"
#include "framework/data/sample_order.hpp"
#include "framework/tokenizer/bpe_trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

constexpr std::size_t tokenizer_bytes_max = 64 << 20;
constexpr std::uint64_t layout_version = 2;  // rises when the same documents come to other tokens

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// What a shard's tokens depend on.
hash128 content_key(std::span<const document> documents, const tokenizer& tokens, const data_options& options) {
  const std::string rest = fmt::format("{} {} {} {}", layout_version, options.seed, options.held_out_share, options.held_out_tokens_min);
  return hash_chain(hash_chain(hash_documents(documents), tokens.hash()), hash_bytes(bytes_of(rest)));
}

struct encoded {
  std::vector<token_id> tokens;
  std::vector<std::uint64_t> ends;
  std::uint64_t begin(std::size_t i) const { return i == 0 ? 0 : ends[i - 1]; }
  std::uint64_t size(std::size_t i) const { return ends[i] - begin(i); }
};

encoded encode_documents(std::span<const document> documents, const tokenizer& tokens) {
  encoded all;
  encoder encode(tokens);
  for (const document& d : documents) {
    encode.encode(d.text, all.tokens);
    if (tokens.end_of_text()) all.tokens.push_back(*tokens.end_of_text());
    all.ends.push_back(all.tokens.size());
  }
  return all;
}

/// Documents whose names' keyed hash lies in the lowest share of its range, whoever holds them: sites that share out one text hold out
/// what one site with all of it would. When that is under the minimum, the next ones follow.
std::vector<bool> choose_held_out(std::span<const document> documents, const encoded& all, const data_options& options) {
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t i = 0; i < documents.size(); ++i) order.emplace_back(hash_bytes(bytes_of(documents[i].name), options.seed).high, i);
  std::sort(order.begin(), order.end());
  const double below = options.held_out_share * 0x1p64;
  std::vector<bool> chosen(documents.size(), false);
  for (std::uint64_t have = 0; const auto& [key, i] : order) {
    if (static_cast<double>(key) >= below && have >= options.held_out_tokens_min) break;
    have += all.size(i);
    chosen[i] = true;
  }
  return chosen;
}

template <class T>
token_section section_of(const encoded& all, const std::vector<bool>& chosen, bool which) {
  token_section section;
  std::vector<T> tokens;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i] != which) continue;
    for (std::uint64_t t = all.begin(i); t < all.ends[i]; ++t) tokens.push_back(static_cast<T>(all.tokens[t]));
    section.document_ends.push_back(tokens.size());
  }
  section.tokens = std::move(tokens);
  return section;
}

token_section make_section(const encoded& all, const std::vector<bool>& chosen, bool which, std::uint32_t vocabulary) {
  return vocabulary <= 65536 ? section_of<std::uint16_t>(all, chosen, which) : section_of<std::uint32_t>(all, chosen, which);
}

expected<token_shard> make_shard(std::string name, std::span<const document> documents, const tokenizer& tokens,
                                 const data_options& options) {
  const encoded all = encode_documents(documents, tokens);
  const auto chosen = choose_held_out(documents, all, options);
  const auto vocabulary = static_cast<std::uint32_t>(tokens.vocabulary());
  token_shard shard{std::move(name), vocabulary, tokens.hash(), content_key(documents, tokens, options), {}, {}};
  shard.train = make_section(all, chosen, false, vocabulary);
  shard.held_out = make_section(all, chosen, true, vocabulary);
  if (shard.train.size() < 4 * shard.held_out.size())
    return fail(errc::recipe_invalid,
                fmt::format("shard '{}': {} documents of {} tokens are too few to hold out {}: give it more text or set a smaller minimum",
                            shard.name, documents.size(), all.tokens.size(), options.held_out_tokens_min));
  return shard;
}

std::string shard_name(const data_options& options, std::uint32_t site) {
  return options.alike ? fmt::format("alike-{}-of-{}", site, options.sites) : options.sources[site];
}

expected<void> check_options(const data_options& options) {
  if (options.sites == 0 || options.sources.empty()) return fail(errc::recipe_invalid, "data: no sites or no sources");
  if (!options.alike && options.sources.size() != options.sites)
    return fail(errc::recipe_invalid,
                fmt::format("data: {} sources for {} sites: one each, or draw the shards alike", options.sources.size(), options.sites));
  for (std::size_t i = 0; i < options.sources.size(); ++i)
    if (std::find(options.sources.begin(), options.sources.begin() + static_cast<std::ptrdiff_t>(i), options.sources[i]) !=
        options.sources.begin() + static_cast<std::ptrdiff_t>(i))
      return fail(errc::recipe_invalid,
                  fmt::format("data: source '{}' is named twice, two shards would have one name", options.sources[i]));
  if (!(options.held_out_share >= 0 && options.held_out_share <= 0.2))
    return fail(errc::recipe_invalid, fmt::format("data: a held-out share of {}, 0 to 0.2 allowed", options.held_out_share));
  return {};
}

}  // namespace

expected<std::vector<document>> site_documents(const storage& root, const data_options& options, std::uint32_t site) {
  if (auto ok = check_options(options); !ok) return ok.failure();
  ensure(site < options.sites, "site_documents: no such site");
  if (!options.alike) return build_corpus(root, options.sources[site], options.bytes_max);
  std::vector<document> mine;
  for (const std::string& source : options.sources) {
    const auto documents = build_corpus(root, source, options.bytes_max);
    if (!documents) return documents.failure();
    for (document& d : deal(*documents, options.sites, site)) mine.push_back({source + "/" + d.name, std::move(d.text)});
  }
  return mine;
}

pre_token_counts shareable_counts(std::span<const document> documents, const data_options& options) {
  pre_token_counts counts;
  for (const document& d : documents) counts.add(d.text);
  counts.drop_below(options.count_minimum);
  return counts;
}

expected<tokenizer> train_shared_tokenizer(std::span<const pre_token_counts> counts, const data_options& options) {
  pre_token_counts merged;
  for (const pre_token_counts& c : counts) merged.merge(c);
  bpe_options training;
  training.vocabulary = options.vocabulary;
  auto model = train_bpe(merged, training);
  if (!model) return model.failure();
  return tokenizer(std::move(*model));
}

expected<site_data> prepare_site_data(storage& out, const std::string& folder, std::span<const document> documents, const tokenizer& tokens,
                                      const data_options& options, std::uint32_t site) {
  if (auto ok = check_options(options); !ok) return ok.failure();
  ensure(site < options.sites, "prepare_site_data: no such site");
  const std::string name = shard_name(options, site);
  site_data data;
  data.name = name;
  data.shard_path = folder + "/" + name + ".shard";
  data.tokenizer_path = folder + "/tokenizer.json";
  data.domain = options.alike ? "all sources alike" : find_source(options.sources[site])->domain;
  const shard_expectation wanted{name, static_cast<std::uint32_t>(tokens.vocabulary()), tokens.hash(),
                                 content_key(documents, tokens, options)};
  auto shard = read_shard(out, data.shard_path, wanted);
  data.reused = shard.has_value();
  if (!shard) {
    shard = make_shard(name, documents, tokens, options);
    if (!shard) return shard.failure();
    if (auto ok = write_shard(out, data.shard_path, *shard); !ok) return ok.failure();
  }
  data.content = shard->content;
  data.documents = documents.size();
  for (const document& d : documents) data.text_bytes += d.text.size();
  data.train_tokens = shard->train.size();
  data.held_out_tokens = shard->held_out.size();
  data.unigram_entropy = shard->held_out.size() > 0 ? unigram_entropy(shard->train, shard->held_out, shard->vocabulary) : 0;
  return data;
}

expected<std::vector<site_data>> prepare_data(const storage& root, storage& out, const std::string& folder, const data_options& options) {
  if (auto ok = check_options(options); !ok) return ok.failure();
  std::vector<std::vector<document>> documents;
  std::vector<pre_token_counts> counts;
  for (std::uint32_t site = 0; site < options.sites; ++site) {
    auto mine = site_documents(root, options, site);
    if (!mine) return mine.failure();
    counts.push_back(shareable_counts(*mine, options));
    documents.push_back(std::move(*mine));
  }
  const auto tokens = train_shared_tokenizer(counts, options);
  if (!tokens) return tokens.failure();
  if (auto ok = write_tokenizer(out, folder + "/tokenizer.json", *tokens); !ok) return ok.failure();
  std::vector<site_data> sites;
  for (std::uint32_t site = 0; site < options.sites; ++site) {
    auto data = prepare_site_data(out, folder, documents[site], *tokens, options, site);
    if (!data) return data.failure();
    sites.push_back(std::move(*data));
  }
  return sites;
}

expected<tokenizer> read_tokenizer(const storage& disk, const std::string& path) {
  const auto bytes = disk.read(path, tokenizer_bytes_max);
  if (!bytes) return bytes.failure();
  auto model = parse_tokenizer_json({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, path);
  if (!model) return model.failure();
  return tokenizer(std::move(*model));
}

expected<void> write_tokenizer(storage& disk, const std::string& path, const tokenizer& tokens) {
  return write_atomically(disk, path, bytes_of(to_tokenizer_json(tokens.model())));
}

}  // namespace isthmus
