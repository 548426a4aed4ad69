#include "framework/core/parameter_layout.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(parameter_layout_test)

BOOST_AUTO_TEST_CASE(groups_cover_the_layout_without_gap_or_overlap) {
  parameter_layout layout;
  for (const std::int64_t n : {2000, 3, 17, 500, 500, 1, 900, 64}) layout.add("t" + std::to_string(layout.slots.size()), {n}, true);
  for (std::uint32_t count = 1; count <= 8; ++count) {
    const auto groups = cut_groups(layout, count);
    BOOST_TEST(groups.size() <= count);
    std::int64_t at = 0, tensors = 0;
    for (const auto& g : groups) {
      BOOST_TEST(g.offset == at);
      BOOST_TEST(!g.tensors.empty());
      at += g.size;
      for (const auto& t : g.tensors) {
        BOOST_TEST(layout.slots[static_cast<std::size_t>(tensors)].offset == g.offset + t.offset);
        ++tensors;
      }
    }
    BOOST_TEST(at == layout.size);
    BOOST_TEST(tensors == 8);
  }
}

BOOST_AUTO_TEST_SUITE_END()
