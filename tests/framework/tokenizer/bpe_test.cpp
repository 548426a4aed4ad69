#include "framework/core/rng.hpp"
#include "framework/tokenizer/bpe_trainer.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <limits>
#include <sstream>

using namespace isthmus;

namespace {

std::string slurp(const std::string& name) {
  std::ifstream file("tests/golden/tokenizer/" + name, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  BOOST_REQUIRE_MESSAGE(file, "tests/golden/tokenizer/" + name + " cannot be read");
  return text.str();
}

tokenizer golden() { return tokenizer(*parse_tokenizer_json(slurp("tokenizer.json"), "tokenizer.json")); }

std::vector<token_id> encode(const tokenizer& tokens, std::string_view text, specials mode = specials::as_text) {
  std::vector<token_id> ids;
  encoder(tokens).encode(text, ids, mode);
  return ids;
}

/// The definition, quadratic: merge the best ranked pair of one pre-token, the leftmost of equals, until none is left.
std::vector<token_id> encode_slowly(const tokenizer& tokens, std::string_view piece) {
  std::vector<token_id> ids;
  for (const char c : piece)
    for (token_id id = 0; id < tokens.vocabulary(); ++id)
      if (tokens.bytes(id) == std::string_view(&c, 1)) ids.push_back(id);
  for (;;) {
    std::size_t best = std::numeric_limits<std::size_t>::max(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i)
      for (std::size_t rank = 0; rank < best && rank < tokens.model().merges.size(); ++rank)
        if (tokens.model().merges[rank].left == ids[i] && tokens.model().merges[rank].right == ids[i + 1]) {
          best = rank;
          at = i;
        }
    if (best == std::numeric_limits<std::size_t>::max()) return ids;
    ids[at] = tokens.model().merges[best].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(bpe_test)

BOOST_AUTO_TEST_CASE(ids_equal_those_of_the_tokenizers_package) {
  const tokenizer tokens = golden();
  const std::string text = slurp("text.txt");
  std::istringstream numbers(slurp("ids.txt"));
  const std::vector<token_id> wanted{std::istream_iterator<token_id>(numbers), {}};
  const auto ids = encode(tokens, text);
  BOOST_TEST(ids.size() == wanted.size());
  BOOST_TEST((ids == wanted));
  BOOST_TEST((tokens.decode(ids) == text));
}

// Llama 3's pattern, and words that the merges do not reach.
BOOST_AUTO_TEST_CASE(ids_by_llama3s_rules_equal_those_of_the_tokenizers_package) {
  const auto model = parse_tokenizer_json(slurp("llama3.json"), "llama3.json");
  BOOST_REQUIRE_MESSAGE(model.has_value(), (model ? "" : model.error().message));
  BOOST_TEST((model->pattern == pre_token_pattern::llama3 && model->whole_words));
  const tokenizer tokens(*model);
  const std::string text = slurp("llama3.txt");
  std::istringstream numbers(slurp("llama3_ids.txt"));
  const std::vector<token_id> wanted{std::istream_iterator<token_id>(numbers), {}};
  const auto ids = encode(tokens, text);
  BOOST_TEST(ids.size() == wanted.size());
  BOOST_TEST((ids == wanted));
  BOOST_TEST((tokens.decode(ids) == text));
  // Both rules are needed for that, and both are part of what the ids mean.
  bpe_model merged = *model, cut = *model;
  merged.whole_words = false;
  cut.pattern = pre_token_pattern::gpt2;
  for (const bpe_model& other : {merged, cut}) {
    BOOST_TEST((encode(tokenizer(other), text) != wanted));
    BOOST_TEST((tokenizer(other).hash() != tokens.hash()));
  }
  BOOST_TEST((*parse_tokenizer_json(to_tokenizer_json(*model), "again") == *model));
}

BOOST_AUTO_TEST_CASE(special_tokens_equal_those_of_the_tokenizers_package) {
  const auto wanted = nlohmann::json::parse(slurp("special.json"));
  const tokenizer tokens = golden();
  const std::string text = wanted["text"];
  BOOST_TEST((encode(tokens, text, specials::as_tokens) == wanted["ids"].get<std::vector<token_id>>()));
  const auto as_text = encode(tokens, text);
  BOOST_TEST((std::find(as_text.begin(), as_text.end(), *tokens.end_of_text()) == as_text.end()));
  BOOST_TEST(tokens.decode(as_text) == text);
  const auto as_tokens = encode(tokens, text, specials::as_tokens);
  BOOST_TEST(tokens.decode(as_tokens) == "ab  <|endoftext|");
  BOOST_TEST(tokens.decode(as_tokens, true) == text);
}

BOOST_AUTO_TEST_CASE(training_equals_that_of_the_tokenizers_package) {
  pre_token_counts counts;
  counts.add(slurp("text.txt"));
  bpe_options options;
  options.vocabulary = 480;
  const auto model = train_bpe(counts, options);
  BOOST_REQUIRE(model.has_value());
  const auto wanted = parse_tokenizer_json(slurp("trained_on_text.json"), "trained_on_text.json");
  BOOST_REQUIRE(wanted.has_value());
  BOOST_TEST((model->tokens == wanted->tokens));
  BOOST_TEST((model->merges == wanted->merges));
  BOOST_TEST((*model == *wanted));
}

BOOST_AUTO_TEST_CASE(where_the_text_lies_does_not_matter_to_training) {
  const std::string text = slurp("text.txt");
  pre_token_counts whole, parts;
  whole.add(text.substr(0, 3000));
  whole.add(text.substr(3000));
  for (const auto& [from, size] : {std::pair{3000, 100000}, std::pair{0, 3000}}) {
    pre_token_counts site;
    site.add(text.substr(static_cast<std::size_t>(from), static_cast<std::size_t>(size)));
    parts.merge(*pre_token_counts::parse(site.serialize(), "site"));
  }
  bpe_options options;
  options.vocabulary = 400;
  BOOST_TEST((*train_bpe(whole, options) == *train_bpe(parts, options)));
}

BOOST_AUTO_TEST_CASE(a_vocabulary_that_cannot_be_filled_is_an_error) {
  pre_token_counts counts;
  counts.add("aaaa");
  bpe_options options;
  options.vocabulary = 100;
  BOOST_TEST(train_bpe(counts, options).error().message.find("too small") != std::string::npos);
  options.vocabulary = 1000;
  BOOST_TEST(train_bpe(counts, options).error().message.find("1000 wanted") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(short_and_long_merging_follow_the_definition) {
  const tokenizer tokens = golden();
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    rng random(seed, 0, 0, draw::token);
    std::string piece;  // letters only: one pre-token
    while (piece.size() < 1 + seed * 3) piece += std::array<const char*, 6>{"the", "tr", "ee", "ab", "a", "naive"}[random.below(6)];
    BOOST_TEST_INFO("seed " << seed << " " << piece);
    BOOST_TEST((encode(tokens, piece) == encode_slowly(tokens, piece)));
  }
}

BOOST_AUTO_TEST_CASE(a_warm_cache_changes_nothing_and_bytes_come_back) {
  const tokenizer tokens = golden();
  encoder warm(tokens);
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    rng random(seed, 0, 0, draw::fault);
    std::string text;
    for (std::uint64_t i = random.below(200); i > 0; --i)
      text.push_back(static_cast<char>(random.below(3) > 0 ? 'a' + random.below(6) : random.below(256)));
    std::vector<token_id> ids;
    warm.encode(text, ids);
    BOOST_TEST_INFO("seed " << seed);
    BOOST_TEST((ids == encode(tokens, text)));
    BOOST_TEST((tokens.decode(ids) == text));
  }
}

BOOST_AUTO_TEST_CASE(more_pre_tokens_than_the_cache_holds) {
  const tokenizer tokens = golden();
  encoder encode_with(tokens);
  std::string text;
  for (int i = 0; i < 80'000; ++i) text += " " + std::to_string(i) + std::string(i % 20, 'q') + "\n";
  std::vector<token_id> ids;
  encode_with.encode(text, ids);
  BOOST_TEST((tokens.decode(ids) == text));
}

BOOST_AUTO_TEST_CASE(no_text_stalls_the_encoder) {
  const tokenizer tokens = golden();
  for (const char* unit : {"x", "the", " ", "=", "ab"}) {
    std::string text;
    while (text.size() < 512 * 1024) text += unit;
    const auto ids = encode(tokens, text);
    BOOST_TEST((tokens.decode(ids) == text));
  }
}

BOOST_AUTO_TEST_SUITE_END()
