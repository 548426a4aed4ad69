#pragma once

#include "framework/core/expected.hpp"
#include "framework/layers/catalog.hpp"
#include "framework/models/config.hpp"

#include <optional>
#include <string>
#include <vector>

namespace isthmus {

/// A layer of a model; what is not there mixes nothing.
struct layer_pair {
  std::optional<layer_shape> mixer, channel;
};

/// What is wrong with a model, each thing once, though several layers have it.
class model_faults {
public:
  void add(const error& fault);
  const std::vector<error>& all() const { return all_; }

private:
  std::vector<error> all_;
};
/// All that check(config) finds, in its order: it gives the first. Of a kind of layer, or a variant, it is the first of what it has.
std::vector<error> faults_of(const model_config& config);

/// The layers that a config names, and what is wrong with them; a layer without its mixer or channel mixer where the name is unknown, and
/// no layers where options are out of their range.
std::vector<layer_pair> resolve_layers(const model_config& config, model_faults& faults);
/// The layers that a config names. recipe_invalid names the key, what was found and what is allowed.
expected<std::vector<layer_pair>> resolve_layers(const model_config& config);

/// How the norms of a layer's two halves are called, below the layer's prefix; empty: there is none.
struct norm_names {
  std::string mixer, channel;
};
norm_names norm_names_of(const model_config& config);

/// The two names of an entry of `layers`.
struct layer_names {
  std::string mixer, channel;
};
layer_names names_of(const std::string& entry, const std::string& default_channel);

}  // namespace isthmus
