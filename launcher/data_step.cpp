#include "launcher/data_step.hpp"

#include "framework/data/prepare.hpp"
#include "framework/metrics/terminal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>

namespace isthmus::launcher {

namespace fs = std::filesystem;

namespace {

data_options options_of(const recipe& plan) {
  data_options o;
  o.sources.clear();
  for (const auto& site : plan.sites)
    if (!site.source.empty()) o.sources.push_back(site.source);
  if (o.sources.empty())
    for (const auto* name : {"perl", "vim", "python"}) o.sources.emplace_back(name);
  o.alike = plan.data.split == "alike";
  o.sites = static_cast<std::uint32_t>(plan.sites.size());
  o.vocabulary = plan.data.vocabulary;
  o.count_minimum = static_cast<std::uint64_t>(plan.data.shared_count_minimum);
  o.bytes_max = static_cast<std::uint64_t>(plan.data.text_bytes_max);
  o.seed = static_cast<std::uint64_t>(plan.run.seed);
  o.held_out_tokens_min = static_cast<std::uint64_t>(plan.data.held_out_tokens);
  return o;
}

/// With a tokenizer from outside: no counts are shared at all.
expected<std::vector<site_data>> prepare_with(const std::string& tokenizer_path, bool separate_documents, const storage& root,
                                              storage& disk, const std::string& folder, const data_options& options) {
  auto tokens = read_tokenizer(root, fs::absolute(tokenizer_path).lexically_normal().relative_path().string());
  if (!tokens) return fail(tokens.error().code, fmt::format("data.tokenizer = \"{}\": {}", tokenizer_path, tokens.error().message));
  if (auto ok = check_vocabulary(tokens->vocabulary(), options.vocabulary, tokenizer_path); !ok) return ok.failure();
  if (separate_documents && !tokens->end_of_text())
    return fail(errc::unsupported, fmt::format("data.tokenizer = \"{}\" has no <|endoftext|>, by which data.documents = \"separate\" would "
                                               "know where one ends; use data.documents = \"packed\"",
                                               tokenizer_path));
  if (auto ok = write_tokenizer(disk, folder + "/tokenizer.json", *tokens); !ok) return ok.failure();
  std::vector<site_data> out;
  for (std::uint32_t site = 0; site < options.sites; ++site) {
    auto documents = site_documents(root, options, site);
    if (!documents) return documents.failure();
    auto made = prepare_site_data(disk, folder, *documents, *tokens, options, site);
    if (!made) return made.failure();
    out.push_back(std::move(*made));
  }
  return out;
}

/// One folder of the cache for everything that prepared data depends on.
std::string cache_name(const recipe& plan) {
  auto key = fmt::format("1 {} {} {} {} {} {}", plan.data.vocabulary, plan.data.tokenizer, plan.data.split, plan.data.text_bytes_max,
                         plan.data.shared_count_minimum, plan.data.held_out_tokens);
  for (const auto& site : plan.sites) key += " " + site.source;
  return "data-cache/" + hash_bytes(std::as_bytes(std::span(key)), static_cast<std::uint64_t>(plan.run.seed)).hex().substr(0, 16);
}

/// A link where the file system can, a copy where not: shards are never changed in place.
expected<void> put_into(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::remove(to, error);
  fs::create_hard_link(from, to, error);
  if (!error) return {};
  fs::copy_file(from, to, error);
  if (!error) return {};
  std::error_code unknown;
  fs::remove(to, unknown);
  const auto wanted = fs::file_size(from, unknown);
  if (const auto room = fs::space(to.parent_path(), unknown); !unknown && room.available < wanted)  // the copy itself says EIO
    return fail(errc::disk_full, fmt::format("cannot copy {} to {}: no space left on its disk, {} wanted, {} free; free some, or set "
                                             "ISTHMUS_RUNS or --run-folder to a larger disk",
                                             from.string(), to.parent_path().string(), show_bytes(static_cast<double>(wanted)),
                                             show_bytes(static_cast<double>(room.available))));
  return fail(errc::environment, fmt::format("cannot copy {} to {}: {}", from.string(), to.parent_path().string(), error.message()));
}

}  // namespace

expected<std::vector<site_data>> prepare_cached_data(const recipe& plan) {
  const auto folder = cache_name(plan);
  const auto cache_root = runs_root();
  std::error_code error;
  fs::create_directories(fs::path(cache_root) / folder, error);
  const int lock = ::open((fs::path(cache_root) / folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0) return fail(errc::environment, fmt::format("cannot write {}/{}", cache_root, folder));
  ::flock(lock, LOCK_EX);
  auto prepared = [&]() -> expected<std::vector<site_data>> {
    auto root = open_disk("/");
    auto disk = open_disk(cache_root);
    if (!root) return root.failure();
    if (!disk) return disk.failure();
    const auto options = options_of(plan);
    return plan.data.tokenizer == "train"
               ? prepare_data(**root, **disk, folder, options)
               : prepare_with(plan.data.tokenizer, plan.data.documents == "separate", **root, **disk, folder, options);
  }();
  ::close(lock);
  return prepared;
}

expected<void> put_into_run(const std::vector<site_data>& prepared, run_folder& run, console& out) {
  const auto cache_root = runs_root();
  std::error_code error;
  fs::create_directories(fs::path(run.path) / "data", error);
  if (error) return fail(errc::environment, fmt::format("cannot make {}/data: {}", run.path, error.message()));
  if (auto ok = put_into(fs::path(cache_root) / prepared.front().tokenizer_path, fs::path(run.path) / "data/tokenizer.json"); !ok)
    return ok;
  run.people.sites.clear();
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const auto& made = prepared[i];
    const auto shard = "data/" + fs::path(made.shard_path).filename().string();
    if (auto ok = put_into(fs::path(cache_root) / made.shard_path, fs::path(run.path) / shard); !ok) return ok;
    run.people.sites.push_back(
        {static_cast<site_id>(i), run.plan.sites[i].name, {}, shard, made.domain, made.unigram_entropy, made.content.hex(), {}});
    out.progress(fmt::format("  {:<8} {} tokens of {} ({}), unigram entropy {:.3f} nats{}\n", run.plan.sites[i].name,
                             show_count(static_cast<double>(made.train_tokens)), made.domain,
                             show_bytes(static_cast<double>(made.text_bytes)), made.unigram_entropy,
                             made.reused ? ", as prepared before" : ""));
  }
  return {};
}

}  // namespace isthmus::launcher
