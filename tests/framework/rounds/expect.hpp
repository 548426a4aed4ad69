#pragma once

#include "tests/framework/rounds/cluster.hpp"

#include <string>

namespace isthmus::testing {

/// Everything is finished, everybody alive stands at one anchor, the ledgers balance.
void expect_one_history(cluster& c, const cluster_settings& settings, const std::string& what);

}  // namespace isthmus::testing
