#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace isthmus::testing {

std::string text_of_file(const std::string& path);

/// What tests/golden/make_gguf_models.py wrote of that case.
nlohmann::json golden_gguf(const std::string& name);

/// The GGUF file that it is about, its numbers made anew.
std::string gguf_file_of(const nlohmann::json& golden);

}  // namespace isthmus::testing
