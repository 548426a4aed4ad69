#include "framework/core/planted.hpp"

#include "framework/core/error.hpp"

namespace isthmus {

#ifdef ISTHMUS_PLANTED_BUGS

namespace {
planted current = planted::none;
}

bool is_planted(planted bug) { return current == bug; }
void plant(planted bug) { current = bug; }

#else

bool is_planted(planted) { return false; }
void plant(planted) { ensure(false, "this build makes no mistakes on purpose: ISTHMUS_PLANTED_BUGS is off"); }

#endif

}  // namespace isthmus
