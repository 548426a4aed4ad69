#include "framework/formats/byte_source.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <fstream>

using namespace isthmus;
using isthmus::testing::bytes_of;
using isthmus::testing::scratch_folder;

namespace {
template <class T>
void refused(const expected<T>& result, errc code, const std::string& part) {
  BOOST_TEST_REQUIRE(!result.has_value());
  BOOST_TEST(describe(result.error().code) == describe(code), result.error().message);
  BOOST_TEST(result.error().message.find(part) != std::string::npos, result.error().message);
}
}  // namespace

BOOST_AUTO_TEST_SUITE(byte_source_test)

BOOST_AUTO_TEST_CASE(a_file_is_read_at_any_place) {
  scratch_folder folder;
  folder.write("f", "0123456789");
  const auto source = *open_source(folder.path(), "f");
  BOOST_TEST(source->size() == 10U);
  BOOST_TEST((*source->read_bytes(3, 4) == bytes_of("3456")));
  BOOST_TEST((*source->read_bytes(10, 0)).empty());
  refused(source->read_bytes(8, 3), errc::truncated, "f: byte 8: 3 bytes are wanted, the file has 10");
  refused(source->read_bytes(11, 0), errc::truncated, "byte 11");
  refused(source->read_bytes(1, ~std::uint64_t{0}), errc::truncated, "byte 1");  // offset + count wraps; nothing is allocated
  const auto memory = memory_source(bytes_of("0123456789"), "m");
  BOOST_TEST((*memory->read_bytes(3, 4) == bytes_of("3456")));
  refused(memory->read_bytes(8, 3), errc::truncated, "m: byte 8");
}

// With a mapping the first of these would be SIGBUS, the second other numbers than those that were checked.
BOOST_AUTO_TEST_CASE(a_file_that_changes_under_us_is_an_error) {
  scratch_folder folder;
  folder.write("f", std::string(100'000, 'x'));
  const auto source = *open_source(folder.path() + "/f");
  std::filesystem::resize_file(folder.path() + "/f", 10);
  refused(source->read_bytes(50'000, 10), errc::truncated, "shrank from 100000 to 10 bytes");
  refused(source->read_bytes(0, 10), errc::truncated, "shrank");

  folder.write("g", "0123456789");
  const auto other = *open_source(folder.path() + "/g");
  std::filesystem::last_write_time(folder.path() + "/g", std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  refused(other->read_bytes(0, 4), errc::io_failed, "was written to while it was read");

  // A file that takes the name's place is another file: the one that we hold stays as it is.
  folder.write("h", "0123456789");
  const auto held = *open_source(folder.path() + "/h");
  folder.write("new", "abc");
  std::filesystem::rename(folder.path() + "/new", folder.path() + "/h");
  BOOST_TEST((*held->read_bytes(0, 10) == bytes_of("0123456789")));
}

BOOST_AUTO_TEST_CASE(only_plain_files_of_the_folder_are_opened) {
  scratch_folder folder;
  folder.write("real", "0123");
  std::filesystem::create_symlink("real", folder.path() + "/link");
  std::filesystem::create_symlink("/etc/passwd", folder.path() + "/out");
  std::filesystem::create_directory(folder.path() + "/inner");
  BOOST_REQUIRE(mkfifo((folder.path() + "/pipe").c_str(), 0600) == 0);
  BOOST_TEST(open_source(folder.path(), "real").has_value());
  for (const char* name : {"link", "out"})
    refused(open_source(folder.path(), name), errc::refused, "is a symbolic link, which is not followed");
  refused(open_source(folder.path(), "inner"), errc::malformed, "not a regular file");
  refused(open_source(folder.path(), "pipe"), errc::malformed, "not a regular file");  // and does not wait for a writer
  refused(open_source(folder.path(), "missing"), errc::not_found, "missing");
  for (const char* name : {"", ".", "..", "../real", "/etc/passwd", "inner/x"})
    refused(open_source(folder.path(), name), errc::refused, "is not the plain name of a file");
  refused(open_source(folder.path(), std::string("a\0b", 3)), errc::refused, "plain name");
  refused(open_source(folder.path(), std::string(300, 'a')), errc::refused, "plain name");
}

BOOST_AUTO_TEST_SUITE_END()
