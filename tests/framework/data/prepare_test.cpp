#include "framework/data/prepare.hpp"

#include "framework/core/rng.hpp"
#include "tests/framework/data/scratch.hpp"

#include <boost/test/unit_test.hpp>

#include <set>

using namespace isthmus;

namespace {

struct small_site : scratch {
  data_options options;
  small_site() {
    options.sources = {"perl", "vim"};
    options.sites = 2;
    options.vocabulary = 300;
    options.held_out_tokens_min = 2000;
    write_sources("the method returns a scalar value in list context ", "press escape to leave insert mode and buffer ");
  }
  void write_sources(const std::string& perl, const std::string& vim) {
    for (int i = 0; i < 40; ++i) {
      put("usr/share/perl/5.36.0/pod/" + std::to_string(i) + ".pod", prose(perl, i));
      put("usr/share/vim/vim90/doc/" + std::to_string(i) + ".txt", prose(vim, 100 + i));
    }
  }
  static std::string prose(const std::string& words, int seed) {
    rng random(static_cast<std::uint64_t>(seed), 0, 0, draw::token);
    std::string text;
    while (text.size() < 2000) text += words.substr(random.below(words.size() / 2)) + "\n";
    return text;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(prepare_test, small_site)

BOOST_AUTO_TEST_CASE(each_site_gets_its_own_shard_and_all_one_tokenizer) {
  const auto sites = prepare_data(*disk, *disk, "out", options);
  BOOST_REQUIRE_MESSAGE(sites.has_value(), (sites ? "" : sites.error().message));
  BOOST_REQUIRE(sites->size() == 2U);
  const auto tokens = read_tokenizer(*disk, "out/tokenizer.json");
  BOOST_REQUIRE(tokens.has_value());
  for (std::uint32_t s = 0; s < 2; ++s) {
    const site_data& site = (*sites)[s];
    BOOST_TEST(site.name == options.sources[s]);
    BOOST_TEST(!site.reused);
    BOOST_TEST(site.held_out_tokens >= 2000U);
    BOOST_TEST(site.train_tokens > site.held_out_tokens);
    BOOST_TEST(site.unigram_entropy > 1.0);
    const auto shard = read_shard(*disk, site.shard_path, {site.name, 300, tokens->hash(), {}});
    BOOST_REQUIRE(shard.has_value());
    // The documents come back, each on one side only, each closed by <|endoftext|>.
    auto documents = *site_documents(*disk, options, s);
    std::size_t found = 0;
    for (const token_section* section : {&shard->train, &shard->held_out}) {
      std::uint64_t begin = 0;
      for (const std::uint64_t end : section->document_ends) {
        std::vector<token_id> ids(end - begin);
        section->copy(begin, ids);
        BOOST_TEST(ids.back() == *tokens->end_of_text());
        const std::string text = tokens->decode(ids);
        found += std::erase_if(documents, [&](const document& d) { return d.text == text; });
        begin = end;
      }
    }
    BOOST_TEST(documents.empty());
    BOOST_TEST(found == site.documents);
  }
}

BOOST_AUTO_TEST_CASE(sites_that_share_out_a_text_hold_out_what_one_site_would) {
  options.alike = true;
  options.held_out_share = 0.08;
  options.held_out_tokens_min = 100;
  const auto held_out_texts = [&](std::uint32_t sites) {
    options.sites = sites;
    const auto made = prepare_data(*disk, *disk, "out-" + std::to_string(sites), options);
    BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? "" : made.error().message));
    std::set<std::string> texts;
    for (const site_data& site : *made) {
      const auto tokens = read_tokenizer(*disk, site.tokenizer_path);
      const auto shard = read_shard(*disk, site.shard_path);
      BOOST_REQUIRE(tokens.has_value());
      BOOST_REQUIRE(shard.has_value());
      std::uint64_t begin = 0;
      for (const std::uint64_t end : shard->held_out.document_ends) {
        std::vector<token_id> ids(end - begin);
        shard->held_out.copy(begin, ids);
        texts.insert(tokens->decode(ids));
        begin = end;
      }
    }
    return texts;
  };
  const auto whole = held_out_texts(1);
  BOOST_TEST(whole.size() >= 3U);
  BOOST_TEST((held_out_texts(3) == whole));
}

BOOST_AUTO_TEST_CASE(asked_twice_the_shards_are_reused_and_a_change_makes_them_anew) {
  const auto reused = [&] {
    const auto sites = prepare_data(*disk, *disk, "out", options);
    BOOST_REQUIRE(sites.has_value());
    return std::pair{(*sites)[0].reused, (*sites)[1].reused};
  };
  BOOST_TEST((reused() == std::pair{false, false}));
  BOOST_TEST((reused() == std::pair{true, true}));
  options.seed = 1;
  BOOST_TEST((reused() == std::pair{false, false}));
  put("out/vim.shard", "damaged");
  BOOST_TEST((reused() == std::pair{true, false}));
  write_sources("quite another text about the shell ", "press escape to leave insert mode and buffer ");
  BOOST_TEST((reused() == std::pair{false, false}));
}

BOOST_AUTO_TEST_CASE(the_same_text_gives_the_same_bytes) {
  BOOST_REQUIRE(prepare_data(*disk, *disk, "a", options).has_value());
  BOOST_REQUIRE(prepare_data(*disk, *disk, "b", options).has_value());
  for (const char* file : {"/tokenizer.json", "/perl.shard", "/vim.shard"})
    BOOST_TEST((*disk->read(std::string("a") + file, 1 << 24) == *disk->read(std::string("b") + file, 1 << 24)));
}

BOOST_AUTO_TEST_CASE(rare_strings_stay_at_their_site) {
  put("usr/share/perl/5.36.0/pod/private.pod", prose("the method returns ", 7) + " Rumpelstiltskin");
  const auto counts = shareable_counts(*site_documents(*disk, options, 0), options);
  BOOST_TEST(counts.distinct() > 5U);
  for (const auto& e : counts.sorted()) BOOST_TEST(e.count >= options.count_minimum);
  BOOST_TEST(counts.count(" Rumpelstiltskin") == 0U);
}

BOOST_AUTO_TEST_CASE(shards_drawn_alike_hold_the_same_domains) {
  options.alike = true;
  options.sites = 3;
  const auto sites = prepare_data(*disk, *disk, "out", options);
  BOOST_REQUIRE_MESSAGE(sites.has_value(), (sites ? "" : sites.error().message));
  std::uint64_t documents = 0;
  for (const auto& site : *sites) {
    documents += site.documents;
    BOOST_TEST(site.text_bytes > 50'000U);
  }
  BOOST_TEST(documents == 80U);
  for (std::uint32_t s = 0; s < 3; ++s) {
    const auto mine = *site_documents(*disk, options, s);
    const auto perl = std::count_if(mine.begin(), mine.end(), [](const document& d) { return d.name.starts_with("perl/"); });
    BOOST_TEST(perl >= 13);
    BOOST_TEST(perl <= 14);
  }
}

BOOST_AUTO_TEST_CASE(options_that_cannot_be_met) {
  const auto message = [&](auto change) {
    data_options bad = options;
    change(bad);
    const auto sites = prepare_data(*disk, *disk, "out", bad);
    return sites ? "accepted" : sites.error().message;
  };
  BOOST_TEST(message([](auto& o) { o.sites = 3; }) == "data: 2 sources for 3 sites: one each, or draw the shards alike");
  BOOST_TEST(message([](auto& o) { o.sources = {"vim", "vim"}; }).find("'vim' is named twice") != std::string::npos);
  BOOST_TEST(message([](auto& o) { o.sources = {"vim", "latin"}; }).find("no source 'latin'") != std::string::npos);
  BOOST_TEST(message([](auto& o) { o.sites = 0; }) == "data: no sites or no sources");
  BOOST_TEST(message([](auto& o) { o.held_out_share = -1; }).find("a held-out share of -1") != std::string::npos);
  BOOST_TEST(message([](auto& o) { o.held_out_tokens_min = 1'000'000; }).find("too few to hold out") != std::string::npos);
  BOOST_TEST(message([](auto& o) { o.vocabulary = 60'000; }).find("60000 wanted") != std::string::npos);
  BOOST_TEST(message([](auto& o) { o.vocabulary = 7; }).find("too small") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
