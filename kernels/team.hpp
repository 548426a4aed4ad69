#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace isthmus::kernels {

/// Borrows a callable void(tile, worker) for the length of a call: no allocation, no copy.
class tile_function {
public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::remove_cvref_t<F>, tile_function>>>
  tile_function(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, std::int64_t tile, int worker) { (*static_cast<std::remove_reference_t<F>*>(object))(tile, worker); }) {}
  void operator()(std::int64_t tile, int worker) const { call_(object_, tile, worker); }

private:
  void* object_;
  void (*call_)(void*, std::int64_t, int);
};

/// The threads that kernels of one device run on. Kernels are called from one thread at a time (the owner's); run() spreads tiles.
class team {
public:
  virtual ~team() = default;
  /// Workers, the calling thread included; >= 1.
  virtual int size() const = 0;
  /// Calls f(tile, worker) once for each tile in [0, tiles), in any order, worker in [0, size()); returns when all are done.
  /// A worker runs one tile at a time. f must not call run() again. An exception of f reaches the caller after the others ended.
  virtual void run(std::int64_t tiles, tile_function f) = 0;
  /// At least `bytes` of the worker's own memory, 64-byte aligned, contents undefined; valid until the next call for this worker.
  /// Grows and is kept, so that a step after the first allocates nothing. Called by the worker itself, inside run().
  virtual std::byte* scratch(int worker, std::size_t bytes) = 0;
  /// The same for the kernel as a whole: asked for outside run(), may be read and written inside.
  virtual std::byte* shared_scratch(std::size_t bytes) = 0;
};

/// One thread: the caller.
class serial_team final : public team {
public:
  serial_team();
  ~serial_team() override;
  int size() const override { return 1; }
  void run(std::int64_t tiles, tile_function f) override;
  std::byte* scratch(int worker, std::size_t bytes) override;
  std::byte* shared_scratch(std::size_t bytes) override;

private:
  struct block;
  std::unique_ptr<block> own_, shared_;
};

}  // namespace isthmus::kernels
