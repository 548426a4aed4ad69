#include "framework/core/storage.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

using namespace isthmus;

namespace {
struct scratch {
  std::string path = (std::filesystem::temp_directory_path() / ("isthmus-storage-" + std::to_string(getpid()))).string();
  std::unique_ptr<storage> disk = *open_disk(path);
  ~scratch() { std::filesystem::remove_all(path); }
};
std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
}  // namespace

BOOST_FIXTURE_TEST_SUITE(storage_test, scratch)

BOOST_AUTO_TEST_CASE(appended_bytes_come_back) {
  {
    auto file = *disk->open_append("a/log");
    BOOST_TEST(file->append(bytes("one ")).has_value());
    BOOST_TEST(file->append(bytes("two")).has_value());
    BOOST_TEST(file->sync().has_value());
  }
  auto read = disk->read("a/log", 100);
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST(std::string(reinterpret_cast<const char*>(read->data()), read->size()) == "one two");
}

BOOST_AUTO_TEST_CASE(paths_cannot_leave_the_root) {
  BOOST_TEST(static_cast<int>(disk->read("../secret", 10).error().code) == static_cast<int>(errc::refused));
  BOOST_TEST(static_cast<int>(disk->read("/etc/passwd", 10).error().code) == static_cast<int>(errc::refused));
}

BOOST_AUTO_TEST_CASE(a_file_over_the_limit_is_refused_before_it_is_read) {
  BOOST_REQUIRE(disk->write_synced("big", bytes("0123456789")).has_value());
  BOOST_TEST(static_cast<int>(disk->read("big", 9).error().code) == static_cast<int>(errc::too_large));
  BOOST_TEST(static_cast<int>(disk->read("none", 9).error().code) == static_cast<int>(errc::not_found));
}

BOOST_AUTO_TEST_CASE(writing_replaces_and_appending_goes_on) {
  BOOST_REQUIRE(disk->write_synced("f", bytes("a long first version")).has_value());
  BOOST_REQUIRE(disk->write_synced("f", bytes("short")).has_value());
  BOOST_REQUIRE((*disk->open_append("f"))->append(bytes(" and more")).has_value());
  BOOST_TEST(disk->read("f", 100)->size() == 14U);
}

BOOST_AUTO_TEST_CASE(folders_are_made_listed_renamed_and_removed) {
  BOOST_REQUIRE(disk->make_folders("x/y").has_value());
  BOOST_REQUIRE(disk->make_folders("x/y").has_value());
  BOOST_REQUIRE(disk->write_synced("x/y/2", bytes("2")).has_value());
  BOOST_REQUIRE(disk->write_synced("x/y/1", bytes("1")).has_value());
  BOOST_TEST(disk->list("x/y") == (std::vector<std::string>{"1", "2"}), boost::test_tools::per_element());
  BOOST_REQUIRE(disk->rename("x/y", "x/z").has_value());
  BOOST_TEST(!disk->exists("x/y"));
  BOOST_REQUIRE(disk->sync_folder("x").has_value());
  BOOST_REQUIRE(disk->sync_folder(".").has_value());
  BOOST_REQUIRE(disk->remove("x").has_value());
  BOOST_TEST(!disk->exists("x/z/1"));
  BOOST_REQUIRE(disk->remove("x").has_value());  // a missing one is no error
  BOOST_TEST(disk->list("x").empty());
  BOOST_TEST(!disk->sync_folder("x").has_value());
  BOOST_TEST(!disk->rename("x", "w").has_value());
}

BOOST_AUTO_TEST_CASE(links_folders_and_pipes_are_no_files) {
  namespace fs = std::filesystem;
  BOOST_REQUIRE(disk->write_synced("real", bytes("text")).has_value());
  fs::create_symlink("real", path + "/link");
  BOOST_TEST(!disk->read("link", 100).has_value());
  BOOST_TEST(!disk->write_synced("link", bytes("over")).has_value());
  BOOST_TEST(!disk->open_append("link").has_value());
  BOOST_TEST(disk->read("real", 100)->size() == 4U);
  BOOST_REQUIRE(disk->make_folders("folder").has_value());
  BOOST_TEST(!disk->read("folder", 100).has_value());
  BOOST_REQUIRE(mkfifo((path + "/pipe").c_str(), 0600) == 0);
  BOOST_TEST(disk->read("pipe", 100).error().message.find("not a regular file") != std::string::npos);  // and does not hang
}

BOOST_AUTO_TEST_CASE(no_call_leaves_the_root) {
  for (const char* outside : {"../x", "a/../../x", "/tmp/x", "a/.."}) {
    BOOST_TEST(!disk->open_append(outside).has_value());
    BOOST_TEST(!disk->write_synced(outside, bytes("x")).has_value());
    BOOST_TEST(!disk->make_folders(outside).has_value());
    BOOST_TEST(!disk->rename(outside, "b").has_value());
    BOOST_TEST(!disk->rename("b", outside).has_value());
    BOOST_TEST(!disk->sync_folder(outside).has_value());
    BOOST_TEST(!disk->remove(outside).has_value());
    BOOST_TEST(!disk->exists(outside));
    BOOST_TEST(disk->list(outside).empty());
  }
}

BOOST_AUTO_TEST_CASE(errors_name_the_file_and_the_reason) {
  const auto missing = disk->read("no/such", 10);
  BOOST_TEST(missing.error().message.find("no/such: No such file or directory") != std::string::npos);
  if (std::filesystem::exists("/dev/full")) {
    auto devices = *open_disk("/dev");
    const auto full = devices->write_synced("full", bytes("x"));
    BOOST_TEST((full.error().code == errc::disk_full));
    BOOST_TEST(full.error().message.find("cannot write /dev/full: no space left, 1 bytes wanted") != std::string::npos);
  }
}

BOOST_AUTO_TEST_SUITE_END()
