#pragma once

#include <cstddef>
#include <span>

namespace isthmus {

/// Fills out with bytes of a mapped file, beginning at `mapped`. False where the kernel would end the process with SIGBUS, since the file
/// shrank or the disk failed; also, before anything is touched, when another library keeps us from handling SIGBUS. What out holds then
/// is not defined; why it came to that, a read of the file says. Any number of threads at once.
///
/// The first call installs a handler of SIGBUS for the whole process; each call looks whether it is still there, and puts it back
/// above one that was installed meanwhile. A SIGBUS that is none of ours is given to who had it before, as if we were not there.
/// A handler that is installed while a copy runs is beyond us until the next copy.
[[nodiscard]] bool guarded_copy(const std::byte* mapped, std::span<std::byte> out);

}  // namespace isthmus
