#include "framework/transport/ucx_transport.hpp"
#include "framework/transport/ucx_worker.hpp"

#include <unistd.h>

#include <cstdlib>

namespace isthmus {

namespace {

struct setting {
  const char *name, *value;
};

/// Read when the library is loaded.
constexpr setting at_load[] = {
    {"UCX_HANDLE_ERRORS", "none"},  // else UCX takes over SIGSEGV and its like
    {"UCX_MEM_EVENTS", "n"},        // no hooks in malloc and mmap; TCP has no use for them
    {"UCX_LOG_LEVEL", "error"},     // a reset connection is our business to tell
    {"UCX_DEBUG_SIGNO", "0"},       // else SIGHUP is UCX's
};

/// Read when a context is made.
constexpr setting at_start[] = {
    {"UCX_TCP_CM_REUSEADDR", "y"},     // a restart finds its port free
    {"UCX_KEEPALIVE_INTERVAL", "1s"},  // a vanished peer on an idle path is noticed in seconds
    {"UCX_TCP_KEEPIDLE", "2s"},       {"UCX_TCP_KEEPINTVL", "1s"},    {"UCX_TCP_KEEPCNT", "5"},
    {"UCX_RNDV_THRESH", "inf"},  // see ucx_worker: no transfer from our memory may be under way when a link breaks
    {"UCX_ZCOPY_THRESH", "inf"},      {"UCX_TCP_TX_SEG_SIZE", "64k"},  // copies go out in segments of this size
    {"UCX_TCP_RX_SEG_SIZE", "64k"},
};

}  // namespace

void set_ucx_environment() {
  for (const setting& s : at_start) setenv(s.name, s.value, 0);
}

void set_data_ports(const std::string& range) {
  if (range.empty())
    unsetenv("UCX_TCP_PORT_RANGE");
  else
    setenv("UCX_TCP_PORT_RANGE", range.c_str(), 1);
}

void prepare_environment(int, char** argv) {
  bool complete = true;
  for (const setting& s : at_load) {
    complete = complete && std::getenv(s.name) != nullptr;
    setenv(s.name, s.value, 0);
  }
  if (!complete) execv("/proc/self/exe", argv);  // comes back only on failure: UCX then keeps its own handlers, which is no harm to data
}

}  // namespace isthmus
