#include "framework/core/json.hpp"
#include "framework/tokenizer/character_bpe.hpp"
#include "framework/tokenizer/text_template.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <unordered_set>

namespace isthmus {

namespace {

using nlohmann::json;

constexpr std::size_t file_bytes_max = 64 << 20, token_bytes_max = 4096, vocabulary_max = 1 << 22, added_max = 16'384;

json replace_of(const char* from, const char* to) { return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}}; }

class reader {
public:
  reader(const json& root, const std::string& where) : root_(root), where_(where) {}

  expected<character_bpe_model> read() {
    for (auto part : {&reader::read_blanks, &reader::check_decoder, &reader::read_vocabulary, &reader::read_added, &reader::check_ids,
                      &reader::read_merges, &reader::read_template})
      if (auto ok = (this->*part)(); !ok) return ok.failure();
    return std::move(model_);
  }

private:
  unexpected bad(errc code, const std::string& at, const std::string& what) const {
    return fail(code, fmt::format("{}: {}: {}", where_, at, what));
  }
  expected<void> expect(const json& object, const std::string& at, const char* name, const json& wanted) const {
    const json& value = value_at(object, name);
    if (value == wanted) return {};
    return bad(errc::unsupported, at + "." + name, fmt::format("{} is not supported, only {}", excerpt(value), excerpt(wanted)));
  }

  /// How blanks become U+2581, and where one is put.
  expected<void> read_blanks() {
    using rule = character_bpe_model::blank_rule;
    for (const char* part : {"truncation", "padding"})
      if (!value_at(root_, part).is_null()) return bad(errc::unsupported, part, "only null is supported, found " + excerpt(root_[part]));
    const json prepend{{"type", "Prepend"}, {"prepend", "\u2581"}}, replace = replace_of(" ", "\u2581");
    const json& normalizer = value_at(root_, "normalizer");
    const json& cutter = value_at(root_, "pre_tokenizer");
    if (normalizer.is_null()) return read_metaspace(cutter);
    if (!cutter.is_null())
      return bad(errc::unsupported, "pre_tokenizer", fmt::format("beside a normalizer only null is supported, found {}", excerpt(cutter)));
    normalizes_ = true;
    json steps = json::array({normalizer});
    if (value_at(normalizer, "type") == "Sequence") steps = value_at(normalizer, "normalizers");
    if (steps == json::array({prepend, replace})) {
      model_.blank = rule::each;
      return {};
    }
    if (steps == json::array({replace})) return {};
    return bad(errc::unsupported, "normalizer",
               fmt::format("{} is not supported, only null, Replace of \" \" by \"\u2581\", and Prepend of \"\u2581\" before it",
                           excerpt(normalizer)));
  }

  expected<void> read_metaspace(const json& cutter) {
    using rule = character_bpe_model::blank_rule;
    const std::string at = "pre_tokenizer";
    if (value_at(cutter, "type") != "Metaspace")
      return bad(errc::unsupported, at, fmt::format("{} is not supported, only Metaspace where normalizer is null", excerpt(cutter)));
    if (auto ok = expect(cutter, at, "replacement", "\u2581"); !ok) return ok;
    const json& prefix = value_at(cutter, "add_prefix_space");  // of files before there was a scheme
    const json scheme = cutter.value("prepend_scheme", json(prefix == false ? "never" : "always"));
    if (scheme != "always" && scheme != "first" && scheme != "never")
      return bad(errc::unsupported, at + ".prepend_scheme", fmt::format("{} is not supported, only always, first, never", excerpt(scheme)));
    model_.blank = scheme == "always" ? rule::each_lacking : scheme == "first" ? rule::first_lacking : rule::none;
    const json split = cutter.value("split", json(true));
    if (!split.is_boolean()) return bad(errc::malformed, at + ".split", "true or false is expected");
    model_.cuts_words = split.get<bool>();
    return {};
  }

  /// U+2581 to blanks, bytes to characters; the blank before a text may be taken away.
  expected<void> check_decoder() {
    const json& decoder = value_at(root_, "decoder");
    json steps = value_at(decoder, "type") == "Sequence" ? value_at(decoder, "decoders") : json();
    json wanted = json::array({replace_of("\u2581", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
    if (steps == wanted) return {};
    wanted.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    if (steps == wanted) return {};
    return bad(errc::unsupported, "decoder",
               fmt::format("{} is not supported, only a Sequence of Replace, ByteFallback, Fuse and Strip", excerpt(decoder)));
  }

  expected<token_id> read_id(const json& value, const std::string& at) const {
    if (value.is_number_unsigned() && value.get<std::uint64_t>() < vocabulary_max) return static_cast<token_id>(value.get<std::uint64_t>());
    return bad(value.is_number() ? errc::out_of_range : errc::malformed, at,
               fmt::format("is {}, expected an id from 0 to {}", excerpt(value), vocabulary_max - 1));
  }

  expected<void> check_name(const std::string& name, const std::string& at) const {
    if (!name.empty() && name.size() <= token_bytes_max) return {};
    return bad(errc::out_of_range, at, fmt::format("a token of {} bytes, 1 to {} allowed", name.size(), token_bytes_max));
  }

  expected<void> place(token_id id, const std::string& token, bool word, const std::string& at) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= places_) return bad(errc::out_of_range, at, fmt::format("id {} leaves a hole: there are {} tokens", id, places_));
    if (!model_.tokens[index].empty())
      return bad(errc::malformed, at, fmt::format("id {} is already that of {}", id, excerpt(json(model_.tokens[index]))));
    model_.tokens[index] = token;
    model_.words[index] = word;
    return {};
  }

  expected<void> read_vocabulary() {
    const json& model = value_at(root_, "model");
    if (auto ok = expect(model, "model", "type", "BPE"); !ok) return ok;
    if (auto ok = expect(model, "model", "byte_fallback", true); !ok) return ok;
    if (!value_at(model, "dropout").is_null()) return bad(errc::unsupported, "model.dropout", "only null is supported");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const json& affix = value_at(model, name); !affix.is_null() && affix != "")
        return bad(errc::unsupported, std::string("model.") + name, fmt::format("{} is not supported, only null", excerpt(affix)));
    if (const json& whole = value_at(model, "ignore_merges"); !whole.is_null() && whole != false)
      return bad(errc::unsupported, "model.ignore_merges", fmt::format("{} is not supported, only false", excerpt(whole)));
    const json &vocabulary = value_at(model, "vocab"), &added = value_at(root_, "added_tokens");
    if (!vocabulary.is_object()) return bad(errc::malformed, "model.vocab", "an object of token: id is expected");
    if (!added.is_null() && !added.is_array()) return bad(errc::malformed, "added_tokens", "an array is expected");
    if (vocabulary.size() > vocabulary_max || added.size() > added_max)
      return bad(
          errc::too_large, "model.vocab",
          fmt::format("{} tokens, {} of them added; at most {}, {} allowed", vocabulary.size(), added.size(), vocabulary_max, added_max));
    places_ = vocabulary.size() + added.size();  // until those are known that stand in both
    model_.tokens.resize(places_);
    model_.words.resize(places_);
    for (const auto& [name, value] : vocabulary.items()) {
      const std::string at = "model.vocab[" + excerpt(json(name)) + "]";
      const auto id = read_id(value, at);
      if (!id) return id.failure();
      if (auto ok = check_name(name, at); !ok) return ok;
      if (auto ok = place(*id, name, true, at); !ok) return ok;
      ids_.emplace(name, *id);
    }
    return {};
  }

  expected<void> read_added() {
    for (std::size_t i = 0; i < value_at(root_, "added_tokens").size(); ++i)
      if (auto ok = read_added_token(root_["added_tokens"][i], fmt::format("added_tokens[{}]", i)); !ok) return ok;
    std::ranges::sort(model_.added);
    std::ranges::sort(model_.specials);
    return {};
  }

  expected<void> read_added_token(const json& entry, const std::string& at) {
    const json& content = value_at(entry, "content");
    const auto id = read_id(value_at(entry, "id"), at + ".id");
    if (!id) return id.failure();
    if (!content.is_string()) return bad(errc::malformed, at + ".content", "a string is expected");
    const auto name = content.get<std::string>();
    if (auto ok = check_name(name, at + ".content"); !ok) return ok;
    for (const char* flag : {"single_word", "lstrip", "rstrip"})
      if (const json& value = value_at(entry, flag); !value.is_null() && value != false)
        return bad(errc::unsupported, at + "." + flag, fmt::format("{} is not supported, only false", excerpt(value)));
    // A normalized name is looked for in the text with its blanks replaced.
    const json &normalized = value_at(entry, "normalized"), &special = value_at(entry, "special");
    if (!normalized.is_boolean() || !special.is_boolean()) return bad(errc::malformed, at, "normalized and special are true or false");
    if (normalized == true && normalizes_)
      return bad(errc::unsupported, at + ".normalized", "true is not supported where there is a normalizer, only false");
    if (normalized != value_at(root_["added_tokens"][0], "normalized"))
      return bad(errc::unsupported, at + ".normalized", "not the same for all added tokens");
    if (const auto known = ids_.find(name); known == ids_.end()) {
      if (auto ok = place(*id, name, false, at + ".id"); !ok) return ok;
      ids_.emplace(name, *id);
    } else if (known->second != *id) {
      return bad(errc::malformed, at + ".id", fmt::format("{} has id {} here and {} before", excerpt(content), *id, known->second));
    }
    if (std::ranges::find(model_.added, *id) != model_.added.end())
      return bad(errc::malformed, at + ".id", fmt::format("id {} was added before", *id));
    model_.added.push_back(*id);
    if (special == true) model_.specials.push_back(*id);
    return {};
  }

  /// Ids without a gap.
  expected<void> check_ids() {
    model_.tokens.resize(ids_.size());
    model_.words.resize(ids_.size());
    for (std::size_t id = 0; id < model_.tokens.size(); ++id)
      if (model_.tokens[id].empty()) return bad(errc::malformed, "model.vocab", fmt::format("no token has id {} of {}", id, ids_.size()));
    return {};
  }

  /// "left right", or ["left", "right"]: two words whose join is one.
  expected<void> read_merges() {
    const json& merges = value_at(root_["model"], "merges");
    if (!merges.is_array()) return bad(errc::malformed, "model.merges", "an array is expected");
    std::unordered_set<std::uint64_t> seen;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const std::string at = fmt::format("model.merges[{}]", rank);
      const json& entry = merges[rank];
      std::string left, right;
      if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
        left = entry[0];
        right = entry[1];
      } else if (entry.is_string()) {
        const auto text = entry.get<std::string>();
        const std::size_t space = text.find(' ');
        left = text.substr(0, space);
        right = space == std::string::npos ? "" : text.substr(space + 1);
      }
      token_id ids[3];
      const std::string names[] = {left, right, left + right};
      for (std::size_t i = 0; i < 3; ++i) {
        const auto found = ids_.find(names[i]);
        if (found == ids_.end() || !model_.words[static_cast<std::size_t>(found->second)])
          return bad(errc::malformed, at, fmt::format("{}: {} is not in model.vocab", excerpt(entry), excerpt(json(names[i]))));
        ids[i] = found->second;
      }
      if (!seen.insert(static_cast<std::uint64_t>(ids[0]) << 32U | static_cast<std::uint64_t>(ids[1])).second)
        return bad(errc::malformed, at, fmt::format("{} was merged before", excerpt(entry)));
      model_.merges.push_back({ids[0], ids[1], ids[2]});
    }
    return {};
  }

  expected<void> read_template() {
    auto around = read_text_template(value_at(root_, "post_processor"), static_cast<std::int64_t>(model_.tokens.size()), where_);
    if (!around) return around.failure();
    model_.around = std::move(*around);
    return {};
  }

  const json& root_;
  const std::string& where_;
  character_bpe_model model_;
  std::unordered_map<std::string, token_id> ids_;
  std::size_t places_ = 0;
  bool normalizes_ = false;
};

}  // namespace

bool is_character_bpe_json(std::string_view text) {
  if (text.size() > file_bytes_max) return false;
  const auto root = parse_json(text, "");
  return root && root->is_object() && value_at(value_at(*root, "model"), "byte_fallback") == true;
}

expected<character_bpe_model> parse_character_bpe_json(std::string_view text, const std::string& where) {
  if (text.size() > file_bytes_max)
    return fail(errc::too_large, fmt::format("{}: {} bytes, at most {} allowed", where, text.size(), file_bytes_max));
  const auto root = parse_json(text, where);
  if (!root) return root.failure();
  if (!root->is_object()) return fail(errc::malformed, where + ": an object is expected");
  return reader(*root, where).read();
}

}  // namespace isthmus
