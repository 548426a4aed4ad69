#include "framework/metrics/run_store.hpp"

#include <boost/test/unit_test.hpp>
#include <sqlite3.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace isthmus;
namespace fs = std::filesystem;

namespace {

struct scratch {
  scratch() {
    std::string name = (fs::temp_directory_path() / "isthmus-store-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    path = (folder / run_store_name).string();
  }
  ~scratch() { fs::remove_all(folder); }
  fs::path folder;
  std::string path;
};

sample_row sample(site_id site, step_number step, double loss) { return {site, step, step * 1024, loss, 1e-3, 0.5, 1000, double(step)}; }

run_store_reader must_open(const std::string& path) {
  auto reader = run_store_reader::open(path);
  BOOST_TEST_REQUIRE(reader.has_value(), (reader ? "" : reader.error().message));
  return std::move(*reader);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(run_store)

BOOST_AUTO_TEST_CASE(every_row_comes_back) {
  const scratch s;
  {
    run_store_writer writer(s.path);
    writer.put(run_row{"q-1", "q", "abcd", "running", "", 1000, 30, 5'000'000, 1, 2, 42, 3.5, 1, 2});
    writer.put(site_row{1, "beta", 2, "training", 1, 1, 10, 10240, 3, 4, 5.5, 900, 7});
    writer.put(site_row{0, "alpha", 1, "training", 1, 1, 11, 11264, 3, 4, 5.4, 901, 7});
    writer.put(sample(0, 1, 7.5));
    writer.put(sample(0, 2, std::nan("")));
    writer.put(round_row{2, 4, 3, 1, "0,1,2", 30720, 1234, 0.5, "00ff", 9});
    writer.put(link_row{0, 1, "up", 0.001, 1e6, 1, 2, 3, 4, 5, 6, 9});
    writer.put(event_row{0, "alpha", "joined", "epoch 3", 8});
    writer.put(event_row{0, "launcher", "fault", "SIGKILL to \xff gamma", 9});
    writer.put(checkpoint_row{1, 5, 50, "sites/beta/checkpoints/5", 1u << 20, 0.25, 9});
    writer.put(evaluation_row{1, 10, 307200, "vim", 4.25, 6.5, 32768, 9});
    BOOST_TEST(writer.flush());
    BOOST_TEST(writer.health().written == 11U);
  }
  const auto reader = must_open(s.path);
  BOOST_TEST(reader.run()->name == "q");
  BOOST_TEST(reader.run()->trained_seconds == 3.5);
  BOOST_TEST_REQUIRE(reader.sites()->size() == 2U);
  BOOST_TEST(reader.sites()->at(0).name == "alpha");
  BOOST_TEST(reader.sites()->at(1).incarnation == 2U);
  BOOST_TEST(reader.samples()->at(0).loss == 7.5);
  BOOST_TEST(std::isnan(reader.samples()->at(1).loss));
  BOOST_TEST(reader.samples(1.5)->size() == 1U);
  BOOST_TEST(reader.rounds()->at(0).contributors == "0,1,2");
  BOOST_TEST(reader.rounds(4)->empty());
  BOOST_TEST(reader.links()->at(0).reconnects == 6U);
  BOOST_TEST(reader.events()->at(0).text == "epoch 3");
  BOOST_TEST(reader.events(1)->at(0).who == "launcher");
  BOOST_TEST(reader.checkpoints()->at(0).bytes == 1u << 20);
  BOOST_TEST(reader.evaluations()->at(0).unigram_entropy == 6.5);
}

BOOST_AUTO_TEST_CASE(rows_with_one_key_replace_each_other) {
  const scratch s;
  run_store_writer writer(s.path);
  for (int i = 0; i < 3; ++i) {
    writer.put(sample(0, 7, 9.0 - i));
    BOOST_TEST(writer.flush());
  }
  const auto rows = must_open(s.path).samples();
  BOOST_TEST_REQUIRE(rows->size() == 1U);
  BOOST_TEST(rows->at(0).loss == 7.0);
}

BOOST_AUTO_TEST_CASE(several_processes_write_one_store) {
  const scratch s;
  constexpr unsigned writers = 4, rows = 200;
  std::vector<pid_t> children;
  for (unsigned site = 0; site < writers; ++site) {
    const pid_t child = ::fork();
    if (child == 0) {
      run_store_writer writer(s.path);
      for (unsigned step = 1; step <= rows; ++step) {
        writer.put(sample(site, step, 1.0));
        if (step % 10 == 0) writer.flush();
      }
      for (int i = 0; i < 100 && !writer.flush(); ++i) ::usleep(10'000);
      ::_exit(writer.health().waiting == 0 ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const auto child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    BOOST_TEST(status == 0);
  }
  BOOST_TEST(must_open(s.path).samples()->size() == writers * rows);
}

BOOST_AUTO_TEST_CASE(a_store_is_readable_after_its_writer_was_killed) {
  const scratch s;
  const pid_t child = ::fork();
  if (child == 0) {
    run_store_writer writer(s.path);
    for (unsigned step = 1;; ++step) {
      writer.put(sample(0, step, 1.0));
      writer.flush();
      if (step == 50) std::ofstream(s.folder / "ready") << "";
    }
  }
  for (int i = 0; i < 500 && !fs::exists(s.folder / "ready"); ++i) ::usleep(10'000);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  BOOST_TEST(must_open(s.path).samples()->size() >= 50U);
  run_store_writer writer(s.path);  // and goes on
  writer.put(sample(1, 1, 2.0));
  BOOST_TEST(writer.flush());
}

BOOST_AUTO_TEST_CASE(a_locked_store_costs_time_and_no_rows) {
  const scratch s;
  run_store_writer writer(s.path);
  writer.put(sample(0, 1, 1));
  BOOST_TEST_REQUIRE(writer.flush());
  sqlite3* other = nullptr;
  BOOST_TEST_REQUIRE(sqlite3_open(s.path.c_str(), &other) == SQLITE_OK);
  BOOST_TEST_REQUIRE(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
  writer.put(sample(0, 2, 1));
  BOOST_TEST(!writer.flush());
  BOOST_TEST(writer.health().waiting == 1U);
  BOOST_TEST(writer.health().last_error.find("locked") != std::string::npos);
  BOOST_TEST(must_open(s.path).samples()->size() == 1U);  // reading goes on beside a writer
  sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr);
  sqlite3_close(other);
  BOOST_TEST(writer.flush());
  BOOST_TEST(must_open(s.path).samples()->size() == 2U);
}

BOOST_AUTO_TEST_CASE(a_store_that_cannot_be_written_never_stops_the_writer) {
  const scratch s;
  fs::create_directory(s.path);  // a folder stands where the store should be
  run_store_writer writer(s.path);
  for (unsigned i = 1; i <= 25'000; ++i) writer.put(sample(0, i, 1));
  BOOST_TEST(!writer.flush());
  const auto health = writer.health();
  BOOST_TEST(health.waiting == 20'000U);
  BOOST_TEST(health.dropped == 5'000U);
  BOOST_TEST(!health.last_error.empty());
  fs::remove(s.path);  // the obstacle goes away
  BOOST_TEST(writer.flush());
  BOOST_TEST(writer.health().last_error.empty());
  BOOST_TEST(must_open(s.path).samples()->size() == 20'000U);
}

BOOST_AUTO_TEST_CASE(a_damaged_store_is_refused_and_set_aside) {
  const scratch s;
  {
    run_store_writer writer(s.path);
    for (unsigned i = 1; i <= 2000; ++i) writer.put(sample(0, i, 1));
    BOOST_TEST_REQUIRE(writer.flush());
  }
  BOOST_TEST(!set_aside_when_damaged(s.path));
  {
    std::fstream file(s.path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    for (int i = 0; i < 40'000; ++i) file.put('\x5a');
  }
  const auto reader = run_store_reader::open(s.path);
  const auto rows = reader ? reader->samples() : expected<std::vector<sample_row>>(reader.failure());
  BOOST_TEST((!rows && rows.error().code == errc::malformed));
  run_store_writer writer(s.path);
  writer.put(sample(3, 1, 1));
  writer.flush();  // may or may not work; must not throw
  BOOST_TEST(set_aside_when_damaged(s.path));
  BOOST_TEST(fs::exists(s.path + ".damaged-1"));
  BOOST_TEST(!set_aside_when_damaged(s.path));
}

BOOST_AUTO_TEST_CASE(what_is_no_store_is_refused) {
  const scratch s;
  const auto code = [](const std::string& path) { return run_store_reader::open(path).error().code; };
  BOOST_TEST((code(s.path) == errc::not_found));
  BOOST_TEST((code(s.folder.string()) == errc::malformed));
  std::ofstream(s.path) << "this is text and no database at all";
  BOOST_TEST((code(s.path) == errc::malformed));
  BOOST_TEST(set_aside_when_damaged(s.path));
  std::ofstream(s.path) << "";
  BOOST_TEST((code(s.path) == errc::malformed));
  fs::remove(s.path);
  BOOST_TEST_REQUIRE(::mkfifo(s.path.c_str(), 0600) == 0);
  BOOST_TEST((code(s.path) == errc::malformed));
}

BOOST_AUTO_TEST_CASE(a_newer_store_is_left_alone) {
  const scratch s;
  sqlite3* db = nullptr;
  sqlite3_open(s.path.c_str(), &db);
  sqlite3_exec(db, "PRAGMA user_version = 99", nullptr, nullptr, nullptr);
  sqlite3_close(db);
  BOOST_TEST((run_store_reader::open(s.path).error().code == errc::unsupported));
  run_store_writer writer(s.path);
  writer.put(sample(0, 1, 1));
  BOOST_TEST(!writer.flush());
  BOOST_TEST(writer.health().last_error.find("newer") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_store_in_a_read_only_folder_is_readable) {
  const scratch s;
  {
    run_store_writer writer(s.path);
    writer.put(sample(0, 1, 1));
    BOOST_TEST_REQUIRE(writer.flush());
  }
  ::chmod(s.folder.c_str(), 0500);
  const auto reader = run_store_reader::open(s.path);
  BOOST_TEST((reader.has_value() && reader->samples()->size() == 1U));
  ::chmod(s.folder.c_str(), 0700);
}

BOOST_AUTO_TEST_CASE(a_store_whose_newest_rows_cannot_be_read_is_told) {
  const scratch s;
  const auto copy = (s.folder / "copy.sqlite").string();
  {
    run_store_writer writer(s.path);
    writer.put(sample(0, 1, 1));
    BOOST_TEST_REQUIRE(writer.flush());
    fs::copy_file(s.path, copy);  // as a killed launcher leaves them
    fs::copy_file(s.path + "-wal", copy + "-wal");
  }
  fs::create_symlink("nowhere/shm", copy + "-shm");  // as in a read-only place, for root too: SQLite cannot make the file
  const auto reader = run_store_reader::open(copy);
  BOOST_TEST_REQUIRE(!reader.has_value());
  BOOST_TEST((reader.error().code == errc::io_failed));
  BOOST_TEST(reader.error().message.find("copy the folder to a writable place") != std::string::npos, reader.error().message);
  fs::remove(copy + "-shm");
  BOOST_TEST(must_open(copy).samples()->size() == 1U);
}

BOOST_AUTO_TEST_CASE(paths_with_odd_characters) {
  const scratch s;
  const auto odd = s.folder / "a?b#c%20d e";
  fs::create_directory(odd);
  const auto path = (odd / run_store_name).string();
  run_store_writer writer(path);
  writer.put(sample(0, 1, 1));
  BOOST_TEST(writer.flush());
  BOOST_TEST(must_open(path).samples()->size() == 1U);
}

BOOST_AUTO_TEST_SUITE_END()
