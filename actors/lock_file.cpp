#include "actors/lock_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace isthmus::actors {

namespace {

namespace fs = std::filesystem;
constexpr std::chrono::milliseconds again{100};

std::string proc(pid_t pid, const char* what) { return "/proc/" + std::to_string(pid) + "/" + what; }

bool is_stopped(pid_t pid) {
  std::ifstream file(proc(pid, "stat"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto name_end = text.rfind(") ");
  return name_end != std::string::npos && name_end + 2 < text.size() && text[name_end + 2] == 'T';
}

bool runs_our_binary(pid_t pid) {
  std::error_code error;
  const auto theirs = fs::read_symlink(proc(pid, "exe"), error);
  return !error && theirs == fs::read_symlink("/proc/self/exe", error) && !error;
}

/// A number in a file may be old and by now another process's: this one has that very file open.
bool has_open(pid_t pid, int fd) {
  struct stat ours {};
  if (::fstat(fd, &ours) != 0) return false;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(proc(pid, "fd"), error)) {
    struct stat theirs {};
    if (::stat(entry.path().c_str(), &theirs) == 0 && theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino) return true;
  }
  return false;
}

}  // namespace

lock_file::lock_file(const std::string& path, std::chrono::milliseconds patience)
    : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  if (fd_ < 0) return;
  for (; !(held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0); patience -= again) {
    look_at_holder();
    if (patience.count() <= 0) return;
    std::this_thread::sleep_for(again);
  }
  const auto pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0) {}  // the lock holds all the same
}

lock_file::~lock_file() {
  if (fd_ >= 0) ::close(fd_);
}

void lock_file::look_at_holder() {
  char text[32] = {};
  holder_ = ::pread(fd_, text, sizeof text - 1, 0) > 0 ? static_cast<pid_t>(std::atol(text)) : 0;
  if (holder_ > 1 && holder_ != ::getpid() && is_stopped(holder_) && runs_our_binary(holder_) && has_open(holder_, fd_))
    ::kill(holder_, SIGCONT);
}

std::string lock_file::holder_text() const { return holder_ > 0 ? "process " + std::to_string(holder_) : "an unknown process"; }

}  // namespace isthmus::actors
