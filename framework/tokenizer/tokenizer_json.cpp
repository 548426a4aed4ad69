#include "framework/tokenizer/byte_alphabet.hpp"
#include "framework/tokenizer/text_template.hpp"
#include "framework/tokenizer/tokenizer.hpp"
#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>

namespace isthmus {

namespace {

using nlohmann::json;

constexpr std::size_t file_bytes_max = 64 << 20;
constexpr std::size_t token_bytes_max = 4096;
constexpr std::size_t vocabulary_max = 1 << 22;
constexpr int depth_max = 16;

/// Also of a name that was cut inside a character.
std::string in_quotes(std::string_view text) { return json(text).dump(-1, ' ', false, json::error_handler_t::replace); }

/// "line:column" of a byte, both from 1.
std::string position(std::string_view text, std::size_t at) {
  const auto before = text.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return fmt::format("{}:{}", line, at - start + 1);
}

/// Looks for what nlohmann's tree would hide or choke on: names that stand twice in an object, deep nesting.
class strict_names : public nlohmann::json_sax<json> {
public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (names_.back().insert(name).second) return true;
    problem = fmt::format("the name {} stands twice in one object", in_quotes(name.substr(0, 80)));
    return false;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception& e) override {
    error_at = at > 0 ? at - 1 : 0;
    const std::string_view what = e.what();
    const std::size_t colon = what.find(": ");  // behind nlohmann's own idea of the position
    problem = fmt::format("not JSON: {}", colon == std::string_view::npos ? what : what.substr(colon + 2));
    return false;
  }
  std::string problem;
  std::optional<std::size_t> error_at;

private:
  bool open() {
    names_.emplace_back();
    if (names_.size() <= static_cast<std::size_t>(depth_max)) return true;
    problem = fmt::format("nested deeper than {} levels", depth_max);
    return false;
  }
  bool close() {
    names_.pop_back();
    return true;
  }
  std::vector<std::unordered_set<std::string>> names_;
};

class reader {
public:
  reader(const json& root, const std::string& where) : root_(root), where_(where) {}

  expected<bpe_model> read() {
    if (!root_.is_object()) return bad(errc::malformed, "", "an object is expected");
    for (auto check : {&reader::check_layout, &reader::read_vocabulary, &reader::read_added, &reader::check_ids, &reader::read_merges,
                       &reader::read_template})
      if (auto ok = (this->*check)(); !ok) return ok.failure();
    return std::move(model_);
  }

private:
  unexpected bad(errc code, const std::string& at, const std::string& what) const {
    return fail(code, fmt::format("{}: {}{}{}", where_, at, at.empty() ? "" : ": ", what));
  }

  /// nullptr when missing or null.
  static const json* find(const json& object, const char* name) {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }

  expected<void> expect(const json& object, const std::string& at, const char* name, const json& wanted, bool may_miss) const {
    const json* value = find(object, name);
    if (!value && may_miss) return {};
    if (value && *value == wanted) return {};
    return bad(errc::unsupported, at + "." + name,
               fmt::format("{} is not supported, only {}",
                           value ? value->dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80) : "null", wanted.dump()));
  }

  // What the ids depend on must be as we do it: refused, never skipped.
  expected<void> check_layout() {
    for (const char* part : {"normalizer", "truncation", "padding"})
      if (const json* p = find(root_, part)) return bad(errc::unsupported, part, "only null is supported, found " + type_of(*p));
    const json* model = find(root_, "model");
    if (!model || !model->is_object()) return bad(errc::malformed, "model", "an object is expected");
    if (auto ok = expect(*model, "model", "type", "BPE", true); !ok) return ok;
    for (const char* name : {"dropout", "unk_token"})
      if (const json* p = find(*model, name))
        return bad(errc::unsupported, std::string("model.") + name, "only null is supported, found " + p->dump().substr(0, 80));
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (auto ok = expect(*model, "model", name, "", true); !ok) return ok;
    if (auto ok = expect(*model, "model", "byte_fallback", false, true); !ok) return ok;
    const json* whole_words = find(*model, "ignore_merges");
    if (whole_words && !whole_words->is_boolean()) return bad(errc::malformed, "model.ignore_merges", "true or false is expected");
    model_.whole_words = whole_words && whole_words->get<bool>();
    if (auto ok = check_pre_tokenizer(); !ok) return ok;
    const json* decoder = find(root_, "decoder");
    if (!decoder || type_of(*decoder) != "ByteLevel")
      return bad(errc::unsupported, "decoder", "only ByteLevel is supported, found " + (decoder ? type_of(*decoder) : "null"));
    return {};
  }

  /// ByteLevel, which cuts as GPT-2 does; or a Sequence of a Split by Llama 3's pattern and a ByteLevel that does not cut.
  expected<void> check_pre_tokenizer() {
    const json* part = find(root_, "pre_tokenizer");
    std::string at = "pre_tokenizer";
    if (part && type_of(*part) == "Sequence") {
      const json* steps = find(*part, "pretokenizers");
      if (!steps || !steps->is_array() || steps->size() != 2 || type_of((*steps)[0]) != "Split")
        return bad(errc::unsupported, at, "of sequences only [Split, ByteLevel] is supported");
      const std::string split = at + ".pretokenizers[0]";
      if (auto ok = expect((*steps)[0], split, "pattern", {{"Regex", llama3_regex}}, false); !ok) return ok;
      if (auto ok = expect((*steps)[0], split, "behavior", "Isolated", false); !ok) return ok;
      if (auto ok = expect((*steps)[0], split, "invert", false, true); !ok) return ok;
      model_.pattern = pre_token_pattern::llama3;
      part = &(*steps)[1];
      at += ".pretokenizers[1]";
    }
    if (!part || type_of(*part) != "ByteLevel")
      return bad(errc::unsupported, at, "only ByteLevel is supported, found " + (part ? type_of(*part) : "null"));
    if (auto ok = expect(*part, at, "add_prefix_space", false, false); !ok) return ok;
    const bool cuts = model_.pattern == pre_token_pattern::gpt2;
    return expect(*part, at, "use_regex", cuts, cuts);
  }

  static std::string type_of(const json& part) {
    if (!part.is_object()) return part.type_name();
    const json* type = find(part, "type");
    return type && type->is_string() ? type->get<std::string>().substr(0, 80) : "an object without type";
  }

  expected<token_id> read_id(const json& value, const std::string& at) const {
    if (!value.is_number_integer()) return bad(errc::malformed, at, std::string("an id is expected, found ") + value.type_name());
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= vocabulary_max)
      return bad(errc::out_of_range, at, fmt::format("id {} is not in [0, {})", value.dump(), vocabulary_max));
    return static_cast<token_id>(value.get<std::uint64_t>());
  }

  /// Puts a token at its id; ids may come in any order.
  expected<void> place(token_id id, std::string token, const std::string& at) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= model_.tokens.size()) {
      model_.tokens.resize(index + 1);
      used_.resize(index + 1, false);
    }
    if (used_[index])
      return bad(errc::malformed, at, fmt::format("id {} is already that of {}", id, in_quotes(to_byte_alphabet(model_.tokens[index]))));
    used_[index] = true;
    model_.tokens[index] = std::move(token);
    return {};
  }

  expected<void> read_vocabulary() {
    const json* vocabulary = find(root_["model"], "vocab");
    if (!vocabulary || !vocabulary->is_object()) return bad(errc::malformed, "model.vocab", "an object of token: id is expected");
    if (vocabulary->size() > vocabulary_max)
      return bad(errc::too_large, "model.vocab", fmt::format("{} tokens, at most {} allowed", vocabulary->size(), vocabulary_max));
    const std::unordered_set<std::string> added = added_names();
    for (const auto& [name, value] : vocabulary->items()) {
      const std::string at = "model.vocab[" + in_quotes(name.substr(0, 80)) + "]";
      const auto id = read_id(value, at);
      if (!id) return id.failure();
      if (name.empty() || name.size() > token_bytes_max)
        return bad(errc::out_of_range, at, fmt::format("a token of {} bytes, 1 to {} allowed", name.size(), token_bytes_max));
      if (static_cast<std::size_t>(*id) >= vocabulary->size() + added.size())
        return bad(errc::out_of_range, at, fmt::format("id {} leaves a hole: there are {} tokens", *id, vocabulary->size() + added.size()));
      const bool special = added.count(name) > 0;
      auto token = special ? expected<std::string>(name) : from_byte_alphabet(name);
      if (!token) return bad(errc::malformed, at, token.error().message + " in the byte-level alphabet");
      if (auto ok = place(*id, std::move(*token), at); !ok) return ok;
      ids_.emplace(name, *id);
    }
    return {};
  }

  /// Tokens that stand for themselves, not in the byte alphabet.
  std::unordered_set<std::string> added_names() const {
    std::unordered_set<std::string> names;
    const json* added = find(root_, "added_tokens");
    if (added && added->is_array())
      for (const json& entry : *added)
        if (entry.is_object() && entry.contains("content") && entry["content"].is_string())
          names.insert(entry["content"].get<std::string>());
    return names;
  }

  expected<void> read_added() {
    const json* added = find(root_, "added_tokens");
    if (!added) return {};
    if (!added->is_array()) return bad(errc::malformed, "added_tokens", "an array is expected");
    for (std::size_t i = 0; i < added->size(); ++i)
      if (auto ok = read_added_token((*added)[i], fmt::format("added_tokens[{}]", i)); !ok) return ok;
    std::sort(model_.specials.begin(), model_.specials.end());
    return {};
  }

  expected<void> read_added_token(const json& entry, const std::string& at) {
    if (!entry.is_object() || !entry.contains("id") || !entry.contains("content"))
      return bad(errc::malformed, at, "an object with id and content is expected");
    const auto id = read_id(entry["id"], at + ".id");
    if (!id) return id.failure();
    if (!entry["content"].is_string()) return bad(errc::malformed, at + ".content", "a string is expected");
    const std::string content = entry["content"];
    if (content.empty() || content.size() > token_bytes_max)
      return bad(errc::out_of_range, at + ".content", fmt::format("a token of {} bytes, 1 to {} allowed", content.size(), token_bytes_max));
    for (const char* name : {"single_word", "lstrip", "rstrip"})
      if (auto ok = expect(entry, at, name, false, true); !ok) return ok;
    if (auto ok = expect(entry, at, "special", true, false); !ok) return ok;
    const auto known = ids_.find(content);
    if (known != ids_.end() && known->second != *id)
      return bad(errc::malformed, at + ".id",
                 fmt::format("{} has id {} here and {} in model.vocab", in_quotes(content), *id, known->second));
    if (known == ids_.end()) {
      if (static_cast<std::size_t>(*id) > model_.tokens.size())
        return bad(errc::out_of_range, at + ".id",
                   fmt::format("id {} is past the end of the vocabulary of {} tokens", *id, model_.tokens.size()));
      if (auto ok = place(*id, content, at + ".id"); !ok) return ok;
      ids_.emplace(content, *id);
    }
    if (std::find(model_.specials.begin(), model_.specials.end(), *id) != model_.specials.end())
      return bad(errc::malformed, at + ".id", fmt::format("id {} was added before", *id));
    model_.specials.push_back(*id);
    return {};
  }

  expected<void> check_ids() {
    for (std::size_t id = 0; id < used_.size(); ++id)
      if (!used_[id])
        return bad(errc::malformed, "model.vocab", fmt::format("no token has id {}, though ids go up to {}", id, used_.size() - 1));
    for (unsigned byte = 0; byte < 256; ++byte)
      if (const std::string token = to_byte_alphabet(std::string(1, static_cast<char>(byte))); !ids_.count(token))
        return bad(errc::malformed, "model.vocab",
                   fmt::format("no token {} for byte {}: not a byte-level vocabulary", in_quotes(token), byte));
    return {};
  }

  expected<void> read_merges() {
    const json* merges = find(root_["model"], "merges");
    if (!merges || !merges->is_array()) return bad(errc::malformed, "model.merges", "an array is expected");
    std::unordered_set<std::string> seen;
    for (std::size_t rank = 0; rank < merges->size(); ++rank) {
      const std::string at = fmt::format("model.merges[{}]", rank);
      std::string left, right;
      if (!split_merge((*merges)[rank], left, right)) return bad(errc::malformed, at, R"("left right" or ["left", "right"] is expected)");
      const auto l = ids_.find(left), r = ids_.find(right), result = ids_.find(left + right);
      for (const auto& [found, name] : {std::pair{l, left}, std::pair{r, right}, std::pair{result, left + right}})
        if (found == ids_.end()) return bad(errc::malformed, at, fmt::format("{} is not in model.vocab", in_quotes(name.substr(0, 80))));
      for (const auto& found : {l, r, result})
        if (std::binary_search(model_.specials.begin(), model_.specials.end(), found->second))
          return bad(errc::malformed, at, fmt::format("{} is a special token", in_quotes(found->first)));
      if (!seen.insert(left + " " + right).second)
        return bad(errc::malformed, at, fmt::format("{} {} was merged before", in_quotes(left), in_quotes(right)));
      model_.merges.push_back({l->second, r->second, result->second});
    }
    return {};
  }

  expected<void> read_template() {
    const json* post = find(root_, "post_processor");
    auto around = read_text_template(post ? *post : json(), static_cast<std::int64_t>(model_.tokens.size()), where_);
    if (!around) return around.failure();
    model_.around = std::move(*around);
    return {};
  }

  static bool split_merge(const json& entry, std::string& left, std::string& right) {
    if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      left = entry[0];
      right = entry[1];
    } else if (entry.is_string()) {
      const std::string text = entry;
      const std::size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return false;
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
    return !left.empty() && !right.empty();
  }

  const json& root_;
  const std::string& where_;
  bpe_model model_;
  std::vector<bool> used_;                         // ids
  std::unordered_map<std::string, token_id> ids_;  // by name as in the file
};

}  // namespace

expected<bpe_model> parse_tokenizer_json(std::string_view text, const std::string& where) {
  if (text.size() > file_bytes_max)
    return fail(errc::too_large, fmt::format("{}: {} bytes, at most {} allowed", where, text.size(), file_bytes_max));
  for (std::size_t at = 0; at < text.size();) {
    const auto c = decode_utf8(text, at);
    if (c.code == not_a_character || c.code == 0)
      return fail(errc::malformed, fmt::format("{}:{}: not UTF-8 text", where, position(text, at)));
    at += c.bytes;
  }
  strict_names strict;
  if (!json::sax_parse(text, &strict))
    return fail(errc::malformed, strict.error_at ? fmt::format("{}:{}: {}", where, position(text, *strict.error_at), strict.problem)
                                                 : fmt::format("{}: {}", where, strict.problem));
  const json root = json::parse(text, nullptr, false);
  return reader(root, where).read();
}

}  // namespace isthmus
