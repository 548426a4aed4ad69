#pragma once

#include <array>

namespace isthmus {

/// Mistakes of the kind that are made, which a test can have this process make, to see whether the checkers find them: docs/faults.md.
/// Builds without ISTHMUS_PLANTED_BUGS have none of it.
enum class planted {
  none,
  forget_late_residual,   // a contribution that came too late is dropped instead of kept as residual
  contribute_again,       // one that was counted is taken for lost and sent again
  restore_old_residual,   // a checkpoint's residual is used although later contributions were committed
  lose_home_residual,     // a home that ceases to be one drops its aggregator residual
  apply_before_commit,    // a record is applied as soon as it is stored
  apply_stale_epoch,      // records of an epoch that has ended are stored
  store_while_sealed,     // a member that sealed its epoch stores further records of it
  commit_below_majority,  // the home counts one store fewer
  seal_below_half,        // an epoch ends with one seal fewer
  forget_stored_record,   // a seal tells of the last applied record, not of the last stored one
  cut_at_lowest,          // an epoch starts from the lowest record reported
  copy_without_momentum,  // a joiner copies the anchor alone
  retrain_partial_lease,  // samples that some groups have are trained again
  forget_recorded_lease,  // a process that starts does not learn from the records what it had trained
  ignore_silence,         // the link to a site that is left out is not broken
  answer_before_sync,     // what a group writes to its site's ledger is not on disk when it acts on it
  reuse_incarnation,      // a site whose disk was lost counts its incarnations from 1 again
  trust_rotten_file,      // a checkpoint's files are loaded without a look at their hashes
  forget_torn_line,       // a process that finds its ledger's last line torn writes on behind it
  return_vetoed_mass,     // what a home vetoed goes back into its sender's residual, to be sent again
};
struct planted_name {
  planted bug;
  const char* name;
};
inline constexpr std::array planted_bugs = {planted_name{planted::forget_late_residual, "forget_late_residual"},
                                            planted_name{planted::contribute_again, "contribute_again"},
                                            planted_name{planted::restore_old_residual, "restore_old_residual"},
                                            planted_name{planted::lose_home_residual, "lose_home_residual"},
                                            planted_name{planted::apply_before_commit, "apply_before_commit"},
                                            planted_name{planted::apply_stale_epoch, "apply_stale_epoch"},
                                            planted_name{planted::store_while_sealed, "store_while_sealed"},
                                            planted_name{planted::commit_below_majority, "commit_below_majority"},
                                            planted_name{planted::seal_below_half, "seal_below_half"},
                                            planted_name{planted::forget_stored_record, "forget_stored_record"},
                                            planted_name{planted::cut_at_lowest, "cut_at_lowest"},
                                            planted_name{planted::copy_without_momentum, "copy_without_momentum"},
                                            planted_name{planted::retrain_partial_lease, "retrain_partial_lease"},
                                            planted_name{planted::forget_recorded_lease, "forget_recorded_lease"},
                                            planted_name{planted::ignore_silence, "ignore_silence"},
                                            planted_name{planted::answer_before_sync, "answer_before_sync"},
                                            planted_name{planted::reuse_incarnation, "reuse_incarnation"},
                                            planted_name{planted::trust_rotten_file, "trust_rotten_file"},
                                            planted_name{planted::forget_torn_line, "forget_torn_line"},
                                            planted_name{planted::return_vetoed_mass, "return_vetoed_mass"}};

/// Whether this mistake is to be made. Always false in a build without ISTHMUS_PLANTED_BUGS.
bool is_planted(planted bug);
/// For a test, before it starts anything. Throws contract_error in a build without ISTHMUS_PLANTED_BUGS.
void plant(planted bug);

}  // namespace isthmus
