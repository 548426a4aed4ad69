#include "framework/data/prepare.hpp"
#include "framework/data/sample_order.hpp"
#include "framework/metrics/terminal.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"
#include "launcher/newest_anchor.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <thread>

namespace isthmus::launcher {

namespace {

constexpr std::int64_t rows_at_once = 8;

/// The loss on the held-out text of one site.
struct text_loss {
  std::string site, domain;
  double sum = 0;            // nats
  std::uint64_t tokens = 0;  // whole rows only
  double mean() const { return sum / static_cast<double>(std::max<std::uint64_t>(tokens, 1)); }
};

/// Over every whole row of the section, in its order.
void add_section(hybrid_model& model, const token_section& text, std::int64_t context, text_loss& loss) {
  const auto rows = static_cast<std::int64_t>(sample_count(text, context));
  std::vector<token_id> ids;
  for (std::int64_t row = 0; row < rows; row += rows_at_once) {
    const std::int64_t here = std::min(rows_at_once, rows - row);
    ids.resize(static_cast<std::size_t>(here * (context + 1)));
    for (std::int64_t r = 0; r < here; ++r)
      text.copy(static_cast<std::uint64_t>((row + r) * context),
                std::span(ids).subspan(static_cast<std::size_t>(r * (context + 1)), static_cast<std::size_t>(context + 1)));
    const token_batch batch{ids, here, context};
    loss.sum += model.evaluate(batch);
    loss.tokens += static_cast<std::uint64_t>(batch.tokens());
  }
}

/// The held-out text of one site.
struct held_out_text {
  std::string site, domain;
  token_section tokens;
};

/// Ids of one tokenizer mean nothing to a model of another, and losses over unlike tokens cannot be compared.
expected<void> check_tokenizer(const run_folder& run, const tokenizer& ours, const run_folder& text) {
  const auto disk = open_disk(text.path);
  if (!disk) return disk.failure();
  const auto theirs = read_tokenizer(**disk, "data/tokenizer.json");
  if (!theirs) return fail(theirs.error().code, told_of_run(text.path, theirs.error().message));
  if (theirs->hash() == ours.hash()) return {};
  return fail(errc::usage, fmt::format("the text of {} was made with tokenizer {}, {} trained with tokenizer {}: --on takes a run with the "
                                       "same one",
                                       text.path, theirs->hash().hex(), run.path, ours.hash().hex()));
}

/// At least one row in all.
expected<std::vector<held_out_text>> read_text(const run_folder& run, const shard_expectation& expect, std::int64_t context) {
  const auto disk = open_disk(run.path);
  if (!disk) return disk.failure();
  std::vector<held_out_text> out;
  std::uint64_t rows = 0;
  for (const auto& site : run.people.sites) {
    auto shard = read_shard(**disk, site.shard, expect);
    if (!shard) return fail(shard.error().code, told_of_run(run.path, shard.error().message));
    rows += sample_count(shard->held_out, context);
    out.push_back({site.name, site.domain, std::move(shard->held_out)});
  }
  if (rows == 0)
    return fail(errc::out_of_range, fmt::format("the held-out text of {} has no row of {} tokens: data.held_out_tokens is {}", run.path,
                                                context + 1, run.plan.data.held_out_tokens));
  return out;
}

std::string table_of(const std::vector<text_loss>& losses, const text_loss& all) {
  std::vector<std::vector<std::string>> rows{{"held-out text", "site", "tokens", "loss"}};
  for (const auto& l : losses) rows.push_back({l.domain, l.site, std::to_string(l.tokens), fmt::format("{:.4f}", l.mean())});
  rows.push_back({"all", "", std::to_string(all.tokens), fmt::format("{:.4f}", all.mean())});
  return show_table(rows, {false, false, true, true});
}

std::string json_of(const run_folder& run, const run_folder& text, const anchor_of_run& anchor, const std::vector<text_loss>& losses,
                    const text_loss& all) {
  nlohmann::json sites = nlohmann::json::array();
  for (const auto& l : losses) sites.push_back({{"site", l.site}, {"domain", l.domain}, {"tokens", l.tokens}, {"loss", l.mean()}});
  const nlohmann::json answer{{"schema", 1},
                              {"run", run.path},
                              {"text", text.path},
                              {"round", anchor.round()},
                              {"checkpoint", anchor.saved.folder},
                              {"warnings", anchor.saved.warnings},
                              {"sites", sites},
                              {"tokens", all.tokens},
                              {"loss", all.mean()}};
  return answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

expected<run_folder> open_named(const std::string& name) {
  const auto path = find_run(name);
  if (!path) return path.failure();
  return open_run_folder(*path);
}

}  // namespace

int run_evaluate(const evaluate_options& options, console& out) {
  const auto run = open_named(options.run);
  if (!run) return out.error(run.error());
  const auto text = options.on.empty() ? run : open_named(options.on);
  if (!text) return out.error(text.error());
  if (text->people.sites.empty())
    return out.error({errc::not_found, fmt::format("{} has no text: it has no {}, so it was never prepared", text->path, roster_name)});
  const auto disk = open_disk(run->path);
  if (!disk) return out.error(disk.error());
  const auto tokens = read_tokenizer(**disk, "data/tokenizer.json");
  if (!tokens) return out.error(tokens.error());
  if (auto ok = check_tokenizer(*run, *tokens, *text); !ok) return out.error(ok.error());
  shard_expectation expect;
  expect.vocabulary = static_cast<std::uint32_t>(run->plan.data.vocabulary);
  expect.tokenizer = tokens->hash();
  const auto held_out = read_text(*text, expect, run->plan.train.context);
  if (!held_out) return out.error(held_out.error());
  const auto anchor = newest_anchor(*run, **disk, std::nullopt);
  if (!anchor) return out.error(anchor.error());

  kernels::stealing_team team(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  auto config = run->plan.model;
  if (run->plan.data.documents == "separate") config.document_mark = tokens->end_of_text().value_or(-1);
  hybrid_model model(config, kernels::default_backend(), team);
  if (auto ok = anchor->copy_to(model); !ok) return out.error(ok.error());
  std::vector<text_loss> losses;
  text_loss all{"", "all"};
  for (const auto& part : *held_out) {
    losses.push_back({part.site, part.domain});
    add_section(model, part.tokens, run->plan.train.context, losses.back());
    all.sum += losses.back().sum;
    all.tokens += losses.back().tokens;
  }
  for (const auto& warning : anchor->saved.warnings) out.warn(printable(warning));
  out.answer(options.json ? json_of(*run, *text, *anchor, losses, all) : table_of(losses, all));
  return exit_ok;
}

}  // namespace isthmus::launcher
