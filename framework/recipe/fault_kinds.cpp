#include "framework/recipe/fault_kinds.hpp"

#include "framework/core/error.hpp"

#include <algorithm>
#include <iterator>

namespace isthmus {

fault_kind kind_of_fault(std::string_view name) {
  const auto* found = std::find(fault_kind_names.begin(), fault_kind_names.end(), name);
  ensure(found != fault_kind_names.end(), "kind_of_fault: no such fault");
  return static_cast<fault_kind>(found - fault_kind_names.begin());
}

const char* name_of_fault(fault_kind kind) { return fault_kind_names.begin()[static_cast<std::ptrdiff_t>(kind)]; }

bool is_of_links(fault_kind kind) {
  switch (kind) {
    case fault_kind::cut:
    case fault_kind::cut_out:
    case fault_kind::clog:
    case fault_kind::reset:
    case fault_kind::delay:
    case fault_kind::jitter:
    case fault_kind::loss:
    case fault_kind::rate:
    case fault_kind::corrupt:
    case fault_kind::duplicate:
    case fault_kind::reorder:
    case fault_kind::swizzle: return true;
    default: return false;
  }
}

bool is_hostile(fault_kind kind) {
  switch (kind) {
    case fault_kind::sign_flip:
    case fault_kind::scale:
    case fault_kind::noise:
    case fault_kind::replay:
    case fault_kind::nan_frames: return true;
    default: return false;
  }
}

bool takes_down(fault_kind kind) { return kind == fault_kind::kill || kind == fault_kind::power || kind == fault_kind::wipe; }

bool is_instant(fault_kind kind) {
  switch (kind) {
    case fault_kind::device:
    case fault_kind::reset:
    case fault_kind::tear:
    case fault_kind::rot:
    case fault_kind::nan:
    case fault_kind::bit_flip:
    case fault_kind::corrupt: return true;
    default: return false;
  }
}

bool is_rehearsed_for_real(fault_kind kind) { return kind == fault_kind::kill || kind == fault_kind::stop || kind == fault_kind::device; }

double default_amount(fault_kind kind) {
  switch (kind) {
    case fault_kind::slow: return 4;
    case fault_kind::delay: return 0.2;
    case fault_kind::jitter: return 0.1;
    case fault_kind::loss: return 0.1;
    case fault_kind::rate: return 100'000;
    case fault_kind::slow_disk: return 0.2;
    case fault_kind::clock: return 262;
    case fault_kind::duplicate: return 0.2;
    case fault_kind::reorder: return 0.5;
    case fault_kind::scale: return 1000;
    default: return 0;
  }
}

}  // namespace isthmus
