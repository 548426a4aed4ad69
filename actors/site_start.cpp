#include "actors/site_start.hpp"

#include "framework/data/sample_order.hpp"
#include "framework/rounds/json_lines.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

namespace isthmus::actors {

namespace {

using nlohmann::json;

guard_settings guarding(const recipe& plan) {
  const auto& g = plan.guard;
  guard_settings s;
  const auto& name = plan.round.aggregate;
  if (name == "clip_to_median") s.aggregate = aggregate_kind::clip_to_median;
  if (name == "centred_clipping") s.aggregate = aggregate_kind::centred_clipping;
  if (name == "trimmed_mean") s.aggregate = aggregate_kind::trimmed_mean;
  s.hostile_max = static_cast<std::uint32_t>(g.hostile_max);
  s.norm_veto = g.norm_veto;
  s.similarity_veto = g.similarity_veto;
  s.direction_veto = g.direction_veto;
  s.weight_cap = g.weight_cap;
  s.probation_rounds = static_cast<std::uint64_t>(g.probation_rounds);
  s.probation_weight = g.probation_weight;
  s.barred_after = static_cast<std::uint32_t>(g.barred_after);
  s.barred_rounds = static_cast<std::uint64_t>(g.barred_rounds);
  return s;
}

expected<group_settings> settings_of(const site_parts& parts, const group_shape& shape) {
  const auto& plan = parts.plan.round;
  auto codecs = make_codec_pair(plan.codec, parts.codecs);
  if (!codecs) return codecs.failure();
  auto warm_up = make_codec_pair("int8");
  if (!warm_up) return warm_up.failure();
  group_settings s;
  s.self = parts.self;
  s.incarnation = parts.incarnation;
  s.shape = shape;
  s.codecs = {*codecs, *warm_up, static_cast<std::uint64_t>(plan.warm_up_rounds)};
  s.outer = {plan.outer == "plain" ? outer_kind::plain : outer_kind::nesterov, static_cast<float>(plan.outer_learning_rate),
             static_cast<float>(plan.outer_momentum)};
  s.reference_tokens = static_cast<double>(reference_tokens(parts.plan));
  s.tokens_goal = static_cast<std::uint64_t>(parts.plan.run.tokens);
  s.calls = !parts.plan.run.deterministic;
  s.quorum = static_cast<std::uint32_t>(parts.plan.run.deterministic ? parts.plan.sites.size() : static_cast<std::size_t>(plan.quorum));
  s.guarding = guarding(parts.plan);
  if (parts.plan.guard.audit_rate > 0 && parts.plan.sites.at(parts.self).home) {
    s.auditing = {parts.plan.guard.audit_rate, parts.plan.guard.audit_cosine, {}, parts.audits.secret};
    for (const auto& [site, text] : parts.audits.texts) s.auditing.sites.push_back(site);
  }
  s.deadline.min = from_seconds(plan.deadline_min_seconds);
  s.deadline.max = from_seconds(plan.deadline_max_seconds);
  s.deadline.grace = from_seconds(plan.grace_seconds);
  if (parts.where == tier::simulated) s.piece_floats = 512;  // states are small there: several pieces all the same
  return s;
}

json json_of(const contribution_snapshot& book) {
  json leases = json::array();
  for (const lease& l : book.leases) leases.push_back(json_lines::to_json(l));
  return {{"round", book.round}, {"step", book.step}, {"tokens", book.tokens}, {"mass", book.mass}, {"leases", leases}};
}

json json_of(const std::vector<contributor>& watermarks) {
  json list = json::array();
  for (const auto& mark : watermarks) list.push_back(json_lines::to_json(mark));
  return list;
}

/// One group's floats out of a flat array.
std::vector<float> cut(const float_array& flat, const group_shape& shape) {
  const auto part = flat.span().subspan(static_cast<std::size_t>(shape.offset), static_cast<std::size_t>(shape.size));
  return {part.begin(), part.end()};
}

struct flat_arrays {
  float_array anchor, momentum, residual;
};

/// Throws what nlohmann::json throws when a field is missing or of another type.
void read_group(const json& entry, const flat_arrays& flat, std::size_t i, site_start& start) {
  const auto& shape = start.shapes[i];
  group_snapshot snapshot;
  snapshot.round = entry.at("round").get<round_number>();
  snapshot.record = json_lines::record_from(entry.at("record"));
  for (const auto& mark : entry.at("watermarks")) snapshot.watermarks.push_back(json_lines::contributor_from(mark));
  snapshot.anchor = cut(flat.anchor, shape);
  if (start.settings[i].outer.has_momentum()) snapshot.momentum = cut(flat.momentum, shape);
  contribution_snapshot book;
  book.residual = cut(flat.residual, shape);
  const auto& b = entry.at("book");
  book.round = b.at("round").get<round_number>();
  book.step = b.at("step").get<step_number>();
  for (const auto& l : b.at("leases")) book.leases.push_back(json_lines::lease_from(l));
  book.tokens = b.at("tokens").get<std::uint64_t>();
  book.mass = b.at("mass").get<double>();
  start.groups[i] = std::move(snapshot);
  start.books[i] = std::move(book);
}

expected<void> read_checkpoint(const loaded_checkpoint& saved, const site_parts& parts, site_start& start) {
  const std::string where = saved.folder + "/manifest.json";
  const auto& layout = start.memory->layout;
  const auto floats = static_cast<std::size_t>(layout.size);
  flat_arrays flat{float_array(floats), float_array(floats), float_array(floats)};
  const std::pair<const char*, std::span<float>> files[] = {{"model", flat.anchor.span()},
                                                            {"momentum", flat.momentum.span()},
                                                            {"residual", flat.residual.span()},
                                                            {"moment1", parts.arithmetic.first_moment},
                                                            {"moment2", parts.arithmetic.second_moment}};
  for (const auto& [name, into] : files)
    if (auto ok = saved.parts.at(name).copy_to(layout, into); !ok) return ok;
  const json state = json::parse(saved.facts.state, nullptr, false);
  if (!state.is_object()) return fail(errc::malformed, where + ": its state is not a JSON object");
  try {
    const auto& groups = state.at("groups");
    if (groups.size() != start.shapes.size())
      return fail(errc::malformed,
                  where + ": " + std::to_string(groups.size()) + " groups, expected " + std::to_string(start.shapes.size()));
    for (std::size_t i = 0; i < groups.size(); ++i) read_group(groups[i], flat, i, start);
    auto leases = lease_book::from_json(state.at("cursor").get<std::string>(), where);
    if (!leases) return leases.failure();
    start.leases = std::move(*leases);
  } catch (const std::exception& e) { return fail(errc::malformed, where + ": " + e.what()); }
  start.step = saved.facts.step;
  start.tokens = saved.facts.tokens;
  start.resumed = true;
  start.checkpoint = saved.folder;
  start.checkpoint_hash = saved.manifest;
  start.saved_by = saved.facts.incarnation;
  start.warnings = saved.warnings;
  return {};
}

}  // namespace

std::string checkpoint_folder(site_id site) { return "checkpoints/site-" + std::to_string(site); }

expected<site_start> start_site(const site_parts& parts) {
  const auto& layout = parts.arithmetic.layout;
  site_start start;
  start.memory = std::make_shared<site_memory>(layout);
  start.shapes = cut_groups(layout, static_cast<std::uint32_t>(parts.plan.round.groups));
  for (const auto& shape : start.shapes) {
    auto settings = settings_of(parts, shape);
    if (!settings) return settings.failure();
    start.settings.push_back(std::move(*settings));
  }
  start.groups.resize(start.shapes.size());
  start.books.resize(start.shapes.size());

  checkpoint_needs needs;
  needs.recipe_hash = recipe_hash(parts.plan);
  needs.run_id = parts.run_id;
  needs.site = parts.self;
  needs.parts = {"model", "moment1", "moment2", "momentum", "residual"};
  needs.state_keys = {"groups", "cursor"};
  auto saved = checkpoint_store(parts.disk, checkpoint_folder(parts.self)).load(needs);
  if (saved) {
    if (auto ok = read_checkpoint(*saved, parts, start); !ok) return ok.failure();
  } else if (saved.error().code != errc::not_found) {
    return saved.failure();
  }
  if (!start.leases) {
    const std::uint64_t samples = sample_count(parts.tokens->train, parts.plan.train.context);
    if (samples == 0)
      return fail(errc::out_of_range, "shard " + parts.tokens->name + ": " + std::to_string(parts.tokens->train.size()) +
                                          " training tokens, at least " + std::to_string(parts.plan.train.context + 1) + " are needed");
    start.leases.emplace(parts.self, samples, static_cast<std::uint32_t>(start.shapes.size()));
  }
  parts.arithmetic.initialise(start.memory->weights->span());
  return start;
}

std::shared_ptr<const site_copy> copy_site(const site_parts& parts, const site_start& start, std::shared_ptr<site_copy>& memory,
                                           step_number step, std::uint64_t tokens,
                                           const std::vector<std::shared_ptr<const group_snapshot>>& groups,
                                           const std::vector<std::shared_ptr<const contribution_snapshot>>& books,
                                           const std::string& cursor) {
  if (!memory || memory.use_count() > 1) memory = std::make_shared<site_copy>(start.memory->weights->size());
  std::atomic_thread_fence(std::memory_order_acquire);  // behind the last reader, in whatever thread it was
  const auto copy = memory;
  copy->layout_of = start.memory;
  copy->facts = {};
  std::ranges::copy(parts.arithmetic.first_moment, copy->first.data());
  std::ranges::copy(parts.arithmetic.second_moment, copy->second.data());
  json entries = json::array();
  auto& facts = copy->facts;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto offset = start.shapes[i].offset;
    std::ranges::copy(groups[i]->anchor, copy->weights.data() + offset);
    std::ranges::copy(groups[i]->momentum, copy->momentum.data() + offset);
    std::ranges::copy(books[i]->residual, copy->residual.data() + offset);
    entries.push_back({{"round", groups[i]->round},
                       {"record", json_lines::to_json(groups[i]->record)},
                       {"watermarks", json_of(groups[i]->watermarks)},
                       {"book", json_of(*books[i])}});
    const auto& record = groups[i]->record;
    facts.groups.push_back({static_cast<group_id>(i), groups[i]->round, record.epoch,
                            groups[i]->round > 0 ? hash_record(record) : hash128{}, hash_floats(groups[i]->anchor)});
  }
  facts.run_id = parts.run_id;
  facts.recipe_hash = recipe_hash(parts.plan);
  facts.site = parts.self;
  facts.incarnation = parts.incarnation;
  facts.step = step;
  facts.tokens = tokens;
  facts.seed = static_cast<std::uint64_t>(parts.plan.run.seed);
  facts.state = json{{"groups", entries}, {"cursor", cursor}}.dump();
  return copy;
}

std::vector<checkpoint_part> parts_of(const site_copy& copy) {
  const auto& layout = copy.layout_of->layout;
  return {{"model", views_of(layout, copy.weights.span())},
          {"moment1", views_of(layout, copy.first.span())},
          {"moment2", views_of(layout, copy.second.span())},
          {"momentum", views_of(layout, copy.momentum.span())},
          {"residual", views_of(layout, copy.residual.span())}};
}

}  // namespace isthmus::actors
