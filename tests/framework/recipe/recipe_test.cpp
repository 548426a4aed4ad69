#include "framework/models/layer_pairs.hpp"
#include "framework/recipe/recipe.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <filesystem>

using namespace isthmus;

namespace {

const std::string small = R"([run]
tokens = 100_000
[model]
layers = ["attention", "mamba2"]
[train]
context = 128
tokens_per_step = 512
warm_up_tokens = 1000
[[sites]]
name = "alpha"
source = "perl"
[[sites]]
name = "beta"
source = "vim"
threads_per_device = 2
)";

recipe must_read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  auto reading = read_recipe(text, "test.toml", overrides);
  BOOST_TEST_REQUIRE(reading.value.has_value(), show_problems(reading.problems));
  return *reading.value;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(recipes)

BOOST_AUTO_TEST_CASE(fills_in_defaults) {
  const auto r = must_read(small);
  BOOST_TEST(r.run.tokens == 100'000);
  BOOST_TEST(r.run.name == "run");
  BOOST_TEST(r.model.layers.size() == 2U);
  BOOST_TEST(r.model.vocabulary == r.data.vocabulary);
  BOOST_TEST(r.sites.at(1).threads_per_device == 2);
  BOOST_TEST(r.sites.at(0).home);
  BOOST_TEST((find_site(r, "beta") == 1U));
  BOOST_TEST(!find_site(r, "delta").has_value());
}

BOOST_AUTO_TEST_CASE(every_shipped_recipe_is_valid_without_warnings) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("recipes")) {
    const auto reading = read_recipe_file(entry.path());
    BOOST_TEST(reading.value.has_value(), entry.path() << "\n" << show_problems(reading.problems));
    BOOST_TEST(reading.problems.empty(), show_problems(reading.problems));
    ++count;
  }
  BOOST_TEST(count >= 3);
}

BOOST_AUTO_TEST_CASE(quickstart_is_what_the_readme_promises) {
  const auto r = load_recipe("recipes/quickstart.toml");
  BOOST_TEST_REQUIRE(r.has_value());
  BOOST_TEST(r->sites.size() == 3U);
  BOOST_TEST(planned_rounds(*r) >= 30);
  BOOST_TEST(r->data.vocabulary == 2048);
  BOOST_TEST(r->train.tokens_per_step == 1024);
  BOOST_TEST(r->round.inner_steps == 10);
  BOOST_TEST(std::any_of(r->faults.begin(), r->faults.end(), [](const recipe::fault& f) { return f.kind == "kill"; }));
}

BOOST_AUTO_TEST_CASE(a_written_recipe_reads_back_equal) {
  for (const auto* path : {"recipes/quickstart.toml", "recipes/single.toml", "recipes/three_sites_wan.toml"}) {
    const auto r = load_recipe(path, {"train.learning_rate=0.1e-3", "model.norm_eps=3e-6", "run.seed=9223372036854775807"});
    BOOST_TEST_REQUIRE(r.has_value());
    const auto again = read_recipe(write_recipe(*r), "recipe.resolved.toml");
    BOOST_TEST_REQUIRE(again.value.has_value(), show_problems(again.problems));
    BOOST_TEST((*again.value == *r));
    BOOST_TEST((recipe_hash(*again.value) == recipe_hash(*r)));
  }
}

BOOST_AUTO_TEST_CASE(the_hash_sees_every_value_and_no_spelling) {
  const auto base = recipe_hash(must_read(small));
  BOOST_TEST((recipe_hash(must_read("# a comment\n" + small)) == base));
  BOOST_TEST((recipe_hash(must_read(small, {"run.seed=1"})) == base));
  for (const auto* change :
       {"run.seed=2", "model.d_model=128", "train.clip_norm=0.5", "round.codec=int8", "data.split=alike", "data.documents=separate",
        "model.attention_window=64", "model.medusa_heads=2", "links.endpoints=2", "checkpoint.keep=3", "sites.1.home=false"})
    BOOST_TEST((recipe_hash(must_read(small, {change})) != base), change);
}

BOOST_AUTO_TEST_CASE(a_pattern_is_repeated) {
  const auto r = must_read(small, {"run.name=x"});
  auto text = small;
  text.replace(text.find("layers = [\"attention\", \"mamba2\"]"), 32, "pattern = [\"mamba2\", \"mamba2\", \"attention\"]\nn_layers = 7");
  const auto hybrid = must_read(text);
  const std::vector<std::string> wanted{"mamba2", "mamba2", "attention", "mamba2", "mamba2", "attention", "mamba2"};
  BOOST_TEST((hybrid.model.layers == wanted));
  BOOST_TEST((r.model.layers != wanted));
}

BOOST_AUTO_TEST_CASE(layers_are_mixed_at_will_and_written_back) {
  auto text = small;
  text.replace(text.find("layers = [\"attention\", \"mamba2\"]"), 32,
               "layers = [\"few_heads\", \"mamba2/none\", \"none/swiglu\", \"attention/wide\"]\nn_heads = 8\n"
               "[[model.variants]]\nname = \"few_heads\"\nkind = \"attention\"\nn_kv_heads = 2\nrope_theta = 5e5\n"
               "[[model.variants]]\nname = \"wide\"\nkind = \"swiglu\"\nffn_hidden = 1024\n[model.unused]\n");
  text.replace(text.find("[model.unused]\n"), 15, "");
  const auto r = must_read(text);
  const auto layers = resolve_layers(r.model);
  BOOST_REQUIRE(layers.has_value());
  BOOST_REQUIRE(layers->size() == 4U);
  const auto& [few, swiglu] = (*layers)[0];
  BOOST_TEST(few->kind->name == "attention");
  BOOST_TEST(few->integer("n_heads") == 8);
  BOOST_TEST(few->integer("n_kv_heads") == 2);
  BOOST_TEST(few->real("rope_theta") == 5e5);
  BOOST_TEST(swiglu->kind->name == "swiglu");
  BOOST_TEST(((*layers)[1].mixer && !(*layers)[1].channel));
  BOOST_TEST((!(*layers)[2].mixer && (*layers)[2].channel));
  BOOST_TEST((*layers)[3].mixer->integer("n_kv_heads") == 4);
  BOOST_TEST((*layers)[3].channel->integer("ffn_hidden") == 1024);
  BOOST_TEST((must_read(write_recipe(r)) == r));
  BOOST_TEST((recipe_hash(r) != recipe_hash(must_read(small))));
}

BOOST_AUTO_TEST_CASE(overrides_reach_sections_and_list_entries_and_the_last_wins) {
  const auto r = must_read(small, {"train.learning_rate=0.25e-3", "sites.0.threads_per_device=4", "sites.beta.home=false",
                                   "run.name=bare-word", "round.codec=none", "round.codec=\"int8\"", "model.layers=[\"mamba2\"]"});
  BOOST_TEST(r.train.learning_rate == 0.25e-3);
  BOOST_TEST(r.sites.at(0).threads_per_device == 4);
  BOOST_TEST(!r.sites.at(1).home);
  BOOST_TEST(r.run.name == "bare-word");
  BOOST_TEST(r.round.codec == "int8");
  BOOST_TEST(r.model.layers.size() == 1U);
}

BOOST_AUTO_TEST_CASE(every_value_knows_where_it_came_from) {
  const auto reading = read_recipe(small, "test.toml", {"run.seed=7"});
  const auto origin = [&](const std::string& key) {
    const auto found = std::find_if(reading.values.begin(), reading.values.end(), [&](const recipe_value& v) { return v.key == key; });
    return found == reading.values.end() ? "missing" : found->origin;
  };
  BOOST_TEST(origin("run.tokens") == "test.toml:2:10");
  BOOST_TEST(origin("run.seed") == "override `run.seed=7`");
  BOOST_TEST(origin("run.name") == "default");
  BOOST_TEST(origin("sites.1.threads_per_device") == "test.toml:15:22");
}

BOOST_AUTO_TEST_CASE(derived_numbers) {
  const auto r = must_read(small);
  BOOST_TEST(rows_per_step(r) == 4);
  BOOST_TEST(steps_per_site(r) == 98);  // 50,000 tokens a site
  BOOST_TEST(planned_rounds(r) == 10);
  BOOST_TEST(reference_tokens(r) == 5120);
  BOOST_TEST(quorum(r, 3) == 2);
  BOOST_TEST(quorum(r, 1) == 1);
  BOOST_TEST(quorum(must_read(small, {"run.deterministic=true"}), 3) == 3);
  BOOST_TEST(quorum(must_read(small, {"round.quorum=2"}), 1) == 1);
}

BOOST_AUTO_TEST_CASE(the_learning_rate_warms_up_and_falls) {
  const auto r = must_read(small, {"train.learning_rate=1.0", "train.warm_up_tokens=1000", "train.final_rate_ratio=0.1"});
  const rate_schedule rates = learning_rates(r);
  BOOST_TEST(rates.learning_rate(0) == 0);
  BOOST_TEST(rates.learning_rate(500) == 0.5, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(rates.learning_rate(1000) == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(rates.learning_rate(50'500) == 0.55, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(rates.learning_rate(100'000) == 0.1, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(rates.learning_rate(1'000'000) == 0.1, boost::test_tools::tolerance(1e-12));
  const rate_schedule kept = learning_rates(must_read(
      small, {"train.learning_rate=1.0", "train.warm_up_tokens=1000", "train.final_rate_ratio=0.1", "train.decay_tokens=20_000"}));
  BOOST_TEST(kept.learning_rate(500) == 0.5, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(kept.learning_rate(80'000) == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(kept.learning_rate(90'000) == 0.55, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(kept.learning_rate(100'000) == 0.1, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(kept.learning_rate(1'000'000) == 0.1, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(a_guard_is_written_only_where_there_is_one) {
  const auto plain = read_recipe(small, "test.toml");
  BOOST_TEST(write_recipe(*plain.value).find("guard") == std::string::npos);  // old recipes keep their hash
  BOOST_TEST(write_recipe(*plain.value).find("aggregate") == std::string::npos);
  const auto guarded =
      read_recipe(small, "test.toml", {"round.aggregate=\"centred_clipping\"", "guard.norm_veto=3.5", "guard.barred_after=2"});
  BOOST_TEST_REQUIRE(guarded.value.has_value());
  const auto again = read_recipe(write_recipe(*guarded.value), "again.toml");
  BOOST_TEST_REQUIRE(again.value.has_value());
  BOOST_TEST((*again.value == *guarded.value));
  BOOST_TEST((recipe_hash(*guarded.value) != recipe_hash(*plain.value)));
  for (const char* wrong : {"round.aggregate=\"krum\"", "guard.direction_veto=2", "guard.probation_weight=0"})
    BOOST_TEST(!read_recipe(small, "test.toml", {wrong}).value.has_value(), wrong);
  const auto sparse = read_recipe(small, "test.toml", {"round.codec=\"sparse_loco\"", "round.aggregate=\"trimmed_mean\""});
  BOOST_TEST_REQUIRE(!sparse.problems.empty());
  BOOST_TEST(sparse.problems.front().code == "R035");
}

BOOST_AUTO_TEST_CASE(the_schema_names_every_key) {
  const auto reading = read_recipe(small, "test.toml");
  const auto all = recipe_schema("");
  for (const auto& v : reading.values) {
    auto key = v.key;  // "sites.0.name" is "sites.name" there
    if (const auto digit = key.find_first_of("0123456789"); key.starts_with("sites.") && digit == 6) key.erase(6, 2);
    BOOST_TEST(std::any_of(all.begin(), all.end(), [&](const recipe_key& k) { return k.key == key; }), key);
  }
  for (const auto& k : recipe_schema("links")) BOOST_TEST(k.key.starts_with("links."), k.key);
  BOOST_TEST(recipe_schema("nonsense").empty());
}

BOOST_AUTO_TEST_CASE(data_ports_are_a_range_or_nothing) {
  const auto r = must_read(small, {"links.data_ports=20000-20100"});
  BOOST_TEST(r.links.data_ports == "20000-20100");
  BOOST_TEST((*read_recipe(write_recipe(r), "again").value == r));
  BOOST_TEST((recipe_hash(r) != recipe_hash(must_read(small))));
  BOOST_TEST(write_recipe(must_read(small)).find("data_ports") == std::string::npos);  // older recipes keep their hash
  for (const std::string ports :
       {"20000", "20000-", "-20000", "20100-20000", "20000-20000", "80-90", "20000-65536", "20000 - 20100", "a-b"}) {
    const auto reading = read_recipe(small, "test.toml", {"links.data_ports=\"" + ports + "\""});
    BOOST_TEST_REQUIRE(!reading.value.has_value(), ports);
    BOOST_TEST(reading.problems.at(0).code == "R014");
  }
}

BOOST_AUTO_TEST_CASE(an_override_of_a_list_that_is_not_there_is_one_problem) {
  for (const auto* text : {"faults.0.at_round=3", "faults.alpha.at_round=3", "faults.at_round=3"}) {
    const auto reading = read_recipe(small, "test.toml", {text});
    BOOST_TEST_REQUIRE(reading.problems.size() == 1U, show_problems(reading.problems));
    BOOST_TEST(reading.problems[0].code == "R020");
    BOOST_TEST(reading.problems[0].place == "override `" + std::string(text) + "`");
  }
}

BOOST_AUTO_TEST_CASE(an_override_beyond_64_bits_is_no_text) {
  for (const auto* text : {"run.tokens=99999999999999999999", "run.tokens=-9_999_999_999_999_999_999", "run.tokens=0x1ffffffffffffffff",
                           "train.learning_rate=1e400", "train.learning_rate=+1.5e400"}) {
    const auto reading = read_recipe(small, "test.toml", {text});
    BOOST_TEST_REQUIRE(reading.problems.size() == 1U, show_problems(reading.problems));
    BOOST_TEST(reading.problems[0].code == "R004", text);
    BOOST_TEST(reading.problems[0].message.find("64 bits") != std::string::npos);
  }
  BOOST_TEST(must_read(small, {"run.name=\"99999999999999999999\""}).run.name == "99999999999999999999");
  BOOST_TEST(must_read(small, {"run.name=99999999999999999999x"}).run.name == "99999999999999999999x");
}

BOOST_AUTO_TEST_CASE(the_steps_that_are_offered_differ) {
  const auto help = [](const std::string& tokens) {
    return read_recipe(small, "test.toml", {"train.tokens_per_step=" + tokens}).problems.at(0).help;
  };
  BOOST_TEST(help("100") == "use 128");
  BOOST_TEST(help("200") == "use 128 or 256");
}

BOOST_AUTO_TEST_CASE(data_ports_are_enough_for_every_end_of_a_link) {
  const auto problems = [](const std::vector<std::string>& overrides) { return read_recipe(small, "test.toml", overrides).problems; };
  BOOST_TEST(problems({"links.data_ports=20000-20005"}).empty());  // two sites and the coordinator, each with two links
  const auto narrow = problems({"links.data_ports=20000-20004"});
  BOOST_TEST_REQUIRE(narrow.size() == 1U, show_problems(narrow));
  BOOST_TEST(narrow[0].code == "R038");
  BOOST_TEST(narrow[0].place == "override `links.data_ports=20000-20004`");
  BOOST_TEST(narrow[0].allowed.starts_with("at least 6 ports"));
  BOOST_TEST(problems({"links.data_ports=20000-20004", "sites.beta.address=127.0.0.2:0"}).size() == 1U);  // loopback is one address
  const std::vector<std::string> apart{"sites.alpha.address=10.0.0.1:0", "sites.beta.address=10.0.0.2:0"};
  BOOST_TEST(problems({apart[0], apart[1], "links.data_ports=20000-20001"}).empty());
  BOOST_TEST(problems({apart[0], "sites.beta.address=10.0.0.1:0", "links.data_ports=20000-20002"}).size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_coordinator_in_etcd_is_written_as_it_was_read_and_at_its_default_not_at_all) {
  BOOST_TEST(write_recipe(must_read(small)).find("[coordinator]") == std::string::npos);
  const auto r = must_read(small, {"coordinator.log=etcd", "coordinator.etcd=[\"http://127.0.0.1:2379\", \"http://[fd00::1]:2379\"]",
                                   "coordinator.processes=2"});
  BOOST_TEST(r.coordinator.etcd == (std::vector<std::string>{"http://127.0.0.1:2379", "http://[fd00::1]:2379"}),
             boost::test_tools::per_element());
  const auto text = write_recipe(r);
  BOOST_TEST(text.find("etcd = [\"http://127.0.0.1:2379\", \"http://[fd00::1]:2379\"]\nprocesses = 2\n") != std::string::npos, text);
  BOOST_TEST((must_read(text) == r));
}

BOOST_AUTO_TEST_SUITE_END()
