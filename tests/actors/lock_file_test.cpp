#include "actors/lock_file.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

struct lock_folder {
  lock_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "isthmus-lock-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    path = (folder / "lock").string();
  }
  ~lock_folder() { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
  std::string path;
};

/// A child that does this and then stops itself; killed at the end if it is still there.
class stopped_child {
public:
  explicit stopped_child(const std::function<void()>& first) {
    pid_ = ::fork();
    if (pid_ == 0) {
      first();
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    int status = 0;
    BOOST_TEST_REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
    BOOST_TEST_REQUIRE(WIFSTOPPED(status));
  }
  ~stopped_child() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  stopped_child(const stopped_child&) = delete;
  stopped_child& operator=(const stopped_child&) = delete;
  pid_t id() const { return pid_; }
  /// Whether it went on, to its end.
  bool went_on() {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG | WCONTINUED) != pid_) return false;
    if (WIFEXITED(status)) pid_ = -1;
    return true;
  }

private:
  pid_t pid_ = -1;
};

/// As a former version of the program would: locks the file, with its number in it, and keeps it over an exec.
int hold(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0644);
  const auto number = std::to_string(::getpid());
  return ::flock(fd, LOCK_EX) == 0 && ::write(fd, number.data(), number.size()) > 0 ? fd : -1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(lock_file_test)

BOOST_AUTO_TEST_CASE(a_second_one_waits_and_names_the_holder) {
  const lock_folder scratch;
  {
    const lock_file first(scratch.path, 0ms);
    BOOST_TEST(first.held());
    const auto began = std::chrono::steady_clock::now();
    const lock_file second(scratch.path, 200ms);
    BOOST_TEST(!second.held());
    BOOST_TEST((std::chrono::steady_clock::now() - began >= 200ms));
    BOOST_TEST(second.holder_text() == "process " + std::to_string(::getpid()));
  }
  BOOST_TEST(lock_file(scratch.path, 0ms).held());
}

BOOST_AUTO_TEST_CASE(a_stopped_holder_of_ours_is_continued_and_waited_for) {
  const lock_folder scratch;
  stopped_child holder([&] { static_cast<void>(hold(scratch.path)); });  // its end gives the lock back
  const lock_file next(scratch.path, 20s);
  BOOST_TEST(next.held());
  BOOST_TEST(holder.went_on());
}

BOOST_AUTO_TEST_CASE(a_stopped_holder_that_is_another_program_is_left_alone) {
  const lock_folder scratch;
  const pid_t other = ::fork();
  if (other == 0) {
    if (hold(scratch.path) >= 0) ::execl("/bin/sleep", "sleep", "60", nullptr);
    ::_exit(1);
  }
  const auto exe = "/proc/" + std::to_string(other) + "/exe";
  std::error_code gone;
  for (int i = 0; i < 500 && std::filesystem::read_symlink(exe, gone) == std::filesystem::read_symlink("/proc/self/exe"); ++i)
    std::this_thread::sleep_for(10ms);
  ::kill(other, SIGSTOP);
  int status = 0;
  BOOST_TEST_REQUIRE(::waitpid(other, &status, WUNTRACED) == other);
  BOOST_TEST_REQUIRE(WIFSTOPPED(status));
  const lock_file next(scratch.path, 500ms);
  BOOST_TEST(!next.held());
  BOOST_TEST(next.holder() == other);
  BOOST_TEST(::waitpid(other, &status, WNOHANG | WCONTINUED) == 0);  // still stopped
  ::kill(other, SIGKILL);
  ::waitpid(other, &status, 0);
}

BOOST_AUTO_TEST_CASE(a_number_that_is_anothers_by_now_harms_nobody) {
  const lock_folder scratch;
  stopped_child bystander([] {});  // our program, stopped, but it does not hold the file
  const int fd = ::open(scratch.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  BOOST_TEST_REQUIRE(::flock(fd, LOCK_EX) == 0);
  std::ofstream(scratch.path) << bystander.id();
  const lock_file next(scratch.path, 500ms);
  BOOST_TEST(!next.held());
  BOOST_TEST(next.holder() == bystander.id());
  BOOST_TEST(!bystander.went_on());
  ::close(fd);
}

BOOST_AUTO_TEST_SUITE_END()
