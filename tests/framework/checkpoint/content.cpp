#include "tests/framework/checkpoint/content.hpp"

#include <boost/test/unit_test.hpp>

namespace isthmus::testing {

std::uint64_t step_that_loads(storage& disk) {
  auto loaded = checkpoint_store(disk, "site/checkpoints").load();
  if (!loaded) return 0;
  const content expected_content(loaded->facts.step);
  std::vector<float> weights(257), moment(100);
  BOOST_TEST((*loaded->part("weights"))->copy_to("w", weights).has_value());
  BOOST_TEST((*loaded->part("moments"))->copy_to("m", moment).has_value());
  BOOST_TEST(weights == expected_content.weights);
  BOOST_TEST(moment == expected_content.moment);
  BOOST_TEST(loaded->facts.state == expected_content.facts.state);
  return loaded->facts.step;
}

}  // namespace isthmus::testing
