#include "launcher/text_generation.hpp"

#include "framework/data/prepare.hpp"
#include "framework/formats/generation_config.hpp"
#include "framework/formats/gguf_tokenizer.hpp"
#include "framework/models/generate.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "framework/models/speculate.hpp"
#include "framework/tokenizer/character_bpe.hpp"
#include "kernels/select.hpp"
#include "launcher/newest_anchor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <utility>
#include <variant>

namespace isthmus::launcher {

namespace {

/// How many bytes at the end of text are the beginning of a UTF-8 character that is not whole yet.
std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0U) == 0x80) continue;
    const std::size_t needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needs > back ? back : 0;
  }
  return 0;
}

/// What a tokenizer has to tell to continue a text.
struct text_ids {
  std::vector<token_id> prompt;
  std::vector<token_id> stops;                                   // any of them ends the text
  std::function<std::string(std::span<const token_id>)> decode;  // borrows the tokenizer
};

template <class Tokens>
text_ids ids_of(const Tokens& tokens, std::vector<token_id> prompt, std::vector<token_id> stops) {
  return {std::move(prompt), std::move(stops), [&tokens](std::span<const token_id> ids) { return tokens.decode(ids); }};
}

/// Of a run: documents begin behind the end of others, so do texts, whatever its tokenizer.json puts around one.
text_ids ids_of_run(const tokenizer& tokens, const std::string& prompt) {
  std::vector<token_id> ends;
  if (tokens.end_of_text()) ends.push_back(*tokens.end_of_text());
  std::vector<token_id> ids = ends;
  encoder(tokens).encode(prompt, ids);
  return ids_of(tokens, std::move(ids), std::move(ends));
}

text_ids ids_of(const gguf_tokenizer& tokens, const std::string& prompt) {
  std::vector<token_id> ends;
  if (tokens.end()) ends.push_back(*tokens.end());
  return ids_of(tokens, tokens.prompt(prompt), std::move(ends));
}

using folder_tokenizer = std::variant<tokenizer, character_bpe>;

/// Of a folder: what its tokenizer.json puts before a text, and the end tokens of its configs.
text_ids ids_of(const folder_tokenizer& tokens, const std::string& prompt, std::vector<token_id> ends) {
  if (const auto* characters = std::get_if<character_bpe>(&tokens)) return ids_of(*characters, characters->prompt(prompt), std::move(ends));
  const auto& bytes = std::get<tokenizer>(tokens);
  return ids_of(bytes, encoder(bytes).prompt(prompt), std::move(ends));
}

/// The tokenizer.json of a folder.
expected<folder_tokenizer> read_folder_tokenizer(const storage& disk, const std::string& where) {
  constexpr std::uint64_t tokenizer_bytes_max = 64 << 20;
  const auto bytes = disk.read("tokenizer.json", tokenizer_bytes_max);
  if (!bytes) return bytes.failure();
  const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  if (!is_character_bpe_json(text)) {
    auto model = parse_tokenizer_json(text, where);
    if (!model) return model.failure();
    return folder_tokenizer(std::in_place_type<tokenizer>, std::move(*model));
  }
  auto model = parse_character_bpe_json(text, where);
  if (!model) return model.failure();
  auto made = character_bpe::make(std::move(*model), where);
  if (!made) return made.failure();
  return folder_tokenizer(std::move(*made));
}

/// The end tokens of a folder's generation_config.json, which go before those of config.json; nothing when there is no such file.
expected<std::optional<std::vector<std::int64_t>>> read_generation_ends(const storage& disk, std::int64_t vocabulary,
                                                                        const std::string& where) {
  using ends = std::optional<std::vector<std::int64_t>>;
  constexpr std::uint64_t bytes_max = 4 << 20;
  const auto bytes = disk.read("generation_config.json", bytes_max);
  if (!bytes && bytes.error().code == errc::not_found) return ends();
  if (!bytes) return bytes.failure();
  auto told = read_generation_config({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, vocabulary, where);
  if (!told) return told.failure();
  return ends(std::move(told->end_tokens));
}

/// Continues the prompt; fills in text, tokens and seconds.
expected<void> continue_text(hybrid_model& model, const text_ids& words, const text_options& options,
                             const std::function<void(std::string_view)>& on_text, generated_text& out) {
  if (words.prompt.empty()) return fail(errc::usage, "the prompt is empty and the tokenizer has no token to begin from");
  generate_options how;
  how.tokens_max = options.tokens;
  how.temperature = static_cast<float>(options.temperature);
  how.top_p = static_cast<float>(options.top_p);
  how.seed = options.seed;
  std::size_t told = 0;
  const auto tell = [&](std::size_t until) {
    if (on_text && until > told) on_text(std::string_view(out.text).substr(told, until - told));
    told = std::max(told, until);
  };
  const auto began = std::chrono::steady_clock::now();
  const auto hear = [&](std::int32_t id) {
    ++out.tokens;
    const std::array<token_id, 1> one{id};
    out.text += words.decode(one);
    tell(out.text.size() - unfinished_tail(out.text));
    return std::ranges::find(words.stops, id) == words.stops.end();
  };
  out.by_heads = model.config().medusa_heads > 0 && options.temperature == 0 && !options.one_by_one;
  try {
    if (out.by_heads)
      out.tokens_per_pass = generate_by_heads(model, words.prompt, how, hear).tokens_per_pass();
    else
      generate(model, words.prompt, how, hear);
  } catch (const not_finite_error& e) { return fail(errc::not_finite, e.what()); }  // of weights, which come from outside
  tell(out.text.size());
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return {};
}

}  // namespace

expected<void> check_rows(std::int64_t tokens, std::int64_t of_model, const std::string& where) {
  if (tokens <= of_model) return {};
  return fail(errc::out_of_range, fmt::format("{}: a vocabulary of {} tokens, but the model has {}: use the tokenizer it was trained with",
                                              where, tokens, of_model));
}

expected<generated_text> generate_text(const run_folder& run, const text_options& options,
                                       const std::function<void(std::string_view)>& on_text) {
  auto disk = open_disk(run.path);
  if (!disk) return disk.failure();
  auto newest = newest_anchor(run, **disk, options.site);
  if (!newest) return newest.failure();
  auto tokens = read_tokenizer(**disk, "data/tokenizer.json");
  if (!tokens) return tokens.failure();
  if (auto ok = check_vocabulary(tokens->vocabulary(), run.plan.model.vocabulary, run.path + "/data/tokenizer.json"); !ok)
    return ok.failure();
  kernels::serial_team team;
  const auto weights = std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(run.plan.model).size));
  hybrid_model model(run.plan.model, kernels::default_backend(), team, options.formats, weights);
  if (auto ok = newest->copy_to(model); !ok) return ok.failure();
  generated_text out;
  out.checkpoint = newest->saved.folder;
  out.site = newest->site;
  out.round = newest->round();
  out.warnings = newest->saved.warnings;
  if (auto ok = continue_text(model, ids_of_run(*tokens, options.prompt), options, on_text, out); !ok) return ok.failure();
  return out;
}

bool holds_hugging_face(const std::string& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder + "/config.json", ignored);
}

expected<generated_text> generate_text(const std::string& hugging_face_folder, const text_options& options,
                                       const std::function<void(std::string_view)>& on_text) {
  const auto config = config_of_hugging_face(hugging_face_folder);
  if (!config) return config.failure();
  if (sees_ahead(*config))
    return fail(errc::unsupported,
                hugging_face_folder +
                    ": its model reads whole texts and predicts masked tokens, it continues none: a model that decodes is wanted");
  auto disk = open_disk(hugging_face_folder);
  if (!disk) return disk.failure();
  const std::string tokens_path = hugging_face_folder + "/tokenizer.json";
  const auto tokens = read_folder_tokenizer(**disk, tokens_path);
  if (!tokens) return tokens.failure();
  const std::int64_t count = std::visit([](const auto& t) { return t.vocabulary(); }, *tokens);
  if (auto ok = check_rows(count, config->vocabulary, tokens_path); !ok) return ok.failure();
  const auto told_ends = read_generation_ends(**disk, config->vocabulary, hugging_face_folder + "/generation_config.json");
  if (!told_ends) return told_ends.failure();
  auto imported = import_hugging_face(hugging_face_folder);
  if (!imported) return imported.failure();
  kernels::serial_team team;
  hybrid_model model(imported->config, kernels::default_backend(), team, options.formats, imported->weights);
  model.weights_changed();
  generated_text out;
  out.checkpoint = hugging_face_folder;
  const auto& ends = *told_ends ? **told_ends : imported->end_tokens;
  const text_ids words = ids_of(*tokens, options.prompt, {ends.begin(), ends.end()});
  if (auto ok = continue_text(model, words, options, on_text, out); !ok) return ok.failure();
  return out;
}

bool is_gguf(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

expected<generated_text> generate_text_from_gguf(const std::string& path, const text_options& options,
                                                 const std::function<void(std::string_view)>& on_text) {
  auto source = open_source(path);
  if (!source) return source.failure();
  const auto file = open_gguf(std::move(*source));
  if (!file) return file.failure();
  auto vocabulary = read_gguf_vocabulary(*file);
  if (!vocabulary) return vocabulary.failure();
  const auto tokens = gguf_tokenizer::make(std::move(*vocabulary), path);
  if (!tokens) return tokens.failure();
  const auto imported = import_gguf(*file);
  if (!imported) return imported.failure();
  if (auto ok = check_rows(tokens->size(), imported->config.vocabulary, path); !ok) return ok.failure();
  kernels::serial_team team;
  hybrid_model model(imported->config, kernels::default_backend(), team, options.formats, imported->weights);
  model.weights_changed();
  generated_text out;
  out.checkpoint = path;
  if (auto ok = continue_text(model, ids_of(*tokens, options.prompt), options, on_text, out); !ok) return ok.failure();
  return out;
}

}  // namespace isthmus::launcher
