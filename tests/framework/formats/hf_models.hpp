#pragma once

#include "framework/core/error.hpp"
#include "framework/formats/hf_config.hpp"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>

namespace isthmus::testing {

/// tests/golden/formats/hf_configs.json: name -> {config, tensors}.
const nlohmann::json& golden();

/// The config must be read.
hf_config read(const nlohmann::json& object);
hf_config read(const char* name);
/// The config of a golden model, changed.
hf_config changed(const char* name, const std::function<void(nlohmann::json&)>& change);

/// Reading must fail with this code and a message that holds `part`.
void refused_text(const std::string& text, errc code, const std::string& part);
void refused(const char* name, const std::function<void(nlohmann::json&)>& change, errc code, const std::string& part);
void refused(const char* name, const char* key, const nlohmann::json& value, errc code, const std::string& part);

}  // namespace isthmus::testing
