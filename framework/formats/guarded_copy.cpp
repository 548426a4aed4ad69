#include "framework/formats/guarded_copy.hpp"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

namespace isthmus {

namespace {

/// What a thread copies from, and where it goes on when that fails.
struct guard {
  const std::byte *begin, *end;
  sigjmp_buf on_fault;
};

/// What was installed before ours, the latest first. Kept to the end of the process: a handler may look at it at any time.
struct action_before {
  struct sigaction action;
  const action_before* older;
};

/// Whom a thread has given a signal to, for as long as he has it.
struct handing_on {
  const action_before* to;
  const void* context;  // of the signal
  const void* frame;    // of the handler that gave it
};

// Static, since a signal's action is the process's, and what a handler knows of its thread lies nowhere else. initial-exec: a handler
// that touches them allocates nothing.
std::mutex installing;
std::atomic<const action_before*> latest{nullptr};
[[gnu::tls_model("initial-exec")]] constinit thread_local std::atomic<guard*> current{nullptr};
[[gnu::tls_model("initial-exec")]] constinit thread_local handing_on given{};
static_assert(std::atomic<guard*>::is_always_lock_free && std::atomic<const action_before*>::is_always_lock_free);

/// By somebody, or as advice of a page that went bad: not because of an instruction, which would fault again.
bool is_sent(const siginfo_t& info) { return info.si_code <= 0 || info.si_code == BUS_MCEERR_AO; }

void restore_default(int signal) {
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  sigaction(signal, &plain, nullptr);
}

/// Runs inside of a handler. What the kernel would have done without ours.
void hand_on(int signal, siginfo_t* info, void* context) {
  const void* frame = __builtin_frame_address(0);
  const handing_on outer = given;
  // Theirs may call ours, which was there before it; then it is its predecessor's turn. A record that is still here because theirs
  // jumped away instead of returning belongs to another signal: with another context, or, on a stack for signals, to the same frame.
  const bool comes_back = outer.to != nullptr && outer.context == context && frame < outer.frame;
  const action_before* to = comes_back ? outer.to->older : latest.load(std::memory_order_acquire);
  const bool ignored = to != nullptr && to->action.sa_handler == SIG_IGN;
  if (ignored && is_sent(*info)) return;
  if (ignored || to == nullptr || to->action.sa_handler == SIG_DFL) {  // the kernel does not let a fault be ignored
    restore_default(signal);
    raise(signal);
    return;
  }
  if ((to->action.sa_flags & SA_RESETHAND) != 0) restore_default(signal);
  given = {to, context, frame};
  if ((to->action.sa_flags & SA_SIGINFO) != 0)
    to->action.sa_sigaction(signal, info, context);
  else
    to->action.sa_handler(signal);
  given = outer;
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
  guard* copy = current.load(std::memory_order_relaxed);
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  if (copy != nullptr && !is_sent(*info) && at >= copy->begin && at < copy->end) siglongjmp(copy->on_fault, 1);
  const int error = errno;
  hand_on(signal, info, context);
  errno = error;
}

bool is_ours(const struct sigaction& action) { return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_sigbus; }

void remember(const struct sigaction& action) {
  const action_before* last = latest.load(std::memory_order_relaxed);
  if (last != nullptr && last->action.sa_handler == action.sa_handler && last->action.sa_flags == action.sa_flags) return;
  latest.store(new action_before{action, last}, std::memory_order_release);
}

/// False: somebody keeps us from it.
bool install_handler() {
  struct sigaction now {};
  if (sigaction(SIGBUS, nullptr, &now) != 0) return false;
  if (is_ours(now)) return true;
  const std::lock_guard lock(installing);
  if (sigaction(SIGBUS, nullptr, &now) != 0) return false;
  if (is_ours(now)) return true;
  remember(now);                // before ours is there, which looks at it
  struct sigaction ours = now;  // its mask, stack and other flags, so that theirs runs as if the kernel had called it
  ours.sa_sigaction = on_sigbus;
  ours.sa_flags = (now.sa_flags & ~static_cast<int>(SA_RESETHAND)) | SA_SIGINFO;
  struct sigaction replaced {};
  if (sigaction(SIGBUS, &ours, &replaced) != 0) return false;
  if (!is_ours(replaced)) remember(replaced);
  return sigaction(SIGBUS, nullptr, &now) == 0 && is_ours(now);  // some libraries take the call and do nothing
}

/// False on a fault. Nothing here has a destructor and nothing changes behind sigsetjmp, since the handler jumps out of the copy.
[[gnu::noinline]] bool copy_unless_fault(const std::byte* from, std::byte* out, std::size_t bytes) {
  guard copy;
  copy.begin = from;
  copy.end = from + bytes;
  if (sigsetjmp(copy.on_fault, 0) != 0) {  // 0: the caller puts the mask back
    current.store(nullptr, std::memory_order_relaxed);
    return false;
  }
  current.store(&copy, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(out, from, bytes);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  current.store(nullptr, std::memory_order_relaxed);
  return true;
}

}  // namespace

bool guarded_copy(const std::byte* mapped, std::span<std::byte> out) {
  if (out.empty()) return true;
  if (!install_handler()) return false;
  sigset_t bus, before;
  sigemptyset(&bus);
  sigaddset(&bus, SIGBUS);
  pthread_sigmask(SIG_UNBLOCK, &bus, &before);  // a fault while it is blocked ends the process, whatever handler there is
  const bool whole = copy_unless_fault(mapped, out.data(), out.size());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return whole;
}

}  // namespace isthmus
