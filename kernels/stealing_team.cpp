#include "kernels/stealing_team.hpp"

#include "kernels/scratch_block.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <thread>

namespace isthmus::kernels {

namespace {

constexpr std::uint32_t inside_mask = 0xff, open_bit = 0x100, job_step = 0x200;
constexpr int spins = 1500;  // about 60 microseconds: what lies between two jobs of a pass is shorter, and sleeping costs more

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}
void sleep_while(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}
void wake_all(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}
constexpr std::uint64_t range(std::uint64_t begin, std::uint64_t end) { return begin << 32 | end; }

}  // namespace

struct stealing_team::block : scratch_block {};

struct alignas(128) stealing_team::worker {
  std::atomic<std::uint64_t> tiles{0};  // begin in the upper half, end in the lower
  scratch_block scratch;
  std::size_t asked = 0;  // bytes of scratch, at most
  std::thread thread;     // none for the caller
};

stealing_team::stealing_team(int threads) : shared_(std::make_unique<block>()) {
  if (threads < 1 || threads > 250) throw std::invalid_argument("stealing_team: threads must lie in 1 ... 250");
  for (int i = 0; i < threads; ++i) workers_.push_back(std::make_unique<worker>());
  for (int i = 1; i < threads; ++i) workers_[static_cast<std::size_t>(i)]->thread = std::thread([this, i] { serve(i); });
}

stealing_team::~stealing_team() {
  stop_.store(true);
  state_.fetch_add(job_step);
  wake_all(state_);
  for (auto& w : workers_)
    if (w->thread.joinable()) w->thread.join();
}

/// One tile of a worker's range: its owner from the front, a thief from the end.
bool stealing_team::take(int from, bool steals, std::int64_t& tile) {
  auto& tiles = workers_[static_cast<std::size_t>(from)]->tiles;
  std::uint64_t now = tiles.load(std::memory_order_acquire);
  while (true) {
    const std::uint64_t begin = now >> 32, end = now & 0xffffffffU;
    if (begin >= end) return false;
    const std::uint64_t next = steals ? range(begin, end - 1) : range(begin + 1, end);
    if (tiles.compare_exchange_weak(now, next, std::memory_order_acq_rel)) {
      tile = static_cast<std::int64_t>(steals ? end - 1 : begin);
      return true;
    }
  }
}

void stealing_team::work(int me) {
  const tile_function f = *job_;
  std::int64_t tile = 0;
  try {
    for (int k = 0; k < size(); ++k) {
      const int from = (me + k) % size();
      while (!failed_.load(std::memory_order_relaxed) && take(from, k > 0, tile)) f(tile, me);
    }
  } catch (...) {
    if (!failed_.exchange(true)) failure_ = std::current_exception();
  }
}

/// Waits for a job that is open and newer than `seen`, and comes in. False: the team ends.
bool stealing_team::enter(std::uint32_t& seen) {
  int left = spins;
  while (true) {
    std::uint32_t now = state_.load(std::memory_order_acquire);
    if (stop_.load()) return false;
    if ((now & open_bit) != 0 && now / job_step != seen) {
      if (!state_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
      seen = now / job_step;
      return true;
    }
    if (left-- > 0) {
      pause();
      continue;
    }
    asleep_.fetch_add(1);
    now = state_.load();
    const bool news = (now & open_bit) != 0 && now / job_step != seen;
    if (!news && !stop_.load()) sleep_while(state_, now);
    asleep_.fetch_sub(1);
    left = spins;
  }
}

void stealing_team::leave() {
  const std::uint32_t before = state_.fetch_sub(1);
  if ((before & inside_mask) == 1 && caller_sleeps_.load()) wake_all(state_);
}

void stealing_team::serve(int me) {
  std::uint32_t seen = 0;
  while (enter(seen)) {
    work(me);
    leave();
  }
}

/// Closes the job, so that nobody comes in any more, and waits for those who are in.
void stealing_team::wait_for_all() {
  std::uint32_t now = state_.fetch_and(~open_bit) & ~open_bit;
  for (int left = spins; (now & inside_mask) != 0; now = state_.load(std::memory_order_acquire)) {
    if (left-- > 0) {
      pause();
      continue;
    }
    caller_sleeps_.store(true);
    now = state_.load();
    if ((now & inside_mask) != 0) sleep_while(state_, now);
    caller_sleeps_.store(false);
  }
}

void stealing_team::run(std::int64_t tiles, tile_function f) {
  if (tiles <= 0) return;
  if (size() == 1 || tiles == 1 || tiles > static_cast<std::int64_t>(UINT_MAX)) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) f(tile, 0);
    return level_scratch();
  }
  const auto n = static_cast<std::uint64_t>(size()), all = static_cast<std::uint64_t>(tiles);
  for (std::uint64_t i = 0; i < n; ++i) workers_[i]->tiles.store(range(all * i / n, all * (i + 1) / n), std::memory_order_release);
  job_ = &f;
  failed_.store(false);
  failure_ = nullptr;
  state_.fetch_add(job_step | open_bit);
  if (asleep_.load() > 0) wake_all(state_);
  work(0);
  wait_for_all();
  if (failure_) std::rethrow_exception(failure_);
  level_scratch();
}

/// Who gets which tile is chance: a worker that had none of this job's has room for them the next time.
void stealing_team::level_scratch() {
  std::size_t most = 0;
  for (const auto& w : workers_) most = std::max(most, w->asked);
  for (auto& w : workers_)
    if (w->asked < most) w->scratch.at_least(w->asked = most);
}

std::byte* stealing_team::scratch(int who, std::size_t bytes) {
  auto& w = *workers_[static_cast<std::size_t>(who)];
  w.asked = std::max(w.asked, bytes);
  return w.scratch.at_least(bytes);
}
std::byte* stealing_team::shared_scratch(std::size_t bytes) { return shared_->at_least(bytes); }

}  // namespace isthmus::kernels
