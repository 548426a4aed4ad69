#pragma once

#include <initializer_list>
#include <string_view>

namespace isthmus {

/// The vocabulary of faults, one for the simulation and for real processes: docs/faults.md. In the order of fault_kind_names.
enum class fault_kind {
  kill,     // SIGKILL; started again when its time is over
  stop,     // SIGSTOP, then SIGCONT: its kernel still takes what comes
  leave,    // asked to stop in order; started again
  device,   // the actor of the site's last device fails
  slow,     // steps take `amount` times as long
  cut,      // nothing crosses the link, in either direction; both ends still believe in it
  cut_out,  // the same of what the site sends; it still hears
  clog,     // what crosses the link waits, and arrives in order when the time is over
  reset,    // the connection breaks; both ends learn of it
  delay,    // `amount` seconds more each way
  jitter,   // up to `amount` seconds more, drawn for each frame
  loss,     // the chance that a frame is sent again by the transport below us
  rate,     // bytes a second
  tear,     // the site's next bulk message loses its last byte
  disk_full,
  disk_error,  // writes and syncs fail
  power,       // as kill, and what was not synced is lost, the last of it torn
  wipe,        // as kill, and all that it had on its disk is lost
  rot,         // a bit of one of its checkpoints flips; another one stays good
  slow_disk,   // each sync takes `amount` seconds
  nan,         // the site's next optimizer step leaves a NaN behind
  bit_flip,    // the same of a flipped bit
  clock,       // its wall clock jumps by `amount` seconds
  corrupt,     // the next frame over the link does not open: the connection ends
  duplicate,   // the chance that a bulk message comes twice
  reorder,     // bulk messages overtake each other by up to `amount` seconds
  swizzle,     // clogs of some of the site's links, one by one, released in another order
  sign_flip,   // each step of the site goes the other way
  scale,       // each step is `amount` times as long
  noise,       // each step goes anywhere, as far as it would have gone
  replay,      // each step is the first one again
  nan_frames,  // the numbers of its contributions are no numbers
};
inline constexpr std::initializer_list<const char*> fault_kind_names = {
    "kill",  "stop",    "leave",     "device",    "slow",       "cut",       "cut_out", "clog",  "reset",     "delay",     "jitter",
    "loss",  "rate",    "tear",      "disk_full", "disk_error", "power",     "wipe",    "rot",   "slow_disk", "nan",       "bit_flip",
    "clock", "corrupt", "duplicate", "reorder",   "swizzle",    "sign_flip", "scale",   "noise", "replay",    "nan_frames"};

/// Of a name that the recipe's reader has let pass.
fault_kind kind_of_fault(std::string_view name);
const char* name_of_fault(fault_kind kind);
/// It happens between two ends.
bool is_of_links(fault_kind kind);
/// The process dies of it and is started again.
bool takes_down(fault_kind kind);
/// The site does wrong: what it contributes is not what its samples make of the anchor.
bool is_hostile(fault_kind kind);
/// It happens at once and leaves nothing to heal.
bool is_instant(fault_kind kind);
/// Real processes can be made to suffer it by `isthmus launch`.
bool is_rehearsed_for_real(fault_kind kind);
/// What `amount` = 0 means; 0 for kinds without an amount.
double default_amount(fault_kind kind);

}  // namespace isthmus
