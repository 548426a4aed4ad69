#include "framework/checkpoint/checkpoint.hpp"

#include "framework/checkpoint/manifest.hpp"
#include "framework/sim/disk.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

using namespace isthmus;
using json = nlohmann::json;

namespace {

struct saved_twice {
  sim::disk memory;
  std::unique_ptr<storage> disk = memory.open("d");
  checkpoint_store store{*disk, "c"};
  std::vector<float> weights = std::vector<float>(64, 1.5F);
  checkpoint_facts facts;
  std::string older, newer;  // folders

  saved_twice() {
    facts.run_id = "run-7";
    facts.recipe_hash = {1, 2};
    facts.site = 2;
    facts.incarnation = 5;
    facts.tokens = 20480;
    facts.seed = 42;
    facts.groups = {{0, 3, 1, {5, 6}, {7, 8}}, {1, 2, 1, {9, 10}, {11, 12}}};
    facts.state = R"({"cursors":{"0":[0,128]},"rate":0.1})";
    older = save(10);
    newer = save(20);
  }
  std::string save(step_number step) {
    facts.step = step;
    weights[0] = static_cast<float>(step);
    auto done = store.save(facts, {{"weights", {view_of("w", std::span<const float>(weights))}},
                                   {"moments", {view_of("m", std::span<const float>(weights))}}});
    BOOST_REQUIRE(done.has_value());
    return done->folder;
  }
  std::string text(const std::string& path) {
    auto bytes = *disk->read(path, 1 << 20);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  void put(const std::string& path, const std::string& text) {
    BOOST_REQUIRE(disk->write_synced(path, std::as_bytes(std::span(text))).has_value());
  }
  /// Edits the manifest of a folder as somebody would who also repairs its checksum.
  void edit(const std::string& folder, const std::function<void(json&)>& change) {
    json manifest = json::parse(text(folder + "/manifest.json"));
    manifest.erase("xxh3");
    change(manifest);
    const std::string plain = manifest.dump();
    manifest["xxh3"] = hash_bytes(std::as_bytes(std::span(plain))).hex();
    put(folder + "/manifest.json", manifest.dump());
  }
  /// The newer one must be passed over, in words that contain `says`, and the older one load.
  void falls_back(const std::string& says, const checkpoint_needs& needs = {}) {
    auto loaded = store.load(needs);
    BOOST_TEST_CONTEXT("expected: " << says) {
      BOOST_REQUIRE(loaded.has_value());
      BOOST_TEST(loaded->facts.step == 10U);
      BOOST_REQUIRE(loaded->warnings.size() == 1U);
      BOOST_TEST(loaded->warnings[0].find(newer) != std::string::npos, loaded->warnings[0]);
      BOOST_TEST(loaded->warnings[0].find(says) != std::string::npos, loaded->warnings[0]);
    }
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(checkpoint_test, saved_twice)

BOOST_AUTO_TEST_CASE(everything_comes_back) {
  auto loaded = store.load({facts.recipe_hash, facts.run_id, facts.site, {"weights", "moments"}, {"cursors"}});
  BOOST_REQUIRE(loaded.has_value());
  BOOST_TEST(loaded->warnings.empty());
  BOOST_TEST(loaded->sequence == 2U);
  BOOST_TEST(loaded->facts.run_id == facts.run_id);
  BOOST_TEST((loaded->facts.recipe_hash == facts.recipe_hash));
  BOOST_TEST(loaded->facts.site == 2U);
  BOOST_TEST(loaded->facts.incarnation == 5U);
  BOOST_TEST(loaded->facts.step == 20U);
  BOOST_TEST(loaded->facts.tokens == 20480U);
  BOOST_TEST(loaded->facts.seed == 42U);
  BOOST_TEST((loaded->facts.groups == facts.groups));
  BOOST_TEST((json::parse(loaded->facts.state) == json::parse(facts.state)));
  std::vector<float> back(64);
  BOOST_REQUIRE((*loaded->part("weights"))->copy_to("w", back).has_value());
  BOOST_TEST(back == weights, boost::test_tools::per_element());
  BOOST_TEST(describe(loaded->part("none").error().code) == "not_found");
}

BOOST_AUTO_TEST_CASE(without_any_it_says_so) {
  checkpoint_store empty(*disk, "other");
  BOOST_TEST(describe(empty.load().error().code) == "not_found");
  BOOST_TEST(empty.list().empty());
}

BOOST_AUTO_TEST_CASE(one_that_is_damaged_is_not_none) {
  for (const auto& folder : {older, newer}) BOOST_REQUIRE(disk->remove(folder + "/manifest.json").has_value());
  BOOST_TEST(describe(store.load().error().code) == "malformed");
}

BOOST_AUTO_TEST_CASE(what_is_announced_is_what_is_loaded) {
  std::string folder;
  hash128 manifest;
  const auto announce = [&](const std::string& name, const hash128& hash) {
    BOOST_TEST(!disk->exists(name));  // not before its name is there
    folder = name;
    manifest = hash;
  };
  const auto saved = store.save(facts, {{"weights", {view_of("w", std::span<const float>(weights))}}}, announce);
  BOOST_REQUIRE(saved.has_value());
  BOOST_TEST(saved->folder == folder);
  BOOST_TEST((saved->manifest == manifest));
  BOOST_TEST_REQUIRE(saved->removed.size() == 1U);
  BOOST_TEST(saved->removed[0].folder == older);
  const auto loaded = store.load();
  BOOST_TEST(loaded->folder == folder);
  BOOST_TEST((loaded->manifest == manifest));
}

BOOST_AUTO_TEST_CASE(the_newest_is_told_by_its_manifest) {
  BOOST_REQUIRE(disk->rename(older, "c/zzz-renamed").has_value());
  BOOST_REQUIRE(disk->rename(newer, "c/aaa").has_value());
  auto loaded = store.load();
  BOOST_REQUIRE(loaded.has_value());
  BOOST_TEST(loaded->facts.step == 20U);
  BOOST_TEST(loaded->folder == "c/aaa");
}

BOOST_AUTO_TEST_CASE(a_missing_or_torn_manifest_falls_back) {
  const std::string whole = text(newer + "/manifest.json");
  put(newer + "/manifest.json", whole.substr(0, whole.size() / 2));
  falls_back("not valid JSON");
  put(newer + "/manifest.json", "");
  falls_back("not valid JSON");
  BOOST_REQUIRE(disk->remove(newer + "/manifest.json").has_value());
  falls_back("no such file");
}

BOOST_AUTO_TEST_CASE(a_rotten_manifest_falls_back) {
  std::string rotten = text(newer + "/manifest.json");
  rotten.replace(rotten.find("\"step\": 20"), 10, "\"step\": 21");
  put(newer + "/manifest.json", rotten);
  falls_back("its own checksum");
}

BOOST_AUTO_TEST_CASE(a_later_or_foreign_format_falls_back_in_clear_words) {
  edit(newer, [](json& m) { m["version"] = 2; });
  falls_back("version 2, this program reads version 1");
  edit(newer, [](json& m) { m["format"] = "other"; });
  falls_back("not the manifest of a checkpoint");
  put(newer + "/manifest.json", "[]");
  falls_back("not the manifest of a checkpoint");
}

BOOST_AUTO_TEST_CASE(every_field_is_checked) {
  const std::string whole = text(newer + "/manifest.json");
  const json manifest = json::parse(whole);
  for (const auto& [key, value] : manifest.items()) {
    if (key == "format" || key == "version" || key == "xxh3") continue;
    edit(newer, [&](json& m) { m.erase(key); });
    falls_back("\"" + key + "\"");
    edit(newer, [&](json& m) { m[key] = -1.5; });
    falls_back("\"" + key + "\" must be");
    put(newer + "/manifest.json", whole);
  }
  edit(newer, [](json& m) { m["site"] = std::uint64_t{1} << 32; });
  falls_back("\"site\" must be a whole number of at most 4294967295");
  edit(newer, [](json& m) { m["site"] = 2, m["files"][0]["bytes"] = std::uint64_t{1} << 63; });
  falls_back("files[0]: \"bytes\" must be");
  edit(newer, [](json& m) { m["files"][0]["bytes"] = 1, m["groups"][1]["anchor_hash"] = "XY"; });
  falls_back("groups[1]: \"anchor_hash\" must be 32 lower-case hex digits");
}

BOOST_AUTO_TEST_CASE(hostile_names_never_become_paths) {
  for (const char* name : {"../../secret", "/etc/passwd", "a/b", "", ".", "A", "w\n"}) {
    edit(newer, [&](json& m) { m["files"][0]["part"] = name; });
    falls_back("a path is never taken from a manifest");
  }
  edit(newer, [](json& m) { m["files"][0]["part"] = m["files"][1]["part"]; });
  falls_back("stands twice in files");
}

BOOST_AUTO_TEST_CASE(damaged_missing_and_mixed_files_fall_back) {
  const std::string path = newer + "/weights.safetensors", whole = text(path);
  std::string flipped = whole;
  flipped[flipped.size() - 3] = static_cast<char>(flipped[flipped.size() - 3] ^ 1);
  put(path, flipped);
  falls_back("weights.safetensors: hash ");
  put(path, whole.substr(0, whole.size() - 1));
  falls_back("weights.safetensors: " + std::to_string(whole.size() - 1) + " bytes, the manifest names");
  put(path, whole + "x");
  falls_back("larger than allowed");
  put(path, text(older + "/weights.safetensors"));
  falls_back("or from another save");
  BOOST_REQUIRE(disk->remove(path).has_value());
  falls_back("no such file");
}

BOOST_AUTO_TEST_CASE(what_the_caller_needs_must_be_there) {
  edit(newer, [](json& m) { m["files"].erase(1), m["state"].erase("cursors"); });
  falls_back("lists no part \"moments\"", {{}, {}, {}, {"weights", "moments"}, {}});
  falls_back("state has no \"cursors\"", {{}, {}, {}, {}, {"cursors"}});
}

BOOST_AUTO_TEST_CASE(another_run_site_or_recipe_is_refused_not_passed_over) {
  const auto other_run = store.load({{}, "run-8", {}, {}, {}});
  BOOST_TEST(describe(other_run.error().code) == "wrong_run");
  BOOST_TEST(other_run.error().message.find("belongs to run run-7, this is run run-8") != std::string::npos);
  BOOST_TEST(describe(store.load({{}, {}, site_id{3}, {}, {}}).error().code) == "wrong_run");
  const auto other_recipe = store.load({hash128{1, 3}, {}, {}, {}, {}});
  BOOST_TEST(describe(other_recipe.error().code) == "wrong_recipe");
  BOOST_TEST(other_recipe.error().message.find("start a new run") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_number_that_was_given_is_not_given_again) {
  saved_twice s;
  s.store.number_above("c/checkpoint-000041");
  s.store.number_above("c/checkpoint-000007");
  s.store.number_above("");
  BOOST_TEST(s.save(30) == "c/checkpoint-000042");
}

BOOST_AUTO_TEST_CASE(when_none_is_good_every_reason_is_named) {
  put(newer + "/weights.safetensors", "short");
  put(older + "/manifest.json", "{");
  const auto loaded = store.load();
  BOOST_REQUIRE(!loaded.has_value());
  BOOST_TEST(loaded.error().message.find(newer + "/weights.safetensors") != std::string::npos);
  BOOST_TEST(loaded.error().message.find(older + "/manifest.json") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_full_disk_keeps_what_is_there_and_passes) {
  memory.fill();
  const auto failed = store.save(facts, {{"weights", {view_of("w", std::span<const float>(weights))}}});
  BOOST_TEST(describe(failed.error().code) == "disk_full");
  BOOST_TEST(store.load()->facts.step == 20U);
  memory.make_room();
  BOOST_TEST(disk->exists("c/writing") == false);
  save(30);
  BOOST_TEST(store.load()->facts.step == 30U);
}

BOOST_AUTO_TEST_CASE(rubbish_in_the_folder_harms_nobody) {
  put("c/notes.txt", "mine");
  put("c/checkpoint-000001x/weights.safetensors", "left by an interrupted removal");
  put("c/writing/weights.safetensors", "left by a crash");
  auto loaded = store.load();
  BOOST_REQUIRE(loaded.has_value());
  BOOST_TEST(loaded->facts.step == 20U);
  save(30);
  BOOST_TEST(store.load()->facts.step == 30U);
  BOOST_TEST(disk->exists("c/notes.txt"));
  BOOST_TEST(!disk->exists("c/writing"));
  BOOST_TEST(!disk->exists("c/checkpoint-000001x"));
}

BOOST_AUTO_TEST_CASE(every_part_and_state_that_is_needed_is_asked_for) {
  const std::string whole = text(newer + "/manifest.json");
  for (const std::string part : {"weights", "moments"}) {  // the optimiser's state without the weights, and the other way round
    edit(newer, [&](json& m) { std::erase_if(m["files"].get_ref<json::array_t&>(), [&](const json& f) { return f["part"] == part; }); });
    falls_back("lists no part \"" + part + "\", which is needed to go on", {{}, {}, {}, {"weights", "moments"}, {}});
    put(newer + "/manifest.json", whole);
  }
  for (const std::string key : {"rate", "cursors"}) {
    edit(newer, [&](json& m) { m["state"].erase(key); });
    falls_back("its state has no \"" + key + "\", which is needed to go on", {{}, {}, {}, {}, {key}});
  }
}

BOOST_AUTO_TEST_CASE(manifests_of_absurd_length_fall_back) {
  const std::string whole = text(newer + "/manifest.json");
  put(newer + "/manifest.json", whole + std::string(manifest_bytes_max, ' '));
  falls_back("larger than allowed");
  put(newer + "/manifest.json", whole);
  edit(newer, [](json& m) {
    for (int i = 0; i < 20'000; ++i)
      m["files"].push_back({{"part", "p" + std::to_string(i)}, {"bytes", std::uint64_t{1} << 50}, {"xxh3", hash128{}.hex()}});
  });
  falls_back("p0.safetensors: no such file");
  std::string deep = "{}";
  for (int i = 0; i < 40; ++i) deep = "{\"a\":" + deep + "}";
  put(newer + "/manifest.json", whole);
  edit(newer, [&](json& m) { m["state"] = json::parse(deep); });
  falls_back("nested deeper than 32 levels");
}

BOOST_AUTO_TEST_CASE(a_manifest_older_than_its_files_falls_back) {
  put(newer + "/manifest.json", text(older + "/manifest.json"));
  auto loaded = store.load();
  BOOST_REQUIRE(loaded.has_value());
  BOOST_TEST(loaded->facts.step == 10U);
  put(older + "/manifest.json", "{");
  BOOST_TEST(store.load().error().message.find(newer + "/weights.safetensors: hash ") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(two_writers_never_mix_their_files) {
  checkpoint_store second(*disk, "c");
  for (step_number step = 30; step < 34; ++step) {
    facts.step = step;
    weights[0] = static_cast<float>(step);
    const std::vector<checkpoint_part> parts{{"weights", {view_of("w", std::span<const float>(weights))}}};
    const auto saved = (step % 2 == 0 ? store : second).save(facts, parts);
    BOOST_REQUIRE(saved.has_value());
    BOOST_TEST(saved->sequence == step - 27);
    const auto loaded = store.load();
    BOOST_REQUIRE(loaded.has_value());
    BOOST_TEST(loaded->warnings.empty());
    std::vector<float> back(64);
    BOOST_REQUIRE((*loaded->part("weights"))->copy_to("w", back).has_value());
    BOOST_TEST(back[0] == static_cast<float>(loaded->facts.step));
    BOOST_TEST(loaded->facts.step == step);
  }
}

BOOST_AUTO_TEST_CASE(our_own_mistakes_are_bugs) {
  const std::vector<checkpoint_part> upwards{{"../x", {}}};
  BOOST_CHECK_THROW(static_cast<void>(store.save(facts, upwards)), contract_error);
  facts.state = "[1]";
  BOOST_CHECK_THROW(static_cast<void>(store.save(facts, {})), contract_error);
  BOOST_CHECK_THROW(checkpoint_store(*disk, "/abs"), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
