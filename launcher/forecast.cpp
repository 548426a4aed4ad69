#include "launcher/forecast.hpp"

#include "actors/device.hpp"
#include "actors/run.hpp"
#include "framework/codecs/codec.hpp"
#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"
#include "framework/models/hybrid_model.hpp"
#include "kernels/select.hpp"
#include "launcher/recipes.hpp"

#include <fmt/format.h>

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <string>

namespace isthmus::launcher {

namespace {

constexpr double bytes_a_number = 4;

/// Of this process, in bytes.
double resident() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS:")) return std::strtod(line.c_str() + 6, nullptr) * 1024;
  return 0;
}

/// What a buffer takes: a large one lies on huge pages.
double in_pages(double bytes) {
  constexpr double huge_page = 2 << 20;
  return bytes < huge_page ? bytes : std::ceil(bytes / huge_page) * huge_page;
}

/// What training takes: of one device alone, and of that what the devices of a site share.
struct training_memory {
  double device = 0, shared = 0;
};

/// Rows of tokens drawn at random, in slices as a device takes them.
template <class Work>
void by_slices(const recipe& plan, std::int64_t rows, Work work) {
  const std::int64_t context = plan.train.context;
  rng random(1, 0, 0, draw::sampling);
  std::vector<std::int32_t> ids;
  for (std::int64_t at = 0, n = 0; at < rows; at += n) {
    n = actors::rows_of_slice(rows - at, context, actors::slice_tokens);
    ids.resize(static_cast<std::size_t>(n * (context + 1)));
    for (auto& id : ids) id = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(plan.model.vocabulary)));
    work(token_batch{ids, n, context});
  }
}

/// A step of one device of that site, and an evaluation, with the arithmetic of the site's process.
training_memory train_a_step(recipe plan, site_id site) {
  if (plan.data.documents == "separate") plan.model.document_mark = 0;
  const std::int64_t devices = std::max<std::int64_t>(1, plan.sites.at(site).devices), rows = rows_per_step(plan);
  const double before = resident();
  const auto arithmetic = actors::make_arithmetic(plan, site);
  const auto floats = static_cast<std::size_t>(arithmetic.layout.size);
  const auto weights = std::make_shared<float_array>(floats), gradients = std::make_shared<float_array>(floats);
  arithmetic.initialise(weights->span());
  const auto model = arithmetic.make_learner(0, weights, gradients);
  model->weights_changed();
  by_slices(plan, (rows + devices - 1) / devices, [&](const token_batch& slice) { model->accumulate(slice, 1); });
  arithmetic.update(*model, {weights->span(), gradients->span(), 0, arithmetic.layout.size, 1e-4, 1, 1});
  model->weights_changed();
  if (const std::int64_t held_out = std::min(plan.data.held_out_tokens, 2 * actors::slice_tokens) / plan.train.context; held_out > 0)
    by_slices(plan, held_out, [&](const token_batch& slice) { model->evaluate(slice); });
  return {resident() - before, 3 * in_pages(bytes_a_number * static_cast<double>(floats))};  // weights and two moments
}

/// What the rounds of a recipe make its sites keep, in bytes.
class round_memory {
public:
  explicit round_memory(const recipe& plan)
      : groups_(cut_groups(hybrid_layout(plan.model), static_cast<std::uint32_t>(plan.round.groups))),
        sites_(static_cast<double>(plan.sites.size())),
        momentum_(plan.round.outer == "plain" ? 0 : 1) {
    for (const auto& site : plan.sites) homes_.push_back(site.home);
    if (auto pair = make_codec_pair(plan.round.codec)) codecs_.push_back(std::move(*pair));
    if (auto pair = make_codec_pair("int8"); pair && plan.round.warm_up_rounds > 0) codecs_.push_back(std::move(*pair));
    const auto& g = plan.guard;
    judged_ = plan.round.aggregate != "mean" || g.norm_veto > 0 || g.similarity_veto > 0 || g.direction_veto > -1 || g.weight_cap > 0 ||
              g.probation_rounds > 0 || g.audit_rate > 0;
  }

  /// The arrays that stay, and the most of what comes and goes: all groups close a round while the last checkpoint is written, or
  /// all are copied for the next one.
  double of_site(site_id site) const {
    double stays = 0, closing = 0, copied = 0, all = 0;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const bool at_home = is_home(site, g);
      stays += array(g) * (at_home ? stay_at_home() : stay_at_member());
      closing += at_home ? close_at_home(g) : close_at_member(g);
      copied += (2 + momentum_) * numbers(g) + (at_home ? 1 : 2) * down(g);
      all += numbers(g);
    }
    constexpr double parts_of_a_checkpoint = 5;
    return stays + parts_of_a_checkpoint * in_pages(all) + std::max(closing, copied);
  }

  /// The anchors that it knows.
  double of_auditor() const {
    constexpr double anchors_a_group = 3;
    double all = 0;
    for (std::size_t g = 0; g < groups_.size(); ++g) all += anchors_a_group * array(g);
    return all;
  }

private:
  double numbers(std::size_t g) const { return bytes_a_number * static_cast<double>(groups_[g].size); }
  double array(std::size_t g) const { return in_pages(numbers(g)); }
  /// A contribution's frame.
  double up(std::size_t g) const {
    double most = 0;
    for (const auto& pair : codecs_) most = std::max(most, frame(*pair.up, g));
    return most;
  }
  /// A delta's: of an exact union, whose size depends on the data, as if all sites sent other numbers.
  double down(std::size_t g) const {
    double most = 0;
    for (const auto& pair : codecs_)
      most = std::max(most, pair.down->payload_bytes(groups_[g]) > 0 ? frame(*pair.down, g) : sites_ * frame(*pair.up, g));
    return most;
  }
  double frame(const codec& one, std::size_t g) const {
    const auto size = one.size(groups_[g]);
    return static_cast<double>(size.header + size.payload());
  }
  /// Groups go to the homes in turn.
  bool is_home(site_id site, std::size_t g) const {
    std::vector<site_id> homes;
    for (site_id i = 0; i < homes_.size(); ++i)
      if (homes_[i]) homes.push_back(i);
    return !homes.empty() && homes[g % homes.size()] == site;
  }
  double stay_at_member() const { return 2 + momentum_; }  // anchor, residual, momentum
  /// Besides, what a round is closed into: the sum, the next anchor and momentum, and what a lossy delta leaves.
  double stay_at_home() const {
    const bool lossy = std::ranges::any_of(codecs_, [](const auto& pair) { return pair.down_has_residual; });
    return stay_at_member() + 2 + momentum_ + (lossy ? 1 : 0);
  }
  /// All sites' frames, the last round's delta, the next one and what it was copied from; where contributions are judged, their numbers.
  double close_at_home(std::size_t g) const { return sites_ * up(g) + 3 * down(g) + (judged_ ? sites_ * array(g) : 0); }
  /// Its frame, the deltas of two rounds, and what comes or is copied.
  double close_at_member(std::size_t g) const { return up(g) + 2 * down(g) + std::max(up(g), down(g)); }

  std::vector<group_shape> groups_;
  std::vector<codec_pair> codecs_;
  std::vector<bool> homes_;
  double sites_, momentum_;
  bool judged_ = false;
};

/// Of other sites, that this one trains on again to audit them.
std::size_t texts_to_audit(const recipe& plan, site_id site) {
  if (plan.guard.audit_rate == 0 || !plan.sites[site].home) return 0;
  std::size_t texts = 0;
  for (site_id other = 0; other < plan.sites.size(); ++other) texts += other != site && plan.sites[other].shared_text ? 1 : 0;
  return texts;
}

}  // namespace

std::optional<recipe_problem> activation_problem(const recipe_reading& reading, const std::string& path) {
  const recipe& plan = *reading.value;
  if (plan.model.activation_mib == 0) return std::nullopt;
  kernels::serial_team team;
  hybrid_model model(plan.model, kernels::default_backend(), team);  // its arrays are not touched
  try {
    model.plan(1, plan.train.context);
  } catch (const activation_limit_error& e) {
    return recipe_problem{"R055",
                          e.what(),
                          place_of(reading, "model.activation_mib", path),
                          fmt::format("at least {} MiB, or 0 for no limit", e.mib_needed),
                          "a shorter train.context takes less",
                          false};
  }
  return std::nullopt;
}

std::vector<site_forecast> forecast_memory(const recipe& plan) {
  constexpr double program = 30 << 20, bytes_a_text_byte = 0.7;  // of libraries, threads and connections; of tokens
  ::mallopt(M_MMAP_THRESHOLD, 128 << 10);                        // what one measurement frees, the next one must not find
  const round_memory rounds(plan);
  std::map<std::pair<std::int64_t, std::int64_t>, training_memory> measured;
  std::vector<site_forecast> forecasts;
  for (site_id id = 0; id < plan.sites.size(); ++id) {
    const auto& site = plan.sites[id];
    const auto devices = std::max<std::int64_t>(1, site.devices);
    auto at = measured.find({devices, site.threads_per_device});
    if (at == measured.end()) at = measured.emplace(std::pair{devices, site.threads_per_device}, train_a_step(plan, id)).first;
    const auto& one = at->second;
    const std::size_t audited = texts_to_audit(plan, id);
    forecasts.push_back(
        {.process = program + bytes_a_text_byte * static_cast<double>(plan.data.text_bytes_max) * static_cast<double>(1 + audited),
         .training = one.device + static_cast<double>(devices - 1) * (one.device - one.shared) + (audited > 0 ? one.device : 0),
         .rounds = rounds.of_site(id) + (audited > 0 ? rounds.of_auditor() : 0)});
  }
  return forecasts;
}

}  // namespace isthmus::launcher
