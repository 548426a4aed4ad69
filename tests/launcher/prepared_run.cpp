#include "tests/launcher/prepared_run.hpp"

#include "framework/checkpoint/checkpoint.hpp"
#include "framework/data/prepare.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/transport/identity.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace isthmus::tests {

namespace {

constexpr int vocabulary = 300;

token_section section_of(std::size_t tokens) {
  token_section out;
  std::vector<std::uint16_t> ids(tokens);
  for (std::size_t i = 0; i < tokens; ++i) ids[i] = static_cast<std::uint16_t>(i * 7 % vocabulary);
  out.tokens = std::move(ids);
  if (tokens > 0) out.document_ends = {tokens};
  return out;
}

}  // namespace

int hold_launcher_lock(const std::string& run) {
  const int fd = ::open((run + "/launcher.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  struct flock whole {};
  whole.l_type = F_WRLCK;
  BOOST_TEST_REQUIRE(::fcntl(fd, F_OFD_SETLK, &whole) == 0);
  return fd;
}

tokenizer letter_tokenizer(char merged) {
  bpe_model model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  for (token_id next = 256; next < vocabulary - 1; ++next) {
    const char other = static_cast<char>('b' + next % 256);
    model.tokens.push_back({merged, other});
    model.merges.push_back({merged, static_cast<unsigned char>(other), next});
  }
  model.tokens.emplace_back("<|endoftext|>");
  model.specials = {vocabulary - 1};
  return tokenizer(std::move(model));
}

void prepared_runs::put_shard(const std::string& run, char merged, std::size_t held_out_tokens) {
  auto disk = open_disk(run);
  token_shard shard{"perl", vocabulary, letter_tokenizer(merged).hash(), {1, 2}, section_of(3000), section_of(held_out_tokens)};
  BOOST_TEST_REQUIRE(write_shard(**disk, "data/perl.shard", shard).has_value());
}

std::string prepared_runs::add(const std::string& name, char merged, std::size_t held_out_tokens, const std::vector<std::string>& more) {
  const std::string run = (scratch.path / name).string();
  std::filesystem::create_directories(run + "/data");
  const auto recipe_file = run + "/recipe.resolved.toml";
  std::vector<std::string> show{"show", "single", "data.vocabulary=" + std::to_string(vocabulary), "train.context=32",
                                "train.tokens_per_step=64"};
  show.insert(show.end(), more.begin(), more.end());
  std::ofstream(recipe_file) << run_isthmus(show).out;
  const auto plan = load_recipe(recipe_file);
  BOOST_TEST_REQUIRE(plan.has_value());
  auto disk = open_disk(run);
  BOOST_TEST_REQUIRE(write_tokenizer(**disk, "data/tokenizer.json", letter_tokenizer(merged)).has_value());
  put_shard(run, merged, held_out_tokens);
  const auto new_key = [&](const std::string& process) {
    BOOST_TEST_REQUIRE((*disk)->make_folders("sites/" + process).has_value());
    const auto made = identity::generate();
    BOOST_TEST_REQUIRE(made.write(run + "/sites/" + process + "/key").has_value());
    return to_hex(made.key());
  };
  const nlohmann::json site{{"id", 0},
                            {"name", "alone"},
                            {"address", "127.0.0.1:0"},
                            {"shard", "data/perl.shard"},
                            {"domain", "manuals"},
                            {"unigram_entropy", 5.0},
                            {"content", hash128{1, 2}.hex()},
                            {"key", new_key("site-0")}};
  const nlohmann::json roster{{"schema", 1},
                              {"run_id", name},
                              {"recipe_hash", recipe_hash(*plan).hex()},
                              {"coordinator", {{"address", "127.0.0.1:0"}, {"key", new_key("coordinator")}}},
                              {"sites", nlohmann::json::array({site})}};
  std::ofstream(run + "/roster.json") << roster.dump();
  return run;
}

std::string prepared_runs::add_checkpoint(const std::string& run, site_id site, round_number round) {
  const auto plan = load_recipe(run + "/recipe.resolved.toml");
  const auto layout = hybrid_layout(plan->model);
  std::vector<float> weights(static_cast<std::size_t>(layout.size));
  initial_weights(plan->model, 1, weights);
  checkpoint_facts facts;
  facts.run_id = std::filesystem::path(run).filename();
  facts.recipe_hash = recipe_hash(*plan);
  facts.site = site;
  facts.groups = {{0, round, 0, {}, {}}};
  auto disk = open_disk(run);
  const auto folder = "checkpoints/site-" + std::to_string(site);
  const auto saved = checkpoint_store(**disk, folder).save(facts, {{"model", views_of(layout, weights)}});
  BOOST_TEST_REQUIRE(saved.has_value());
  return saved->folder;
}

outcome prepared_runs::run_process(const std::string& run, const std::string& verb) const {
  const auto log = run + "/" + verb + ".log";
  std::vector<std::string> arguments{verb, "--run", run, "--log", log, "--launcher", std::to_string(::getpid())};
  if (verb == "site") arguments.insert(arguments.end(), {"--site", "0"});
  auto o = go(arguments);
  std::stringstream said;
  said << std::ifstream(log).rdbuf();
  o.err = said.str();
  return o;
}

}  // namespace isthmus::tests
