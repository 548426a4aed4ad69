#include "framework/core/storage.hpp"

#include <boost/test/unit_test.hpp>

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

BOOST_AUTO_TEST_SUITE_END()
