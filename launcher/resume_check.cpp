#include "launcher/resume_check.hpp"

#include "framework/core/storage.hpp"
#include "framework/rounds/file_log.hpp"
#include "framework/rounds/ledger.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus::launcher {

namespace {

constexpr std::size_t ledger_bytes_max = std::size_t{1} << 32;
constexpr const char* bring_back = "bring it back from a copy of the run, then resume; nothing was touched";

/// What the ledgers of a run tell of files that must be there.
struct traces {
  std::string epoch, checkpoint;  // a ledger that knows of one; empty: none does
};

expected<traces> read_traces(const storage& disk, const recipe& plan) {
  traces found;
  for (site_id site = 0; site < plan.sites.size(); ++site) {
    const auto path = ledger_writer::path_of(site);
    if (!disk.exists(path)) continue;
    const auto bytes = disk.read(path, ledger_bytes_max);
    if (!bytes) return bytes.failure();
    const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    if (text.find("\"t\":\"entered\"") != std::string_view::npos) found.epoch = path;
    if (text.find("\"state\":\"durable\"") != std::string_view::npos) found.checkpoint = path;
  }
  return found;
}

bool has_checkpoint(const storage& disk, site_id site) {
  const auto names = disk.list("checkpoints/site-" + std::to_string(site));
  return std::any_of(names.begin(), names.end(), [](const std::string& name) { return name.starts_with("checkpoint-"); });
}

}  // namespace

expected<void> check_resumable(const run_folder& run) {
  auto disk = open_disk(run.path);
  if (!disk) return disk.failure();
  const auto known = read_traces(**disk, run.plan);
  if (!known) return known.failure();
  bool any_checkpoint = false;
  for (site_id site = 0; site < run.plan.sites.size(); ++site) any_checkpoint = any_checkpoint || has_checkpoint(**disk, site);
  if (run.people.run_id.empty()) {
    if (!known->epoch.empty() || any_checkpoint)
      return fail(errc::not_found, fmt::format("{}/{} is missing, though the run was trained: {}", run.path, roster_name, bring_back));
    return fail(errc::not_found, fmt::format("{} was stopped before its text was prepared; launch it anew", run.path));
  }
  const auto entries = file_log::read(**disk, "coordinator.jsonl");
  if (!entries) return fail(entries.error().code, fmt::format("{}/{}; {}", run.path, entries.error().message, bring_back));
  if (entries->empty() && !known->epoch.empty())
    return fail(errc::not_found, fmt::format("{}/coordinator.jsonl has no epoch or is missing, though {} tells of some: {}", run.path,
                                             known->epoch, bring_back));
  if (!any_checkpoint && !known->checkpoint.empty())
    return fail(errc::not_found, fmt::format("{}/checkpoints holds no checkpoint of any site, though {} tells of some; resumed, the run "
                                             "would begin anew: bring them back from a copy, or launch it anew in another folder",
                                             run.path, known->checkpoint));
  return {};
}

}  // namespace isthmus::launcher
