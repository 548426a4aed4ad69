#include "framework/formats/byte_source.hpp"
#include "tests/framework/formats/forked.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

using namespace isthmus;
using isthmus::testing::bytes_of;
using isthmus::testing::file_text;
using isthmus::testing::forked;
using isthmus::testing::scratch_folder;

namespace {
template <class T>
void refused(const expected<T>& result, errc code, const std::string& part) {
  BOOST_TEST_REQUIRE(!result.has_value());
  BOOST_TEST(describe(result.error().code) == describe(code), result.error().message);
  BOOST_TEST(result.error().message.find(part) != std::string::npos, result.error().message);
}

bool is_mapped(const std::string& path) { return file_text("/proc/self/maps").find(path) != std::string::npos; }

/// A figure of /proc/self/status, in KiB.
std::int64_t of_process(const std::string& key) {
  std::istringstream status(file_text("/proc/self/status"));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key)) return std::stoll(line.substr(key.size()));
  return -1;
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

// Without care the first of these would be SIGBUS, the second other numbers than those that were checked.
BOOST_AUTO_TEST_CASE(a_file_that_changes_under_us_is_an_error) {
  scratch_folder folder;
  folder.write("f", std::string(100'000, 'x'));
  const auto source = *open_source(folder.path() + "/f");
  std::filesystem::resize_file(folder.path() + "/f", 10);
  refused(source->read_bytes(50'000, 10), errc::truncated, "shrank from 100000 to 10 bytes");
  refused(source->read_bytes(0, 10), errc::truncated, "shrank");

  folder.write("longer", "0123456789");
  const auto grown = *open_source(folder.path() + "/longer");
  std::filesystem::resize_file(folder.path() + "/longer", 100'000);
  refused(grown->read_bytes(0, 10), errc::io_failed, "was written to while it was read");

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

// Each try cuts the file at another moment of a read. What was read before the cut is right, what came later is an error.
BOOST_AUTO_TEST_CASE(a_file_may_be_cut_at_any_moment_of_a_read) {
  constexpr std::uintmax_t bytes = 6 << 20;
  scratch_folder folder;
  const std::string path = folder.path() + "/f";
  folder.write("f", "");
  std::vector<std::byte> out(bytes);
  int cut = 0;
  for (int i = 0; i < 60; ++i) {
    std::filesystem::resize_file(path, bytes);  // one hole
    const auto source = *open_source(path);
    std::atomic<bool> reading = false;
    std::thread other([&] {
      while (!reading) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(i * 30));
      std::filesystem::resize_file(path, i % 3 == 0 ? 0 : bytes / 3);
      if (i % 2 == 0) std::filesystem::resize_file(path, bytes);
    });
    reading = true;
    const auto read = source->read(0, out);
    other.join();
    if (!read) {
      ++cut;
      BOOST_TEST((read.error().code == errc::truncated || read.error().code == errc::io_failed), read.error().message);
    }
    BOOST_TEST(!source->read(0, out).has_value());
  }
  BOOST_TEST(cut > 0);
}

BOOST_AUTO_TEST_CASE(threads_share_a_file) {
  scratch_folder folder;
  std::string text(3'000'000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i % 251);
  folder.write("f", text);
  const auto source = *open_source(folder.path(), "f");
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 200; ++i) {
        const std::size_t offset = (i * 100'003 + t * 7'919) % text.size(), count = std::min<std::size_t>(50'000 + i, text.size() - offset);
        const auto read = source->read_bytes(offset, count);
        right += read && *read == bytes_of(std::string_view(text).substr(offset, count)) ? 1 : 0;
      }
    });
  for (auto& thread : threads) thread.join();
  BOOST_TEST(right == 8 * 200);
}

BOOST_AUTO_TEST_CASE(an_empty_file_is_a_file) {
  scratch_folder folder;
  folder.write("f", "");
  const auto source = *open_source(folder.path(), "f");
  BOOST_TEST(source->size() == 0U);
  BOOST_TEST(*source->read_text(10) == "");
  refused(source->read_bytes(0, 1), errc::truncated, "the file has 0");
  folder.write("f", "0123");
  refused(source->read_bytes(0, 0), errc::io_failed, "was written to");
}

BOOST_AUTO_TEST_CASE(a_file_that_cannot_be_mapped_is_read) {
  constexpr std::uint64_t bytes = std::uint64_t{1} << 32;
  scratch_folder folder;
  const std::string path = folder.path() + "/f";
  folder.write("f", "0123456789");
  std::filesystem::resize_file(path, bytes);
  {
    const auto source = *open_source(path);
    BOOST_TEST(is_mapped(path));
  }
  BOOST_TEST(!is_mapped(path));
  BOOST_TEST(forked([&] {
               const auto room = static_cast<rlim_t>(of_process("VmSize:") * 1024 + (64 << 20));
               const rlimit limit{room, room};
               if (::setrlimit(RLIMIT_AS, &limit) != 0) return 1;
               const auto source = *open_source(path);
               if (is_mapped(path) || *source->read_bytes(3, 4) != bytes_of("3456") || !source->read_bytes(bytes - 5, 5)) return 2;
               std::filesystem::resize_file(path, 100);
               const auto read = source->read_bytes(50, 100);
               return !read && read.error().code == errc::truncated ? 0 : 3;
             }) == "exit 0");
}

BOOST_AUTO_TEST_CASE(what_is_read_does_not_stay_in_memory) {
  constexpr std::size_t bytes = 64 << 20;
  scratch_folder folder;
  folder.write("f", "");
  std::filesystem::resize_file(folder.path() + "/f", bytes);
  const auto source = *open_source(folder.path(), "f");
  std::vector<std::byte> out(bytes);
  const auto before = of_process("RssFile:");
  BOOST_TEST(source->read(0, out).has_value());
  BOOST_TEST(of_process("RssFile:") - before < 8 << 10);
  for (std::size_t at = 0; at < bytes; at += 1 << 20) BOOST_TEST(source->read(at, std::span(out).subspan(at, 1 << 20)).has_value());
  BOOST_TEST(of_process("RssFile:") - before < 8 << 10);
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
