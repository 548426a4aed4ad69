#pragma once

#include "framework/transport/address.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace isthmus::testing {

/// Stands in a control path between who dials and who is dialled: hands on what both say, one connection after another, and may change
/// it on its way.
class middleman {
public:
  enum class from { caller, called };
  struct passing {
    std::size_t connection;  // from 0
    from side;
    std::size_t offset;            // in what this side has said on this connection
    std::vector<std::byte> bytes;  // to hand on
  };
  using meddle = std::function<void(passing&)>;

  explicit middleman(
      const std::string& to, meddle change = [](passing&) {});
  ~middleman();
  middleman(const middleman&) = delete;
  middleman& operator=(const middleman&) = delete;

  std::string address() const { return own_.text(); }
  std::size_t connections() const { return connections_; }
  /// What a side has said on the last connection.
  std::vector<std::byte> said(from side);
  /// Ends the connection of now, without a word to either.
  void cut() { cut_ = true; }

private:
  void work();
  void hand_on(int inward);

  meddle change_;
  socket_address to_, own_;
  int listener_ = -1;
  std::atomic<std::size_t> connections_ = 0;
  std::atomic<bool> ended_ = false, cut_ = false;
  std::mutex mutex_;
  std::vector<std::byte> said_[2];
  std::thread thread_;
};

}  // namespace isthmus::testing
