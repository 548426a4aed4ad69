#pragma once

#include "launcher/console.hpp"

#include <cstdint>
#include <string>

namespace isthmus::launcher {

/// A process that the launcher starts from its own binary: a site, or the coordinator. Not for people.
struct child_options {
  std::string run, log;
  std::int64_t site = -1;      // -1: a coordinator
  std::int64_t place = 0;      // of a coordinator: which
  std::int64_t launcher = 0;   // its process id
  std::int64_t space = -1;     // descriptor of the network namespace it lives in; -1: the launcher's
  std::int64_t steering = -1;  // descriptor by which a rehearsal reaches it; -1: none
};
int run_child(const child_options& options, console& out);

}  // namespace isthmus::launcher
