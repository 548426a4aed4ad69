#pragma once

#include <cstddef>
#include <span>

namespace isthmus {

enum class copied {
  all,        // out is filled
  fault,      // a page could not be had: the file ends before it, or the disk failed; what out holds is not defined
  unguarded,  // nothing was touched: another library does not let us handle SIGBUS, copy in another way
};

/// Fills out with bytes of a mapped file, beginning at `mapped`. Where the kernel would end the process with SIGBUS, since the file
/// shrank or the disk failed, the answer is `fault`. Any number of threads at once.
///
/// The first call installs a handler of SIGBUS for the whole process; each call looks whether it is still there, and puts it back
/// above one that was installed meanwhile. A SIGBUS that is none of ours is given to who had it before, as if we were not there.
/// A handler that is installed while a copy runs is beyond us until the next copy.
copied guarded_copy(const std::byte* mapped, std::span<std::byte> out);

}  // namespace isthmus
