#include "framework/formats/guarded_copy.hpp"

#include "tests/framework/formats/forked.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace isthmus;
using isthmus::testing::forked;

namespace {

const std::string killed = fmt::format("signal {}", SIGBUS);

std::size_t page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// A mapped file of ones that lost its pages from `kept` on.
class shrunken_file {
public:
  explicit shrunken_file(std::size_t kept = 1, std::size_t pages = 4) : bytes_(pages * page()) {
    const int file = ::memfd_create("shrunken", MFD_CLOEXEC);
    const std::vector<std::byte> ones(bytes_, std::byte{1});
    if (file < 0 || ::write(file, ones.data(), bytes_) != static_cast<ssize_t>(bytes_)) throw std::runtime_error("no memory file");
    data_ = static_cast<std::byte*>(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
    if (::ftruncate(file, static_cast<off_t>(kept * page())) != 0) throw std::runtime_error("not truncated");
    ::close(file);
  }
  shrunken_file(const shrunken_file&) = delete;
  shrunken_file& operator=(const shrunken_file&) = delete;
  ~shrunken_file() { ::munmap(data_, bytes_); }

  const std::byte* data() const { return data_; }
  std::byte* lost() const { return data_ + bytes_ - 5; }
  bool copy(std::size_t offset, std::size_t bytes) const {
    std::vector<std::byte> out(bytes);
    const bool copied = guarded_copy(data_ + offset, out);
    if (copied && std::ranges::count(out, std::byte{1}) != std::ssize(out)) throw std::runtime_error("other bytes");
    return copied;
  }
  /// Of what is there and of what is not.
  bool is_guarded() const { return copy(0, page()) && !copy(1, bytes_ - 1); }
  /// Reads without a guard what is not there.
  void touch() const { static_cast<void>(*static_cast<const volatile std::byte*>(lost())); }

private:
  std::size_t bytes_;
  std::byte* data_;
};

bool is_blocked(int signal) {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  return sigismember(&mask, signal) == 1;
}

using handler = void (*)(int, siginfo_t*, void*);

struct sigaction install(handler theirs, int flags = 0) {
  struct sigaction action {
  }, before{};
  action.sa_sigaction = theirs;
  action.sa_flags = SA_SIGINFO | flags;
  sigaddset(&action.sa_mask, SIGUSR2);
  ::sigaction(SIGBUS, &action, &before);
  return before;
}

// What handlers know, in a process of their own.
const void* expected_address = nullptr;
sigjmp_buf back;
struct sigaction replaced;
volatile sig_atomic_t calls = 0;

/// 42: called as the kernel would call it.
void ends_with_42(int signal, siginfo_t* info, void* context) {
  const bool right = signal == SIGBUS && info->si_addr == expected_address && context != nullptr && is_blocked(SIGUSR2);
  ::_exit(right ? 42 : 1);
}
void jumps_back(int, siginfo_t*, void*) { siglongjmp(back, 1); }
[[gnu::noinline]] bool is_caught(const shrunken_file& file) {
  if (sigsetjmp(back, 1) != 0) return true;
  file.touch();
  return false;
}
/// From further down the stack.
[[gnu::noinline]] bool is_caught_below(const shrunken_file& file) {
  std::byte room[1 << 14];
  const volatile std::byte* used = room;
  room[5] = std::byte{1};
  const bool caught = is_caught(file);
  return caught && used[5] == std::byte{1};
}
void counts(int, siginfo_t*, void*) { calls = calls + 1; }
void plain(int signal) { ::_exit(signal == SIGBUS ? 43 : 1); }
void calls_replaced(int signal, siginfo_t* info, void* context) {
  calls = calls + 1;
  if (calls > 2) ::_exit(2);
  replaced.sa_sigaction(signal, info, context);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(guarded_copy_test)

BOOST_AUTO_TEST_CASE(pages_that_are_lost_are_a_fault) {
  const shrunken_file file(2);
  BOOST_TEST(file.copy(0, 2 * page()));
  BOOST_TEST(file.copy(0, 0));
  for (int i = 0; i < 100; ++i) {  // the first would leave SIGBUS blocked, and the second end the process
    BOOST_TEST(!file.copy(100, 3 * page()));
    BOOST_TEST(!file.copy(2 * page(), 1));
    BOOST_TEST(!file.copy(4 * page() - 1, 1));
  }
  BOOST_TEST(!is_blocked(SIGBUS));
}

BOOST_AUTO_TEST_CASE(a_thread_that_blocks_all_signals_is_guarded) {
  const shrunken_file file;
  bool guarded = false, blocked = false, other_blocked = false;
  std::thread([&] {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    guarded = file.is_guarded() && file.is_guarded();
    blocked = is_blocked(SIGBUS);
    other_blocked = is_blocked(SIGTERM);
  }).join();
  BOOST_TEST(guarded);
  BOOST_TEST(blocked);
  BOOST_TEST(other_blocked);
}

BOOST_AUTO_TEST_CASE(threads_copy_at_once) {
  const shrunken_file file(2);
  std::atomic<int> guarded = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) guarded += file.is_guarded() ? 1 : 0;
    });
  for (auto& thread : threads) thread.join();
  BOOST_TEST(guarded == 8 * 500);
}

BOOST_AUTO_TEST_CASE(a_handler_from_before_gets_what_is_not_ours) {
  const shrunken_file ours, other;
  expected_address = other.lost();
  const auto after_a_copy = [&](const auto& set_up) {
    return forked([&] {
      set_up();
      if (!ours.is_guarded()) return 3;
      other.touch();
      return 4;
    });
  };
  BOOST_TEST(after_a_copy([] { install(ends_with_42); }) == "exit 42");
  BOOST_TEST(after_a_copy([] { ::signal(SIGBUS, plain); }) == "exit 43");
  BOOST_TEST(after_a_copy([] {}) == killed);
  BOOST_TEST(after_a_copy([] { ::signal(SIGBUS, SIG_IGN); }) == killed);             // as without us: a fault is never ignored
  BOOST_TEST(after_a_copy([] { install(counts, SA_RESETHAND); }) == killed);         // returns once, then the default has its turn
  BOOST_TEST(after_a_copy([] { install(ends_with_42, SA_NODEFER); }) == "exit 42");  // flags and mask of theirs, as above
  BOOST_TEST(forked([&] {
               install(ends_with_42);
               return guarded_copy(ours.data(), {other.lost(), 1}) ? 3 : 4;  // where it copies to is not ours
             }) == "exit 42");
}

BOOST_AUTO_TEST_CASE(a_handler_that_jumps_away_gets_every_signal) {
  const shrunken_file ours, other;
  const auto caught = [&](int flags) {
    return forked([&, flags] {
      static std::byte stack[1 << 16];
      stack_t signals{};
      signals.ss_sp = stack;
      signals.ss_size = sizeof stack;
      ::sigaltstack(&signals, nullptr);
      install(jumps_back, flags);
      for (int i = 0; i < 5; ++i)
        if (!ours.is_guarded() || !is_caught(other) || !is_caught_below(other) || !is_caught(other)) return 3;
      return 0;
    });
  };
  BOOST_TEST(caught(0) == "exit 0");
  BOOST_TEST(caught(SA_ONSTACK) == "exit 0");
}

BOOST_AUTO_TEST_CASE(a_signal_that_somebody_sends_is_not_ours) {
  const shrunken_file ours;
  const auto sent = [&](void (*action)(int)) {
    return forked([&, action] {
      ::signal(SIGBUS, action);
      if (!ours.is_guarded()) return 3;
      ::kill(::getpid(), SIGBUS);
      return ours.is_guarded() ? 0 : 4;
    });
  };
  BOOST_TEST(sent(SIG_DFL) == killed);
  BOOST_TEST(sent(SIG_IGN) == "exit 0");
  BOOST_TEST(sent(plain) == "exit 43");
}

BOOST_AUTO_TEST_CASE(a_handler_that_comes_later_takes_nothing_from_us) {
  const shrunken_file ours, other;
  expected_address = other.lost();
  BOOST_TEST(forked([&] {
               if (!ours.is_guarded()) return 3;
               install(ends_with_42);
               if (!ours.is_guarded()) return 4;
               install(counts);
               ::signal(SIGBUS, SIG_DFL);
               install(ends_with_42);
               if (!ours.is_guarded()) return 5;
               other.touch();
               return 6;
             }) == "exit 42");
}

BOOST_AUTO_TEST_CASE(handlers_that_call_each_other_come_to_an_end) {
  const shrunken_file ours, other;
  expected_address = other.lost();
  const auto in_a_circle = [&](bool one_before) {
    return forked([&, one_before] {
      if (one_before) install(ends_with_42);
      if (!ours.is_guarded()) return 3;
      replaced = install(calls_replaced);  // calls ours, above which ours comes to lie
      if (!ours.is_guarded()) return 4;
      other.touch();
      return 5;
    });
  };
  BOOST_TEST(in_a_circle(false) == killed);
  BOOST_TEST(in_a_circle(true) == "exit 42");
}

BOOST_AUTO_TEST_SUITE_END()
