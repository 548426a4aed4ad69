#include "tests/framework/models/their_gradients.hpp"

#include "framework/models/import_m2_bert.hpp"
#include "framework/models/tensor_names.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <variant>
#include <vector>

namespace isthmus::testing {

namespace {

using nlohmann::json;
using values = std::vector<double>;

/// Of those that lie behind each other in one of theirs.
values gradients_of(hybrid_model& model, const std::vector<std::string>& names) {
  values out;
  for (const auto& name : names) {
    const auto slot = std::ranges::find(model.layout().slots, name, &tensor_slot::name);
    BOOST_TEST_REQUIRE((slot != model.layout().slots.end()), name);
    const auto g = model.gradients().subspan(static_cast<std::size_t>(slot->offset), static_cast<std::size_t>(slot->count));
    out.insert(out.end(), g.begin(), g.end());
  }
  return out;
}

void multiply(values& g, double factor) {
  for (double& x : g) x *= factor;
}

/// All x2, all x1, all v become [x2 | x1 | v] head by head.
values head_by_head(const values& g, std::size_t heads) {
  values out;
  const std::size_t block = g.size() / (3 * heads);
  for (std::size_t head = 0; head < heads; ++head)
    for (std::size_t part = 0; part < 3; ++part) {
      const auto from = g.begin() + static_cast<std::ptrdiff_t>((part * heads + head) * block);
      out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(block));
    }
  return out;
}

/// A filter of `numbers` that `share` neighbouring channels have.
values summed(const values& g, std::size_t numbers, std::size_t share) {
  values out(g.size() / share);
  for (std::size_t i = 0; i < g.size(); ++i) out[i / (numbers * share) * numbers + i % numbers] += g[i];
  return out;
}

class their_gradients {
public:
  their_gradients(hybrid_model& model, const hf_config& config) : model_(model), config_(config) {}

  /// layer: null for tensors outside of layers.
  values of(const hf_tensor& t, const std::string& prefix, const hf_layer* layer) const {
    if (config_.family == hf_family::m2_bert) return of_m2_bert(t, prefix, layer);
    values g = gradients_of(model_, our_tensor_names(config_.family, prefix, t));
    if (const auto* hyena = layer != nullptr ? std::get_if<hf_hyena>(&layer->mixer) : nullptr) {
      if (t.role == "poles" || t.role == "residues")
        return summed(g, static_cast<std::size_t>(2 * hyena->state), static_cast<std::size_t>(config_.d_model / hyena->filters));
      if (hyena->column_split && (t.role.starts_with("projections") || t.role.starts_with("short_filter")))
        return head_by_head(g, static_cast<std::size_t>(hyena->heads));
    }
    const bool writes = t.role.starts_with("o_proj") || t.role.starts_with("out_") || t.role.ends_with("down_proj");
    if (layer != nullptr && writes) multiply(g, config_.residual_multiplier);
    if (t.role == "head") multiply(g, 1 / config_.logits_divisor);
    if (t.role == "embedding") multiply(g, config_.embedding_multiplier);
    if (t.role == "embedding" && config_.tied_head && !model_.config().tied_head) {
      const values head = gradients_of(model_, {"lm_head.weight"});
      for (std::size_t i = 0; i < g.size(); ++i) g[i] += head[i] / config_.logits_divisor;
    }
    return g;
  }

private:
  values of_m2_bert(const hf_tensor& t, const std::string& prefix, const hf_layer* layer) const {
    values g = gradients_of(model_, our_tensor_names(config_.family, prefix, t));
    if (layer == nullptr) return g;
    if (t.role.ends_with("filter.freq")) multiply(g, std::get<hf_monarch>(layer->mixer).w_mod);
    if (t.role.starts_with("in_proj") || t.role.starts_with("short_filter"))  // [x1 x2 v] there
      std::swap_ranges(g.begin(), g.begin() + std::ssize(g) / 3, g.begin() + std::ssize(g) / 3);
    return g;
  }

  hybrid_model& model_;
  const hf_config& config_;
};

void compare(const values& found, const json& told) {
  double squares = 0, largest = 0;
  for (const double g : found) {
    squares += g * g;
    largest = std::max(largest, std::abs(g));
  }
  const double norm = told.at("norm");
  BOOST_TEST(std::abs(std::sqrt(squares) - norm) <= 1e-3 * norm, told.at("name")
                                                                     << ": gradient norm " << std::sqrt(squares) << " against " << norm);
  BOOST_TEST_REQUIRE(!told.at("picks").empty());
  for (std::size_t k = 0; k < told.at("picks").size(); ++k) {
    const auto at = told.at("picks")[k].get<std::size_t>();
    const double value = told.at("values")[k];
    BOOST_TEST_REQUIRE(at < found.size());
    BOOST_TEST(std::abs(found[at] - value) <= 1e-3 * largest, told.at("name") << " element " << at << ": gradient " << found[at]
                                                                              << " against " << value << ", the largest is " << largest);
  }
}

}  // namespace

void check_their_gradients(hybrid_model& model, const json& golden) {
  const auto config = read_hf_config(golden.at("config").dump(), "config.json");
  BOOST_TEST_REQUIRE(config.has_value());
  const their_gradients gradients(model, *config);
  std::ptrdiff_t compared = 0;
  const auto check = [&](const std::vector<hf_tensor>& tensors, const std::string& prefix, const hf_layer* layer) {
    for (const auto& t : tensors) {
      const auto told = std::ranges::find_if(golden.at("tensors"), [&](const json& other) {
        const auto name = other.at("name").get<std::string>();  // of a model that was saved by itself, without "backbone."
        return t.name == name || t.name == "backbone." + name;
      });
      BOOST_TEST_REQUIRE((told != golden.at("tensors").end()), t.name);
      if (!told->contains("norm")) continue;  // a choice, or times, have no gradient
      compare(gradients.of(t, prefix, layer), *told);
      ++compared;
    }
  };
  check(model_tensors(*config), "", nullptr);
  for (std::size_t i = 0; i < config->layers.size(); ++i)
    check(layer_tensors(*config, i), "model.layers." + std::to_string(i) + ".", &config->layers[i]);
  BOOST_TEST(compared == std::ranges::count_if(golden.at("tensors"), [](const json& t) { return t.contains("norm"); }));
}

}  // namespace isthmus::testing
