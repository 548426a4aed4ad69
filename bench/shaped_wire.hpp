#pragma once

#include "framework/core/expected.hpp"

#include <sys/types.h>

#include <functional>
#include <string>

namespace isthmus::bench {

/// A process in a network namespace of its own, which the kernel takes away with the process. Root only.
class guest {
public:
  /// Begins `work` in the new process once go() is said; it ends with it. Errors: environment.
  static expected<guest> start(std::function<void()> work);
  guest(guest&& other) noexcept;
  guest& operator=(guest&&) = delete;
  ~guest();  // kills it

  pid_t id() const { return process_; }
  /// Its wires are laid: work begins.
  void go() const;

private:
  guest(pid_t process, int start) : process_(process), start_(start) {}
  pid_t process_;
  int start_;
};

/// Moves this process, which must have one thread, into a network namespace of its own. Errors: environment.
expected<void> leave_the_network();

/// A pair of virtual Ethernet devices between this namespace (address 10.<net>.0.1) and the guest's (10.<net>.0.2), with a token bucket of
/// so many bit/s either way; 0: none. It goes with the namespaces. Errors: environment.
expected<void> lay_wire(const guest& to, int net, double bits_per_second);

/// Runs a program with words of one space between, in this namespace or in that of a process. Errors: environment, with what it said.
expected<void> run_program(const std::string& line, pid_t where = 0);

}  // namespace isthmus::bench
