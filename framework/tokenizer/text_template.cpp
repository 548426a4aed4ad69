#include "framework/tokenizer/text_template.hpp"

#include "framework/core/json.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isthmus {

namespace {

using nlohmann::json;

constexpr std::size_t pieces_max = 16'384;

class reader {
public:
  reader(std::int64_t vocabulary, const std::string& where) : vocabulary_(vocabulary), where_(where) {}

  expected<text_template> read(const json& post) {
    const std::string at = "post_processor";
    if (post.is_null()) return out_;
    const bool several = value_at(post, "type") == "Sequence";
    const json steps = several ? value_at(post, "processors") : json::array({post});
    if (!steps.is_array()) return bad(errc::malformed, at + ".processors", "an array is expected");
    for (std::size_t i = 0; i < steps.size(); ++i)
      if (auto ok = read_step(steps[i], several ? fmt::format("{}.processors[{}]", at, i) : at); !ok) return ok.failure();
    return out_;
  }

private:
  unexpected bad(errc code, const std::string& at, const std::string& what) const {
    return fail(code, fmt::format("{}: {}: {}", where_, at, what));
  }

  expected<void> read_step(const json& step, const std::string& at) {
    const json& type = value_at(step, "type");
    if (type == "ByteLevel") return {};
    if (type != "TemplateProcessing")
      return bad(errc::unsupported, at,
                 fmt::format("only null, ByteLevel, TemplateProcessing and a Sequence of these are supported, found {}",
                             excerpt(type.is_null() ? step : type)));
    if (has_template_) return bad(errc::unsupported, at, "a second TemplateProcessing is not supported");
    has_template_ = true;
    const json& single = value_at(step, "single");
    if (!single.is_array()) return bad(errc::malformed, at + ".single", "an array is expected");
    if (single.size() > pieces_max)
      return bad(errc::too_large, at + ".single", fmt::format("{} pieces, at most {} are read", single.size(), pieces_max));
    bool behind = false;
    for (const json& piece : single) {
      if (const json& special = value_at(piece, "SpecialToken"); !special.is_null()) {
        if (auto ok = read_special(value_at(special, "id"), value_at(step, "special_tokens"), behind ? out_.after : out_.before, at); !ok)
          return ok;
        continue;
      }
      if (behind || value_at(value_at(piece, "Sequence"), "id") != "A")
        return bad(errc::unsupported, at + ".single", fmt::format("{} is not supported, only one sequence A", excerpt(piece)));
      behind = true;
    }
    if (!behind) return bad(errc::unsupported, at + ".single", "holds no sequence A");
    return {};
  }

  /// A name may stand for several ids.
  expected<void> read_special(const json& name, const json& named, std::vector<token_id>& out, const std::string& at) const {
    const std::string path = at + ".special_tokens";
    const json& ids = name.is_string() ? value_at(value_at(named, name.get_ref<const std::string&>()), "ids") : json();
    if (!ids.is_array() || ids.empty()) return bad(errc::malformed, path, fmt::format("no ids for {}", excerpt(name)));
    for (const json& id : ids) {
      if (!id.is_number()) return bad(errc::malformed, path, fmt::format("is {}, expected an id", excerpt(id)));
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocabulary_))
        return bad(errc::out_of_range, path, fmt::format("id {} of {} tokens", excerpt(id), vocabulary_));
      out.push_back(static_cast<token_id>(id.get<std::uint64_t>()));
      if (out.size() > pieces_max) return bad(errc::too_large, path, fmt::format("more than {} ids around a text", pieces_max));
    }
    return {};
  }

  std::int64_t vocabulary_;
  const std::string& where_;
  text_template out_;
  bool has_template_ = false;
};

}  // namespace

expected<text_template> read_text_template(const json& post_processor, std::int64_t vocabulary, const std::string& where) {
  return reader(vocabulary, where).read(post_processor);
}

json to_template_processing(const text_template& around, const std::function<std::string(token_id)>& name) {
  json single = json::array(), pair = json::array(), named = json::object();
  const auto add = [&](const std::vector<token_id>& ids, json& out, int type) {
    for (const token_id id : ids) {
      const std::string shown = name(id);
      out.push_back({{"SpecialToken", {{"id", shown}, {"type_id", type}}}});
      named[shown] = {{"id", shown}, {"ids", {id}}, {"tokens", {shown}}};
    }
  };
  const auto add_text = [&](const char* sequence, json& out, int type) {
    add(around.before, out, type);
    out.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
    add(around.after, out, type);
  };
  add_text("A", single, 0);
  add_text("A", pair, 0);
  add_text("B", pair, 1);
  return {{"type", "TemplateProcessing"}, {"single", std::move(single)}, {"pair", std::move(pair)}, {"special_tokens", std::move(named)}};
}

}  // namespace isthmus
