#pragma once

#include "framework/core/expected.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace isthmus {

/// Reads the post_processor of a tokenizer.json: null, ByteLevel (it moves offsets alone), TemplateProcessing, or a Sequence of these with
/// one template. Of a template what `single` puts before and behind one sequence A is read; `pair` and type ids are not needed here.
/// vocabulary: how many ids there are. Errors: unsupported, malformed, out_of_range, too_large; they name `where` and the path in the file.
expected<text_template> read_text_template(const nlohmann::json& post_processor, std::int64_t vocabulary, const std::string& where);

/// The same as a TemplateProcessing, which puts those before and behind each of two texts as well. name: of a token, as in the file.
nlohmann::json to_template_processing(const text_template& around, const std::function<std::string(token_id)>& name);

}  // namespace isthmus
