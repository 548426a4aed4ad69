#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/rounds/messages.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// Lines of the ledgers, one JSON object each: docs/ledger.md gives every field. The writer adds site, incarnation and checksum.
namespace ledger {

// L1: leases
std::string granted(step_number step, const lease& range);
std::string returned(const lease& range, std::string_view reason);
std::string written_off(const lease& range, std::string_view reason);
std::string partial(const lease& range, const std::vector<group_id>& missed);
// L2: rounds
std::string stored(const round_record& record);
std::string committed(const round_record& record, const std::vector<site_id>& stored_at);  // the home's
std::string applied(const round_record& record, bool mine);
std::string voided(const round_record& record, epoch_number epoch);                  // by the cut of that epoch
std::string copied(const round_record& record, site_id source, epoch_number epoch);  // state of a group taken from a peer
std::string entered(epoch_number epoch, group_id group, round_number round);
std::string aggregator(group_id group, round_number round, epoch_number epoch, std::string_view event, double mass);  // kept | returned
std::string diverged(group_id group, round_number round, const hash128& expected, const hash128& found);
// L3: checkpoints
/// saving | durable | removed | loaded; the hash is of the bytes of its manifest.
std::string checkpoint(std::string_view id, std::string_view state, const hash128& manifest);
/// loaded, which that incarnation had saved.
std::string checkpoint_loaded(std::string_view id, const hash128& manifest, incarnation_number saved_by);
// both ends of a process
std::string started(std::uint32_t groups);
std::string ended(std::string_view reason);     // clean: nothing is in flight any more
std::string reopened(std::string_view reason);  // the end that was written became void: the same process goes on

/// L2: one movement of mass in a site's account of a group (contribution_book).
struct mass_line {
  std::string_view event;  // formed | late | counted | discarded | lost | added | restored | vetoed
  group_id group = 0;
  round_number round = 0;                                   // of the anchor it began from; counted, discarded, lost: of the round decided
  double change = 0, decayed = 0, frame = 0, residual = 0;  // residual: after it
  double norm = 0;                                          // L2 norm of the numbers moved: what rounding is measured by
  double written_off = 0;                                   // restored: norm of what the crash took
  step_number step = 0;  // vetoed: the step whose weights were refused, and the tokens trained for them in vain
  std::uint64_t tokens = 0;
};
std::string mass(const mass_line& m);

std::string record_json(const round_record& record);
expected<round_record> parse_record(std::string_view json, const std::string& where);

}  // namespace ledger

/// Appends a site's ledger lines to one file of JSON Lines. After a failed write the file is abandoned and every further call says so.
class ledger_writer {
public:
  /// A torn last line (a crash) is closed off, so that the next line stands alone; a new file's name is made durable. disk outlives the
  /// writer.
  static expected<std::unique_ptr<ledger_writer>> open(storage& disk, const std::string& path, site_id site,
                                                       incarnation_number incarnation);
  /// line: one JSON object of the functions above.
  expected<void> write(std::string_view line);
  /// What is written becomes durable. May run in another thread beside write().
  expected<void> sync();
  /// The checkpoint with the highest number that the file named when it was opened; empty: none.
  const std::string& last_checkpoint() const { return last_checkpoint_; }
  /// Path of a site's ledger below the run's folder: "ledger/site-<id>.jsonl".
  static std::string path_of(site_id site);

private:
  ledger_writer(std::unique_ptr<append_file> file, std::string path, site_id site, incarnation_number incarnation)
      : file_(std::move(file)), path_(std::move(path)), site_(site), incarnation_(incarnation) {}
  std::unique_ptr<append_file> file_;
  std::string path_, last_checkpoint_;
  site_id site_;
  incarnation_number incarnation_;
  std::atomic<bool> failed_ = false;
};

}  // namespace isthmus
