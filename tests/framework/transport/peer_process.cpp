#include "framework/transport/ucx_transport.hpp"
#include "tests/framework/transport/keys.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>

/// peer SITE INCARNATION LISTEN PEER ADDRESS: keeps a link to one peer and sends back whatever comes, until stdin ends.
int main(int argc, char** argv) {
  using namespace isthmus;
  prepare_environment(argc, argv);
  if (argc != 6) return 2;
  ucx_transport_options options;
  options.hello.run_id = "test-run";
  options.hello.recipe_hash = {1, 2};
  options.hello.site = static_cast<site_id>(std::atoi(argv[1]));
  options.hello.incarnation = static_cast<incarnation_number>(std::atoi(argv[2]));
  options.listen = argv[3];
  if (std::getenv("ISTHMUS_TEST_SEALED") != nullptr) options.keys = testing::keys_of(options.hello.site);
  if (std::getenv("ISTHMUS_TEST_OUTWARD") != nullptr) {
    options.bulk_over_tcp = true;
    options.outward = {options.hello.site};
  }
  const real_clock time;
  const auto made = make_ucx_transport(options, time);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    return 4;
  }
  transport& wire = **made;
  std::atomic<std::uint64_t> next_id = 1;
  transport_events events;
  events.up = [](site_id, incarnation_number) {};
  events.down = [](site_id, const error&) {};
  events.sent = [](site_id, std::uint64_t, const expected<void>&) {};
  events.control = [&](site_id from, shared_bytes bytes) { wire.send_control(from, std::move(bytes)); };
  events.bulk = [&](site_id from, shared_bytes header, shared_bytes payload) {
    wire.send_bulk(from, next_id++, std::move(header), std::move(payload));
  };
  wire.start(events);
  wire.keep(static_cast<site_id>(std::atoi(argv[4])), argv[5]);
  std::printf("%s\n", wire.address().c_str());
  std::fflush(stdout);
  char ignored = 0;
  while (::read(0, &ignored, 1) > 0) {}
  wire.stop();
  return 0;
}
