#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

namespace isthmus::actors {

/// Held for the life of the process: two processes can never be the same site, or both the coordinator. One that is just ending (its
/// launcher died, and the run is resumed) is waited for; one that somebody stopped is continued, so that it notices and ends too.
class lock_file {
public:
  lock_file(const std::string& path, std::chrono::milliseconds patience);
  ~lock_file();
  lock_file(const lock_file&) = delete;
  lock_file& operator=(const lock_file&) = delete;

  bool held() const { return held_; }
  /// Whose number stands in the file: the holder's, when we are not it; 0 when nobody says.
  pid_t holder() const { return holder_; }
  /// "process 4711", for messages.
  std::string holder_text() const;

private:
  void look_at_holder();

  int fd_;
  bool held_ = false;
  pid_t holder_ = 0;
};

}  // namespace isthmus::actors
