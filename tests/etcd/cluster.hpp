#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

namespace isthmus::testing {

/// A real etcd of so many members on loopback, from its Debian package: processes of ours in a folder that goes away with them. Ready
/// when made: throws when it is not within a minute.
class etcd_cluster {
public:
  explicit etcd_cluster(std::size_t members);
  ~etcd_cluster();
  etcd_cluster(const etcd_cluster&) = delete;
  etcd_cluster& operator=(const etcd_cluster&) = delete;

  /// "http://127.0.0.1:port" of each.
  const std::vector<std::string>& urls() const { return urls_; }
  /// The member that leads the others now.
  std::size_t leader() const;
  void kill(std::size_t member);  // -9
  void start(std::size_t member);
  void wait_until_ready() const;  // an answer of the majority

private:
  std::string folder_;
  std::vector<std::string> urls_, peers_;
  std::vector<pid_t> processes_;
};

}  // namespace isthmus::testing
