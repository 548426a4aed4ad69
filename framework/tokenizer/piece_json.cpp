#include "framework/tokenizer/piece_tokenizer.hpp"
#include "framework/tokenizer/text_template.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <tuple>

namespace isthmus {

namespace {

using nlohmann::json;

constexpr const char* blank = "\u2581";

bool is_added(piece_kind kind) { return kind == piece_kind::control || kind == piece_kind::unknown || kind == piece_kind::user_defined; }

/// Every way to join two pieces to a third, the best result first; of one result, by the ids of its parts.
json merges_of(const piece_model& model) {
  struct way {
    float score;
    std::size_t left, right;
  };
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < model.pieces.size(); ++id)
    if (!is_added(model.kinds[id]) && model.kinds[id] != piece_kind::byte) ids.emplace(model.pieces[id], id);
  std::vector<way> ways;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const std::string_view piece = model.pieces[id];
    if (!ids.contains(piece) || ids.at(piece) != id) continue;
    for (std::size_t cut = 1; cut < piece.size(); ++cut) {
      const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
      if (left != ids.end() && right != ids.end()) ways.push_back({model.scores[id], left->second, right->second});
    }
  }
  std::stable_sort(ways.begin(), ways.end(), [](const way& a, const way& b) {
    return std::tuple(-a.score, a.left, a.right) < std::tuple(-b.score, b.left, b.right);
  });
  json out = json::array();
  for (const way& w : ways) out.push_back({model.pieces[w.left], model.pieces[w.right]});
  return out;
}

json replace(const char* from, const char* to) { return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}}; }

}  // namespace

std::string to_tokenizer_json(const piece_model& model, bool space_prefix, const text_template& around) {
  json added = json::array(), vocabulary = json::object(), unknown;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const piece_kind kind = model.kinds[id];
    vocabulary[model.pieces[id]] = id;
    if (kind == piece_kind::unknown) unknown = model.pieces[id];
    if (is_added(kind))
      added.push_back({{"id", id},
                       {"content", model.pieces[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", kind != piece_kind::user_defined}});
  }
  json steps = json::array(), decoders{replace(blank, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (space_prefix) {
    steps.push_back({{"type", "Prepend"}, {"prepend", blank}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  steps.push_back(replace(" ", blank));
  const auto name = [&](token_id id) { return model.pieces[static_cast<std::size_t>(id)]; };
  const json out{{"version", "1.0"},
                 {"truncation", nullptr},
                 {"padding", nullptr},
                 {"added_tokens", std::move(added)},
                 {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(steps)}}},
                 {"pre_tokenizer", nullptr},
                 {"post_processor", around == text_template{} ? json(nullptr) : to_template_processing(around, name)},
                 {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
                 {"model",
                  {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", unknown},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", true},
                   {"byte_fallback", true},
                   {"ignore_merges", false},
                   {"vocab", std::move(vocabulary)},
                   {"merges", merges_of(model)}}}};
  return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace isthmus
