#include "launcher/convert_source.hpp"

#include "framework/core/json.hpp"
#include "framework/data/prepare.hpp"
#include "framework/formats/byte_source.hpp"
#include "framework/formats/gguf_model.hpp"
#include "framework/formats/gguf_tokenizer.hpp"
#include "framework/formats/hf_config.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "launcher/newest_anchor.hpp"
#include "launcher/text_generation.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <utility>

namespace isthmus::launcher {

namespace {

using nlohmann::json;

constexpr std::uint64_t file_bytes_max = 64 << 20;

/// What AutoTokenizer of Transformers reads beside tokenizer.json.
std::string tokenizer_config(const std::string& begin, const std::string& end, const std::string* chat_template) {
  json out{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  if (!begin.empty()) out["bos_token"] = begin;
  if (!end.empty()) out["eos_token"] = end;
  if (chat_template != nullptr) out["chat_template"] = *chat_template;
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<std::int64_t> first_of(const std::vector<std::int64_t>& ids) {
  return ids.empty() ? std::optional<std::int64_t>() : ids.front();
}
export_facts facts_of(const hf_config& config) {
  return {config.context, first_of(config.begin_tokens), config.pad_token, config.end_tokens};
}

/// Whether a folder can say what that model is: asked before its weights are read.
expected<void> check_can_be_written(const model_config& model, const std::string& where) {
  model_config alone = model;
  alone.medusa_heads = 0;  // they stay behind
  const auto text = config_json_of(alone, {}, dtype::f32);
  if (text) return {};
  return fail(text.error().code, fmt::format("{}: {}", where, text.error().message));
}

expected<convert_source> read_run(const std::string& typed) {
  const auto path = find_run(typed);
  if (!path) return path.failure();
  const auto run = open_run_folder(*path);
  if (!run) return run.failure();
  if (auto ok = check_can_be_written(run->plan.model, *path); !ok) return ok.failure();
  auto disk = open_disk(*path);
  if (!disk) return disk.failure();
  const auto newest = newest_anchor(*run, **disk, {});
  if (!newest) return newest.failure();
  const auto tokens = read_tokenizer(**disk, "data/tokenizer.json");
  if (!tokens) return tokens.failure();
  if (auto ok = check_vocabulary(tokens->vocabulary(), run->plan.model.vocabulary, *path + "/data/tokenizer.json"); !ok)
    return ok.failure();
  const parameter_layout layout = hybrid_layout(run->plan.model);
  convert_source out;
  out.config = run->plan.model;
  out.weights = std::make_shared<float_array>(static_cast<std::size_t>(layout.size));
  const auto part = newest->saved.part("model");
  if (!part) return part.failure();
  if (auto ok = (*part)->copy_to(layout, out.weights->span()); !ok) return ok.failure();
  out.facts.context = run->plan.train.context;
  const std::optional<token_id> end = tokens->end_of_text();
  bpe_model words = tokens->model();
  words.around = {};  // documents are encoded without it
  if (end) {          // they begin behind the end of others
    out.facts.begin_token = *end;
    out.facts.end_tokens = {*end};
    words.around.before = {*end};
  }
  const std::string name = end ? std::string(tokens->bytes(*end)) : "";
  out.files = {{"tokenizer.json", to_tokenizer_json(words)}, {"tokenizer_config.json", tokenizer_config(name, name, nullptr)}};
  out.from = newest->saved.folder;
  out.warnings = newest->saved.warnings;
  return out;
}

/// A file of the folder as it is; nothing when it is not there.
expected<std::optional<std::string>> read_file(const std::string& folder, const std::string& name) {
  std::error_code ignored;
  if (std::filesystem::symlink_status(folder + "/" + name, ignored).type() == std::filesystem::file_type::not_found)
    return std::optional<std::string>();
  const auto source = open_source(folder, name);
  if (!source) return source.failure();
  auto text = (*source)->read_text(file_bytes_max);
  if (!text) return text.failure();
  return std::optional(std::move(*text));
}

/// A file that is called JSON must be some: nobody could read the copy.
expected<void> check_json(const std::string& text, const std::string& folder, std::string_view name) {
  if (!name.ends_with(".json") || json::accept(text)) return {};
  const auto told = parse_json(text, fmt::format("{}/{}", folder, name));
  return fail(errc::malformed, told ? fmt::format("{}/{}: not valid JSON", folder, name) : told.error().message);
}

/// A folder's tokenizer and what goes with it, as they are.
expected<std::map<std::string, std::string>> read_tokenizer_files(const std::string& folder) {
  std::map<std::string, std::string> out;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
                           "merges.txt", "tokenizer.model", "vocab.txt", "generation_config.json", "chat_template.jinja"}) {
    auto text = read_file(folder, name);
    if (!text) return text.failure();
    if (!*text) continue;
    if (auto ok = check_json(**text, folder, name); !ok) return ok.failure();
    out.emplace(name, std::move(**text));
  }
  return out;
}

expected<convert_source> read_folder(const std::string& folder) {
  const auto model = config_of_hugging_face(folder);
  if (!model) return model.failure();
  if (auto ok = check_can_be_written(*model, folder); !ok) return ok.failure();
  auto files = read_tokenizer_files(folder);
  if (!files) return files.failure();
  auto imported = import_hugging_face(folder);
  if (!imported) return imported.failure();
  const auto told = read_file(folder, "config.json");
  if (!told) return told.failure();
  const auto config = read_hf_config(**told, folder + "/config.json");
  if (!config) return config.failure();
  convert_source out;
  out.config = std::move(imported->config);
  out.weights = std::move(imported->weights);
  out.facts = facts_of(*config);
  out.files = std::move(*files);
  out.from = folder;
  return out;
}

/// tokenizer.json of a byte-level vocabulary; its user-defined tokens stand among the added ones, as special ones do, but are none.
std::string byte_level_json(bpe_model model, const gguf_vocabulary& v, text_template around) {
  model.around = std::move(around);
  const auto is_user_defined = [&](std::size_t id) { return v.types[id] == gguf_token_type::user_defined; };
  for (std::size_t id = 0; id < v.tokens.size(); ++id)
    if (is_user_defined(id)) model.specials.push_back(static_cast<token_id>(id));
  std::ranges::sort(model.specials);
  json out = json::parse(to_tokenizer_json(model));
  for (json& token : out.at("added_tokens"))
    if (is_user_defined(token.at("id").get<std::size_t>())) token["special"] = false;
  return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

/// The tokenizer of a GGUF file as a folder has it.
std::map<std::string, std::string> files_of(const gguf_tokenizer& tokens) {
  const gguf_vocabulary& v = tokens.vocabulary();
  const auto name = [&](std::optional<token_id> id) { return id ? v.tokens[static_cast<std::size_t>(*id)] : std::string(); };
  std::map<std::string, std::string> out{{"tokenizer_config.json", tokenizer_config(name(v.begin), name(v.end), tokens.chat_template())}};
  if (const piece_tokenizer* pieces = tokens.pieces()) {
    out["tokenizer.json"] = to_tokenizer_json(pieces->model(), *v.add_space_prefix, tokens.around());
    return out;
  }
  out["tokenizer.json"] = byte_level_json(tokens.byte_level()->model(), v, tokens.around());
  return out;
}

expected<convert_source> read_gguf(const std::string& path) {
  auto source = open_source(path);
  if (!source) return source.failure();
  const auto file = open_gguf(std::move(*source));
  if (!file) return file.failure();
  const auto model = read_gguf_model(*file);
  if (!model) return model.failure();
  auto vocabulary = read_gguf_vocabulary(*file);
  if (!vocabulary) return vocabulary.failure();
  const auto tokens = gguf_tokenizer::make(std::move(*vocabulary), path);
  if (!tokens) return tokens.failure();
  const auto ours = config_from(model->config, path);
  if (!ours) return ours.failure();
  if (auto ok = check_can_be_written(*ours, path); !ok) return ok.failure();
  if (auto ok = check_rows(tokens->size(), ours->vocabulary, path); !ok) return ok.failure();
  auto imported = import_checkpoint(model->config, {model->tensors, path}, path);
  if (!imported) return imported.failure();
  return convert_source{imported->config, imported->weights, facts_of(model->config), files_of(*tokens), path, {}};
}

}  // namespace

expected<convert_source> read_convert_source(const std::string& source) {
  if (holds_hugging_face(source)) return read_folder(source);
  if (is_gguf(source)) return read_gguf(source);
  return read_run(source);
}

}  // namespace isthmus::launcher
