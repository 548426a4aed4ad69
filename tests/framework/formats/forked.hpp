#pragma once

#include <functional>
#include <string>

namespace isthmus::testing {

/// Runs `work` in a process of its own, which has the default action of SIGBUS and 60 s, and says how it ended: "exit 3" when work
/// returned 3, "signal 7". Nothing of the test framework runs there: work tells by its number alone.
std::string forked(const std::function<int()>& work);

}  // namespace isthmus::testing
