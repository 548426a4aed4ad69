#include "framework/recipe/schema.hpp"

#include "framework/layers/catalog.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {

/// One "key = value" line a field.
class line_writer final : public field_visitor {
public:
  std::string out;

  void integer(const char* key, std::int64_t& value, std::int64_t, std::int64_t, const char*) override { line(key, std::to_string(value)); }
  void real(const char* key, double& value, double, double, const char*) override { line(key, toml_text(value)); }
  void real(const char* key, float& value, double, double, const char*) override { line(key, toml_text(value)); }
  void flag(const char* key, bool& value, const char*) override { line(key, toml_text(value)); }
  void text(const char* key, std::string& value, text_rule rule, const char*) override {
    if (rule == text_rule::ports && value.empty()) return;  // recipes from before there was such a key keep their hash
    line(key, toml_text(value));
  }
  void texts(const char* key, std::vector<std::string>& value, text_rule, std::size_t, const char*) override {
    line(key, toml_text(value));
  }
  void choice(const char* key, std::string& value, std::initializer_list<const char*>, const char*) override {
    line(key, toml_text(value));
  }
  void word(const char* key, std::size_t& place, std::initializer_list<const char*> words, const char*) override {
    line(key, toml_text(std::string(words.begin()[place])));
  }
  void layers(model_config& m) override { line("layers", toml_text(m.layers)); }
  /// Options of the first kinds always, in the order they always had; the others where they are not at their default.
  void layer_options(model_config& m) override {
    constexpr std::string_view first[] = {"n_heads",      "n_kv_heads", "head_dim",   "rope_theta", "ffn_hidden", "ssm_inner",
                                          "ssm_head_dim", "ssm_state",  "ssm_groups", "conv_width", "ssm_chunk"};
    for (const auto key : first) line(key, option_text(*m.catalog->find_option(key), m.option(key)));
    for (const auto* field : m.catalog->options())
      if (std::ranges::find(first, field->key) == std::end(first) && m.option(field->key) != field->initial)
        line(field->key, option_text(*field, m.option(field->key)));
    if (m.channel != model_config{}.channel) line("channel_mixer", toml_text(m.channel));
  }

private:
  void line(std::string_view key, const std::string& value) { out += fmt::format("{} = {}\n", key, value); }
};

/// A section's lines, but for those keys that came later than the first recipes and stand at their default: recipes from before there
/// was such a key keep their text, and with it their hash.
template <class Section>
std::string lines_of(Section section, std::initializer_list<const char*> later = {}) {
  line_writer lines, defaults;
  visit_fields(section, lines);
  Section fresh{};
  visit_fields(fresh, defaults);
  std::string kept;
  for (std::size_t at = 0; at < lines.out.size();) {
    const auto end = lines.out.find('\n', at) + 1;
    const std::string line = lines.out.substr(at, end - at);
    const bool is_later =
        std::any_of(later.begin(), later.end(), [&](std::string_view key) { return line.starts_with(fmt::format("{} =", key)); });
    if (!is_later || defaults.out.find(line) == std::string::npos) kept += line;
    at = end;
  }
  return kept;
}

/// One row a field.
class help_writer final : public field_visitor {
public:
  std::vector<recipe_key> out;
  std::string section;

  void integer(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max, const char* help) override {
    row(key, std::to_string(value), fmt::format("{} to {}", min, max), help);
  }
  void real(const char* key, double& value, double min, double max, const char* help) override {
    row(key, toml_text(value), fmt::format("{} to {}", min, max), help);
  }
  void real(const char* key, float& value, double min, double max, const char* help) override {
    row(key, toml_text(value), fmt::format("{} to {}", min, max), help);
  }
  void flag(const char* key, bool& value, const char* help) override { row(key, toml_text(value), "true, false", help); }
  void text(const char* key, std::string& value, text_rule rule, const char* help) override {
    row(key, value.empty() ? "-" : toml_text(value),
        rule == text_rule::address ? "address:port"
        : rule == text_rule::path  ? "path"
        : rule == text_rule::ports ? "port-port"
                                   : "name",
        help);
  }
  void texts(const char* key, std::vector<std::string>&, text_rule, std::size_t most, const char* help) override {
    row(key, "[]", fmt::format("up to {} of \"http://address:port\"", most), help);
  }
  void choice(const char* key, std::string& value, std::initializer_list<const char*> allowed, const char* help) override {
    row(key, toml_text(value), fmt::format("{}", fmt::join(allowed, ", ")), help);
  }
  void word(const char* key, std::size_t& place, std::initializer_list<const char*> words, const char* help) override {
    row(key, toml_text(std::string(words.begin()[place])), fmt::format("{}", fmt::join(words, ", ")), help);
  }
  void layers(model_config& m) override {
    std::vector<std::string_view> mixers, channels;
    for (const auto* kind : m.catalog->kinds()) (kind->mixes_sequence ? mixers : channels).push_back(kind->name);
    row("layers", "-", fmt::format("{}, none", fmt::join(mixers, ", ")), "one entry a layer: \"mixer\" or \"mixer/channel mixer\"");
    row("pattern", "-", "as layers", "a shorter list, repeated over n_layers");
    row("n_layers", "-", fmt::format("1 to {}", layers_max), "with pattern");
    row("channel_mixer", toml_text(m.channel), fmt::format("{}, none", fmt::join(channels, ", ")), "of layers that name none");
    row("variants", "-", fmt::format("up to {} tables", variants_max),
        "[[model.variants]]: name, kind, and options of that kind of its own");
  }
  void layer_options(model_config& m) override {
    for (const auto* field : m.catalog->options()) row(field->key, option_text(*field, field->initial), allowed_text(*field), field->help);
  }

private:
  void row(std::string_view key, const std::string& value, const std::string& range, std::string_view help) {
    out.push_back({fmt::format("{}.{}", section, key), value, range, std::string(help)});
  }
};

}  // namespace

std::string write_recipe(const recipe& r) {
  auto copy = r;  // visitors take their fields by reference
  std::string out;
  for_each_section(copy, [&](std::string_view name, const auto& section) {
    if (name == "scenario" && r.scenario == recipe::scenario_section{}) return;  // these came later
    if (name == "guard" && r.guard == recipe::guard_section{}) return;
    if (name == "coordinator" && r.coordinator == recipe::coordinator_section{}) return;
    out += fmt::format("[{}]\n{}\n", name,
                       lines_of(section, {"activation_mib", "aggregate", "audit_cosine", "audit_rate", "bulk", "documents", "medusa_heads",
                                          "norm", "tied_head", "z_loss"}));
  });
  for (const auto& variant : r.model.variants) {
    out += fmt::format("[[model.variants]]\nname = {}\nkind = {}\n", toml_text(variant.name), toml_text(variant.kind));
    for (const auto& [key, value] : variant.options)
      out += fmt::format("{} = {}\n", key, option_text(*r.model.catalog->find_option(key), value));
    out += "\n";
  }
  for (const auto& site : r.sites)
    out += fmt::format("[[sites]]\n{}\n", lines_of(site, {"tokens_per_second", "shared_text", "nat", "spare"}));
  for (const auto& fault : r.faults)
    out += fmt::format("[[faults]]\n{}\n",
                       lines_of(fault, {"at_seconds", "every_seconds", "again_after_seconds", "chance", "peer", "amount"}));
  return out;
}

hash128 recipe_hash(const recipe& r) {
  const auto text = write_recipe(r);
  return hash_bytes(std::as_bytes(std::span(text)));
}

std::string show_problems(const std::vector<recipe_problem>& problems) {
  std::string out;
  for (const auto& p : problems) {
    out += fmt::format("{}[{}]: {}\n  --> {}\n", p.warning ? "warning" : "error", p.code, p.message, p.place);
    if (!p.allowed.empty()) out += fmt::format("  allowed: {}\n", p.allowed);
    if (!p.help.empty()) out += fmt::format("  help: {}\n", p.help);
  }
  return out;
}

std::vector<recipe_key> recipe_schema(std::string_view section) {
  recipe r;
  help_writer writer;
  const auto wanted = [&](std::string_view name) {
    writer.section = name;
    return section.empty() || section == name;
  };
  for_each_section(r, [&](const char* name, auto& fields) {
    if (wanted(name)) visit_fields(fields, writer);
  });
  recipe::site site;
  recipe::fault fault;
  if (wanted("sites")) visit_fields(site, writer);
  if (wanted("faults")) visit_fields(fault, writer);
  return writer.out;
}

}  // namespace isthmus
