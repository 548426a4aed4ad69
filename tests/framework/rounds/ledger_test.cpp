#include "framework/rounds/json_lines.hpp"
#include "framework/rounds/ledger.hpp"
#include "tests/framework/rounds/written_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <string>

using namespace isthmus;
using nlohmann::json;
using namespace isthmus::testing;

namespace {

/// Round 1 keeps a residual at its home, which is returned with it; the later rounds are exact.
struct warmed_up_run : written_run {
  warmed_up_run() : written_run(settings_with()) {}
  static cluster_settings settings_with() {
    cluster_settings s;
    s.down_residual = false;
    s.warm_up_rounds = 1;
    return s;
  }
};

bool is(const json& line, const char* type, group_id group, round_number round) {
  return line.at("t") == type && line.contains("record") && line.at("record").at("group") == group &&
         line.at("record").at("round") == round;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(ledger_test, written_run)

BOOST_AUTO_TEST_CASE(a_clean_run_balances_and_is_counted) {
  const auto r = report();
  BOOST_TEST(r.balanced());
  BOOST_TEST(r.complete);
  BOOST_TEST(r.assigned == r.committed + r.partial + r.returned + r.written_off);
  BOOST_TEST(r.outstanding == 0U);
  BOOST_TEST(r.committed > 0U);
  BOOST_TEST(r.epochs == 1U);
  BOOST_TEST(r.last_round.size() == 2U);
}

BOOST_AUTO_TEST_CASE(another_anchor_at_one_site_is_two_histories) {
  BOOST_TEST(edit(site_log(2), [](json& line) {
               if (is(line, "applied", 0, 2)) line["record"]["anchor_hash"] = std::string(32, 'a');
               return true;
             }) == 1);
  BOOST_TEST(finds("one_history"));
}

BOOST_AUTO_TEST_CASE(a_commit_without_a_majority_is_seen) {
  for (site_id s = 0; s < 3; ++s)
    edit(site_log(s), [](json& line) {
      if (is(line, "committed", 1, 1)) line["stored_at"] = json::array({line["record"]["home"]});
      return true;
    });
  BOOST_TEST(finds("majority"));
}

BOOST_AUTO_TEST_CASE(a_store_that_the_storing_site_does_not_know_is_seen) {
  int dropped = 0;
  for (site_id s = 0; s < 3; ++s)
    dropped += edit(site_log(s), [&](json& line) { return !(is(line, "stored", 0, 2) && line["record"]["home"] != s); });
  BOOST_TEST(dropped == 2);
  BOOST_TEST(finds("stored_at"));
}

BOOST_AUTO_TEST_CASE(samples_declared_partial_that_no_record_names_are_seen) {
  std::string whole = text(site_log(1));
  const auto line = [](const char* rest) { return json_lines::seal(std::string(R"({"site":1,"incarnation":1,)") + rest); };
  const std::string granted = line(R"("t":"granted","step":900,"lease":[1,100000,100004]})");
  const std::string declared = line(R"("t":"partial","lease":[1,100000,100004],"missed":[0]})");
  const std::string returned = line(R"("t":"returned","lease":[1,100000,100004],"reason":"their records are void"})");
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  put(site_log(1), whole.substr(0, last) + granted + declared + whole.substr(last));
  BOOST_TEST(finds("partial"));
  put(site_log(1), whole.substr(0, last) + granted + declared + returned + whole.substr(last));
  BOOST_TEST(report().balanced());
}

// A site whose disk is lost reads its grants back from the watermarks, and says so again each time that it starts.
BOOST_AUTO_TEST_CASE(samples_whose_grant_and_records_are_lost_are_counted_once_however_often_they_are_declared) {
  const std::string whole = text(site_log(1));
  const auto line = [](int life, const std::string& rest) {
    return json_lines::seal(R"({"site":1,"incarnation":)" + std::to_string(life) + "," + rest);
  };
  const auto life = [&](int n) {
    return line(n, R"("t":"started","groups":2})") + line(n, R"("t":"partial","lease":[1,100000,100024],"missed":[0]})");
  };
  const std::string end = line(9, R"("t":"ended","reason":"x"})");
  const auto before = report();
  put(site_log(1), whole + life(7) + life(8) + life(9) + end);
  BOOST_TEST(!finds("balance"));
  BOOST_TEST(report().assigned == before.assigned + 24);
  BOOST_TEST(report().partial == before.partial + 24);
  const std::string granted = line(9, R"("t":"granted","step":900,"lease":[1,100000,100024]})");
  put(site_log(1), whole + life(7) + life(8) + line(9, R"("t":"started","groups":2})") + granted);
  BOOST_TEST(!finds("balance"));  // a restart has voided the watermarks: they are trained again
  BOOST_TEST(report().returned == before.returned + 24);
}

BOOST_AUTO_TEST_CASE(a_round_missing_in_every_log_is_a_broken_chain) {
  for (site_id s = 0; s < 3; ++s)
    edit(site_log(s),
         [](json& line) { return !(line.contains("record") && line["record"]["group"] == 0 && line["record"]["round"] == 2); });
  BOOST_TEST(finds("chain"));
}

BOOST_AUTO_TEST_CASE(changed_weights_tokens_and_watermarks_are_seen) {
  const auto everywhere = [&](auto change) {
    for (site_id s = 0; s < 3; ++s)
      edit(site_log(s), [&](json& line) {
        if (line.contains("record") && line["record"]["group"] == 0 && line["record"]["round"] == 3) change(line["record"]);
        return true;
      });
  };
  everywhere([](json& r) { r["weight"] = r["weight"].get<double>() + 1; });
  BOOST_TEST(finds("weight"));
  everywhere([](json& r) { r["tokens_total"] = r["tokens_total"].get<std::uint64_t>() + 1; });
  BOOST_TEST(finds("tokens"));
  everywhere([](json& r) { r["contributors"][0]["step"] = 1; });
  BOOST_TEST(finds("watermark"));
}

BOOST_AUTO_TEST_CASE(a_sample_committed_twice_is_seen) {
  for (site_id s = 0; s < 3; ++s)
    edit(site_log(s), [](json& line) {
      if (line.contains("record") && line["record"]["group"] == 1 && line["record"]["round"] == 3)
        line["record"]["contributors"][0]["leases"].push_back(json::array({line["record"]["contributors"][0]["site"], 0, 2}));
      return true;
    });
  BOOST_TEST(finds("committed_twice"));
}

BOOST_AUTO_TEST_CASE(a_grant_that_ends_nowhere_is_a_hole) {
  std::string whole = text(site_log(1));
  const std::string line = R"({"site":1,"incarnation":1,"t":"granted","step":900,"lease":[1,100000,100004]})";
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  whole.insert(last, json_lines::seal(line));
  put(site_log(1), whole);
  BOOST_TEST(finds("hole"));
}

BOOST_AUTO_TEST_CASE(a_return_of_committed_samples_is_seen) {
  std::string whole = text(site_log(0));
  whole.insert(whole.rfind('\n', whole.size() - 2) + 1,
               json_lines::seal(R"({"site":0,"incarnation":1,"t":"returned","lease":[0,0,4],"reason":"x"})"));
  put(site_log(0), whole);
  BOOST_TEST(finds("returned_but_committed"));
}

BOOST_AUTO_TEST_CASE(mass_that_vanishes_is_seen) {
  bool once = false;
  BOOST_TEST(edit(site_log(1), [&](json& line) {
               if (!once && line["t"] == "mass" && line["event"] == "formed" && line["round"] == 2) {
                 line["residual"] = line["residual"].get<double>() + 0.5;
                 once = true;
               }
               return true;
             }) == 1);
  BOOST_TEST(finds("mass"));
}

void swallow(written_run& run, round_number round) {
  for (site_id s = 0; s < 3; ++s)
    run.edit(site_log(s), [&](json& line) {
      if (line.contains("record") && line["record"]["group"] == 0 && line["record"]["round"] == round)
        line["record"]["mass"] = line["record"]["mass"].get<double>() + 1;
      return true;
    });
}

BOOST_AUTO_TEST_CASE(mass_that_a_home_swallows_is_seen) {
  swallow(*this, 2);
  BOOST_TEST(finds("mass"));
}

BOOST_FIXTURE_TEST_CASE(a_home_returns_its_residual_when_the_warm_up_ends, warmed_up_run) {
  BOOST_TEST(report().violations.empty());
  int returned = 0, added = 0;
  for (site_id s = 0; s < 3; ++s)
    edit(site_log(s), [&](const json& line) {
      if (line["t"] == "aggregator" && line["event"] == "returned") {
        BOOST_TEST(line["round"] == 1);
        ++returned;
      }
      if (line["t"] == "aggregator" && line["event"] == "kept") BOOST_TEST(line["round"] == 1);
      added += line["t"] == "mass" && line["event"] == "added" ? 1 : 0;
      return true;
    });
  BOOST_TEST(returned == static_cast<int>(settings.groups));
  BOOST_TEST(added == returned);
}

BOOST_FIXTURE_TEST_CASE(mass_that_a_home_swallows_after_the_warm_up_is_seen, warmed_up_run) {
  swallow(*this, 3);
  BOOST_TEST(finds("mass"));
}

BOOST_AUTO_TEST_CASE(a_former_home_that_keeps_its_residual_is_seen) {
  const auto home_of_group_0 = [&] {
    site_id home = 0;
    edit("coordinator.jsonl", [&](const json& line) {
      home = line["view"]["cuts"][0]["home"];
      return true;
    });
    return home;
  }();
  const site_id other = (home_of_group_0 + 1) % 3;
  const auto begun = [&](bool returned) {
    std::string lines = ledger::aggregator(0, 0, 1, "kept", 2.5), rest = text(site_log(other));
    std::string whole;
    const auto add = [&](const std::string& line) {
      whole += json_lines::seal("{\"site\":" + std::to_string(other) + ",\"incarnation\":1," + line.substr(1));
    };
    const auto first = rest.find('\n') + 1;  // `started`
    whole = rest.substr(0, first);
    add(lines);
    add(ledger::entered(1, 0, 0));
    if (returned) add(ledger::aggregator(0, 0, 1, "returned", 2.5));
    return whole + rest.substr(first);
  };
  const auto whole = begun(false), fair = begun(true);
  const auto told = [&] {
    const auto found = report().violations;
    return std::any_of(found.begin(), found.end(), [](const auto& v) { return v.what.find("ceased to be the home") != std::string::npos; });
  };
  put(site_log(other), whole);
  BOOST_TEST(told());
  put(site_log(other), fair);
  BOOST_TEST(!told());
}

BOOST_AUTO_TEST_CASE(a_record_stored_behind_the_end_of_its_epoch_is_seen) {
  BOOST_TEST(edit(site_log(1), [](json& line) {
               if (line["t"] == "entered" && line["group"] == 1) line["epoch"] = 2;
               return true;
             }) == 1);
  BOOST_TEST(finds("stored_epoch"));
}

BOOST_AUTO_TEST_CASE(a_residual_older_than_what_was_counted_is_seen) {
  double residual = 0;
  std::uint64_t step = 0;
  edit(site_log(2), [&](const json& line) {
    if (line["t"] == "mass" && line["event"] == "counted" && line["group"] == 0 && line["round"] == 2) {
      residual = line["residual"];
      step = line["step"];
    }
    return true;
  });
  BOOST_TEST_REQUIRE(step > 0U);
  const std::string before = text(site_log(2));
  const auto come_back = [&](double with) {
    ledger::mass_line m;
    m.event = "restored";
    m.round = 2;
    m.residual = with;
    m.norm = 1;
    m.step = step;
    std::string whole = before;
    for (const auto& line : {ledger::started(settings.groups), ledger::mass(m)})
      whole += json_lines::seal("{\"site\":2,\"incarnation\":2," + line.substr(1));
    put(site_log(2), whole);
  };
  come_back(residual);
  BOOST_TEST(!finds("restored"));
  come_back(residual + 0.5);
  BOOST_TEST(finds("restored"));
}

BOOST_AUTO_TEST_CASE(an_epoch_that_too_few_sealed_and_a_cut_that_falls_are_seen) {
  const std::string log = "coordinator.jsonl";
  const std::string whole = text(log);
  const std::string first(json_lines::split(whole).front().text);
  auto entry = *parse_coordinator_line(first, log);
  entry.view.number = 2;
  entry.sealed = {0};
  put(log, first + "\n" + to_line(entry));
  BOOST_TEST(finds("seals"));
  BOOST_TEST(finds("committed_stays"));
  entry.sealed = {0, 1};
  entry.view.cuts[0].round = 3;
  auto third = entry;
  third.view.number = 3;
  third.view.cuts[0].round = 2;
  put(log, first + "\n" + to_line(entry) + to_line(third));
  BOOST_TEST(finds("cut_fell"));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_loaded_with_other_bytes_is_seen) {
  const std::string whole = text(site_log(2));
  const auto line = [](const std::string& object) { return json_lines::seal("{\"site\":2,\"incarnation\":1," + object.substr(1)); };
  const auto balanced = [&](const std::string& lines) {
    put(site_log(2), whole + lines);
    return report().balanced();
  };
  const std::string saving = line(ledger::checkpoint("c1", "saving", {1, 2})), durable = line(ledger::checkpoint("c1", "durable", {1, 2})),
                    again = line(ledger::checkpoint("c1", "durable", {1, 3})), loaded = line(ledger::checkpoint_loaded("c1", {1, 2}, 1)),
                    other = line(ledger::checkpoint_loaded("c1", {1, 3}, 1));
  BOOST_TEST(balanced(saving + durable + loaded));
  for (const auto& wrong : {saving + durable + other, saving + other, durable + again}) {
    BOOST_TEST(!balanced(wrong));
    BOOST_TEST(finds("checkpoint_id"));
  }
  // Each save is announced: one that a crash ended before its name was there leaves it to the next one.
  const std::string second = line(ledger::checkpoint("c1", "saving", {1, 3}));
  BOOST_TEST(balanced(saving + second + again + other));
  BOOST_TEST(!balanced(saving + second + again + loaded));
}

BOOST_AUTO_TEST_CASE(only_what_was_saved_is_loaded) {
  const std::string whole = text(site_log(2));
  const auto line = [](int incarnation, const std::string& object) {
    return json_lines::seal("{\"site\":2,\"incarnation\":" + std::to_string(incarnation) + "," + object.substr(1));
  };
  const std::string saving = line(1, ledger::checkpoint("c1", "saving", {1, 2})),
                    durable = line(1, ledger::checkpoint("c1", "durable", {1, 2})),
                    removed = line(1, ledger::checkpoint("c1", "removed", {1, 2})), started = line(2, ledger::started(2)),
                    loaded = line(2, ledger::checkpoint_loaded("c1", {1, 2}, 1));
  const auto balanced = [&](const std::string& lines) {
    put(site_log(2), whole + lines);
    return report().balanced();
  };
  BOOST_TEST(!balanced(started + loaded));
  BOOST_TEST(finds("checkpoint_loaded"));
  BOOST_TEST(balanced(saving + started + loaded));  // killed between the rename and its line
  BOOST_TEST(balanced(saving + durable.substr(0, durable.size() - 9) + "\n" + started + loaded));
  BOOST_TEST(balanced(saving + durable + removed + started + loaded));                  // a power cut brought the folder back
  BOOST_TEST(balanced(started + line(2, ledger::checkpoint_loaded("c1", {1, 2}, 0))));  // saved by a process whose ledger is gone
  BOOST_TEST(report().checkpoints == 0U);
}

BOOST_AUTO_TEST_CASE(what_a_site_vetoed_must_not_be_in_a_record) {
  const std::string whole = text(site_log(1));
  const auto with = [&](step_number step) {
    double residual = 0;
    for (const auto& l : json_lines::split(whole)) {
      const json body = *json_lines::open(l.text, "");
      if (body.at("t") == "mass" && body.at("group") == 0) residual = body.at("residual");
    }
    ledger::mass_line m;
    m.event = "vetoed";
    m.residual = residual;
    m.norm = 1;
    m.step = step;
    return whole + json_lines::seal("{\"site\":1,\"incarnation\":1," + ledger::mass(m).substr(1));
  };
  put(site_log(1), with(1'000'000));
  BOOST_TEST(report().balanced());
  BOOST_TEST(report().vetoes == 1U);
  put(site_log(1), with(1));
  BOOST_TEST(finds("vetoed"));
}

BOOST_AUTO_TEST_CASE(samples_handed_out_behind_the_end_are_seen) {
  const std::string whole = text(site_log(1));
  const auto line = [](const std::string& object) { return json_lines::seal("{\"site\":1,\"incarnation\":1," + object.substr(1)); };
  const lease more{1, 100'000, 100'004};
  const auto work = line(ledger::granted(900, more)) + line(ledger::written_off(more, "x"));
  const auto end = line(ledger::ended("finished"));
  put(site_log(1), whole + end + work + end);
  BOOST_TEST(finds("after_end"));
  put(site_log(1), whole + end + line(ledger::reopened("its last rounds are void")) + work + end);
  BOOST_TEST(report().balanced());
}

/// Whoever changes one number of one record in every log, checksums and all, is found out by what must add up.
BOOST_AUTO_TEST_CASE(any_number_of_a_record_changed_everywhere_is_seen) {
  std::map<std::string, std::string> before;
  for (site_id s = 0; s < 3; ++s) before[site_log(s)] = text(site_log(s));
  for (const char* key : {"group", "round", "epoch", "home", "tokens_total", "weight", "mass", "delta_hash", "anchor_hash", "previous"}) {
    for (const auto& [path, whole] : before) {
      put(path, whole);
      edit(path, [&](json& line) {
        if (!line.contains("record") || line["record"]["group"] != 0 || line["record"]["round"] != 2) return true;
        json& value = line["record"][key];
        if (value.is_string())
          value = std::string(32, 'b');
        else
          value = value.get<double>() + 1;
        if (value.is_number() && std::string(key) != "weight" && std::string(key) != "mass") value = value.get<std::uint64_t>();
        return true;
      });
    }
    BOOST_TEST(!report().balanced(), "a change of \"" << key << "\" went unseen");
  }
}

BOOST_AUTO_TEST_SUITE_END()
