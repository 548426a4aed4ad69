#pragma once

#include "kernels/team.hpp"

#include <atomic>
#include <exception>

namespace isthmus::kernels {

/// Several threads, the caller one of them. Each worker has a range of tiles of its own, so that consecutive kernels find their rows
/// in the same cache, and steals from the others' ends when it has none left. A worker that the machine keeps from running costs
/// at most the one tile it holds: nobody waits for workers that have not come. Waiting spins for some tens of microseconds, then sleeps.
class stealing_team final : public team {
public:
  /// threads >= 1, the caller included. More than the machine has cores is allowed, and slower.
  explicit stealing_team(int threads);
  ~stealing_team() override;
  stealing_team(const stealing_team&) = delete;
  stealing_team& operator=(const stealing_team&) = delete;

  int size() const override { return static_cast<int>(workers_.size()); }
  void run(std::int64_t tiles, tile_function f) override;
  std::byte* scratch(int who, std::size_t bytes) override;
  std::byte* shared_scratch(std::size_t bytes) override;

private:
  struct block;
  struct worker;
  void serve(int me);
  void work(int me);
  bool take(int from, bool steals, std::int64_t& tile);
  bool enter(std::uint32_t& seen);
  void leave();
  void wait_for_all();
  void level_scratch();

  std::vector<std::unique_ptr<worker>> workers_;
  std::unique_ptr<block> shared_;
  const tile_function* job_ = nullptr;
  /// Job number in the upper bits, then whether workers may come in, then how many are in; a futex for both sides.
  std::atomic<std::uint32_t> state_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> caller_sleeps_{false}, stop_{false}, failed_{false};
  std::exception_ptr failure_;
};

}  // namespace isthmus::kernels
