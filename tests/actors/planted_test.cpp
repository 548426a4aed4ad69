// Mistakes of the kind that are made are made on purpose: the simulation must find each of them.
//   planted_test -- [seeds] [first]     how many runs it takes at most, and from which seed on
#include "actors/sim/rehearsal.hpp"
#include "framework/core/planted.hpp"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <cstdlib>
#include <ostream>
#include <string>

using namespace isthmus;

namespace isthmus {
std::ostream& operator<<(std::ostream& out, const planted_name& p) { return out << p.name; }
}  // namespace isthmus

namespace {

std::uint64_t argument(int index, std::uint64_t otherwise) {
  const auto& suite = boost::unit_test::framework::master_test_suite();
  return suite.argc > index ? std::strtoull(suite.argv[index], nullptr, 10) : otherwise;
}

struct with_bug {
  explicit with_bug(planted bug) { plant(bug); }
  ~with_bug() { plant(planted::none); }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(planted_test)

BOOST_DATA_TEST_CASE(is_found, boost::unit_test::data::make(planted_bugs), bug) {
  recipe plan = *load_recipe(bug.bug == planted::return_vetoed_mass ? "recipes/hostile.toml" : "recipes/faults.toml");
  if (bug.bug == planted::trust_rotten_file)  // a file must rot, be loaded, and not be replaced by a peer's copy
    for (auto& fault : plan.faults)
      if (fault.kind == "rot") fault.every_seconds = fault.chance = 1;
  const std::uint64_t seeds = argument(1, 1000), first = argument(2, 1);
  const with_bug made(bug.bug);
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    const auto r = actors::rehearse(plan, seed);
    if (r.good()) continue;
    BOOST_TEST_MESSAGE(bug.name << " found after " << seed - first + 1 << " seeds (" << seed << "): " << r.failure);
    return;
  }
  BOOST_ERROR(bug.name << " was not found by seeds " << first << " to " << first + seeds - 1);
}

BOOST_AUTO_TEST_SUITE_END()
