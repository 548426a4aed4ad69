#pragma once

#include "framework/rounds/ledger_check.hpp"

#include <string>

namespace isthmus::launcher {

/// A ledger's verdict in a few lines, ending in "balanced" or "NOT balanced".
std::string ledger_text(const ledger_report& report);

}  // namespace isthmus::launcher
