// What a checker makes of ledgers that are torn, damaged, missing or still growing.
#include "framework/rounds/json_lines.hpp"
#include "tests/framework/rounds/written_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

using namespace isthmus;
using namespace isthmus::testing;

namespace {

/// A run folder of which one file is shorter the first time it is read: read early, while it grows.
class growing final : public storage {
public:
  growing(const storage& whole, std::string path, std::size_t at_first) : whole_(whole), path_(std::move(path)), at_first_(at_first) {}
  expected<std::vector<std::byte>> read(const std::string& path, std::size_t bytes_max) const override {
    auto bytes = whole_.read(path, bytes_max);
    if (bytes && path == path_ && !std::exchange(read_once_, true)) bytes->resize(at_first_);
    return bytes;
  }
  bool exists(const std::string& path) const override { return whole_.exists(path); }
  std::vector<std::string> list(const std::string& path) const override { return whole_.list(path); }
  expected<std::unique_ptr<append_file>> open_append(const std::string&) override { return read_only(); }
  expected<void> write_synced(const std::string&, std::span<const std::byte>) override { return read_only(); }
  expected<void> make_folders(const std::string&) override { return read_only(); }
  expected<void> rename(const std::string&, const std::string&) override { return read_only(); }
  expected<void> sync_folder(const std::string&) override { return read_only(); }
  expected<void> remove(const std::string&) override { return read_only(); }

private:
  static unexpected read_only() { return fail(errc::refused, "read only"); }
  const storage& whole_;
  std::string path_;
  std::size_t at_first_;
  mutable bool read_once_ = false;
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(ledger_files_test, written_run)

BOOST_AUTO_TEST_CASE(a_torn_last_line_is_accepted_and_a_torn_middle_is_not) {
  const std::string whole = text(site_log(1));
  put(site_log(1), whole.substr(0, whole.size() - 7));
  BOOST_TEST(report().torn_lines == 1U);
  const std::size_t middle = whole.find('\n', whole.size() / 2);
  put(site_log(1), whole.substr(0, middle - 9) + whole.substr(middle));
  BOOST_TEST(finds("readable"));
}

// A process that loses its power before its first line is on disk leaves another torn one behind the torn one that it found.
BOOST_AUTO_TEST_CASE(torn_lines_in_a_row_are_those_of_several_crashes_if_a_process_starts_behind_them) {
  const std::string whole = text(site_log(1));
  const auto line = [](const char* rest) { return json_lines::seal(std::string(R"({"site":1,"incarnation":9,)") + rest); };
  const std::string torn = line(R"("t":"granted","step":901,"lease":[1,100000,100004]})").substr(0, 60) + "\n{\"si\n";
  put(site_log(1), whole + torn + line(R"("t":"started","groups":2})") + line(R"("t":"ended","reason":"x"})"));
  BOOST_TEST(report().torn_lines == 2U);
  BOOST_TEST(report().balanced());
  put(site_log(1), whole + torn + line(R"("t":"ended","reason":"x"})"));
  BOOST_TEST(finds("readable"));
}

BOOST_AUTO_TEST_CASE(a_flipped_digit_is_seen) {
  std::string whole = text(site_log(0));
  const std::size_t at = whole.find("\"tokens\":", whole.size() / 3) + 9;
  whole[at] = whole[at] == '9' ? '8' : static_cast<char>(whole[at] + 1);
  put(site_log(0), whole);
  BOOST_TEST(finds("readable"));
}

BOOST_AUTO_TEST_CASE(a_whole_line_of_the_coordinator_that_is_damaged_is_seen_also_at_the_end) {
  std::string whole = text("coordinator.jsonl");
  whole[whole.size() / 2] ^= 1;
  put("coordinator.jsonl", whole);
  BOOST_TEST(finds("readable"));
}

BOOST_AUTO_TEST_CASE(a_log_read_too_early_is_no_violation_and_a_violation_stays_one) {
  int seen_too_early = 0;
  for (const site_id late : {0U, 1U, 2U}) {
    const std::string all = text(site_log(late));
    for (std::size_t part = 1; part < 10; ++part) {
      const std::size_t at_first = all.find('\n', all.size() * part / 10) + 1;
      BOOST_TEST(check_growing_ledgers(growing(*files, site_log(late), at_first))->balanced(), "site " << late << " at " << at_first);
    }
    seen_too_early += check_ledgers(growing(*files, site_log(late), all.find('\n', all.size() / 2) + 1))->balanced() ? 0 : 1;
  }
  BOOST_TEST(seen_too_early > 0);
  BOOST_TEST(edit(site_log(2), [&](nlohmann::json& line) { return line.at("t") != "stored"; }) > 0);
  BOOST_TEST(!check_growing_ledgers(*files)->balanced());
}

BOOST_AUTO_TEST_CASE(logs_that_are_gone_are_counted_and_without_the_coordinators_nothing_is_proved) {
  BOOST_TEST(report().lost_logs == 0U);
  BOOST_TEST_REQUIRE(files->remove(site_log(1)).has_value());
  BOOST_TEST(report().balanced());
  BOOST_TEST(report().lost_logs == 1U);
  BOOST_TEST_REQUIRE(files->remove("coordinator.jsonl").has_value());
  const auto nothing = check_ledgers(*files);
  BOOST_TEST_REQUIRE(!nothing.has_value());
  BOOST_TEST(nothing.error().message.starts_with("coordinator.jsonl has no epoch or is missing"), nothing.error().message);
}

// A site that was away learns from the state that it copies that its contribution counts; then all who had written that record down are
// wiped.
BOOST_AUTO_TEST_CASE(a_contribution_whose_record_was_lost_with_its_logs_is_no_violation) {
  const auto forget_round_2 = [](nlohmann::json& line) {
    return !line.contains("record") || !line["record"].is_object() || line["record"].at("round") != 2 || line["record"].at("group") != 0;
  };
  BOOST_TEST(edit(site_log(0), forget_round_2) > 0);
  BOOST_TEST_REQUIRE(files->remove(site_log(1)).has_value());
  BOOST_TEST(edit(site_log(2), forget_round_2) > 0);
  BOOST_TEST(report().lost_logs == 1U);
  BOOST_TEST(report().unproved_rounds == 1U);
  BOOST_TEST(!finds("mass"));
  put(site_log(1), json_lines::seal(R"({"site":1,"incarnation":1,"t":"started","groups":2})") +
                       json_lines::seal(R"({"site":1,"incarnation":1,"t":"entered","epoch":1,"group":0,"round":0})"));
  BOOST_TEST(finds("mass"));  // nothing is lost, and still nobody has it
}

BOOST_AUTO_TEST_CASE(lines_without_fields_are_an_error_not_a_crash) {
  const std::string whole = text(site_log(0));
  for (const char* line :
       {R"({"site":0,"incarnation":1,"t":"granted"})", R"({"site":0,"incarnation":1,"t":"applied","record":{"group":"x"}})",
        R"({"site":0,"incarnation":1,"t":"granted","step":1,"lease":[0,9,9]})",
        R"({"site":0,"incarnation":1,"t":"returned","lease":[0,-1,4]})",
        R"({"site":0,"incarnation":1,"t":"mass","event":"formed","group":0})", R"({"site":0,"incarnation":1,"t":"committed"})",
        R"({"site":0,"incarnation":1,"t":"started","groups":"two"})", R"({"site":0,"incarnation":1,"t":"checkpoint","id":7})",
        R"({"site":"x","incarnation":1,"t":"ended"})", R"({"site":0,"incarnation":1})"}) {
    put(site_log(0), whole + json_lines::seal(line) + json_lines::seal(R"({"site":0,"incarnation":1,"t":"ended","reason":"x"})"));
    const auto found = report();
    BOOST_TEST_REQUIRE(!found.violations.empty(), line);
    const auto place = site_log(0) + ":" + std::to_string(std::count(whole.begin(), whole.end(), '\n') + 1);
    BOOST_TEST(found.violations.front().where == place);
    BOOST_TEST(found.violations.front().rule == "readable");
  }
  put(site_log(0), "not json\n{}\n[]\n\n");
  BOOST_TEST(check_ledgers(*files).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
