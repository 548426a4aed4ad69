#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/error.hpp"
#include "framework/rounds/coordinator_log.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/transport/transport.hpp"

#include <caf/actor.hpp>
#include <caf/allowed_unsafe_message_type.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

/// What actors of one process say to each other. Plain structs that never leave the process; payloads travel as shared_bytes.
namespace isthmus {
struct group_snapshot;
struct contribution_snapshot;
}  // namespace isthmus

namespace isthmus::actors {

struct site_copy;

// clang-format off
// --- transport -> link
struct wire_up { incarnation_number incarnation; };
struct wire_down { error reason; };
struct wire_refused { error reason; };  // for good
struct wire_control { shared_bytes bytes; };
struct wire_bulk { shared_bytes header, payload; };
struct wire_sent { std::uint64_t id; error outcome; };  // outcome.code ok: the peer has it

// --- anybody -> supervisor -> link; link -> supervisor
struct outbound { site_id to; envelope what; };
struct inbound { site_id from; incarnation_number incarnation; envelope what; };
struct link_heard { site_id peer; };       // a beat came: the peer lives
struct link_changed { site_id peer; incarnation_number incarnation; bool up; error reason; };
struct link_refused { site_id peer; error reason; };  // the peer will not have us

// --- timers
struct link_tick {};
struct group_tick {};
struct site_tick {};
struct coordinator_tick {};

// --- site supervisor <-> parameter groups
struct enter_epoch { epoch_view view; };
struct seal_group { epoch_number epoch; bool outside; };  // outside: of whatever epoch up to this one
struct group_sealed { epoch_number epoch; held_record held; bool outside; };
struct group_holds { held_record held; };
struct group_message { site_id from; incarnation_number incarnation; envelope what; };
struct group_wiring { caf::actor trainer, shard, auditor; };  // auditor: or nobody
struct peer_is_synced { site_id site; epoch_number epoch; };
struct group_started { group_id group; contributor mark; };  // settled for the first time: what this site has in its records
struct restore_book {};                   // -> group: bring the residual back, or write it off
struct save_group {};                     // answered by group_saved
struct group_saved { group_id group; std::shared_ptr<const group_snapshot> group_state; std::shared_ptr<const contribution_snapshot> book; };
struct group_synced { group_id group; epoch_number epoch; };

// --- trainer <-> parameter groups
struct train_result {                     // of one group, since its anchor was loaded
  step_number step = 0;                   // reached
  std::uint64_t tokens = 0;
  std::vector<lease> leases;
};
struct contribute { train_result what; bool keep = false; };  // keep: for the residual, since no round is due
struct group_settled { group_id group; round_number round; std::uint64_t tokens_total; bool finished; };
struct group_unsettled { group_id group; };
struct pass_round {};                     // -> group: nothing is here for the round that calls
struct hand_in { group_id group; bool closed; };  // -> trainer: its round has its quorum without us, or has closed and the anchor is to move
struct stand_by { bool on; };             // site -> trainer: no period begins while the site is a spare that nobody needs
struct load_anchor {};                    // -> group: copy the anchor to the working weights
struct anchor_loaded { group_id group; round_number round; };

// --- parameter groups <-> auditor
struct anchor_moved { group_id group; round_number round; std::uint64_t tokens_total; std::shared_ptr<const float_array> values; };
struct audit_contribution { group_id group; round_number round; contributor from; shared_bytes frame; };  // answered, or not, by
struct contribution_audited { site_id site; round_number round; double cosine; };

// --- trainer <-> devices. A ticket names one step; a reply to an older one is ignored.
using token_rows = std::shared_ptr<const std::vector<std::int32_t>>;  // [rows, context + 1]
using gradient_array = std::shared_ptr<float_array>;  // one device's; lives on in messages when the device dies
struct row_range { std::int64_t begin = 0, end = 0; };
struct compute_gradient { std::uint64_t ticket; token_rows ids; row_range rows; double scale; bool clear; };  // clear: gradients hold something
struct gradient_done { std::uint32_t device; std::uint64_t ticket; double loss_sum; gradient_array gradients; };
struct reduce_slice { std::uint64_t ticket; std::vector<gradient_array> gradients; row_range floats; };  // into the first
struct slice_reduced { std::uint32_t device; std::uint64_t ticket; double sum_of_squares; };
struct update_slice { std::uint64_t ticket; gradient_array gradients; row_range floats; double learning_rate, gradient_scale; step_number step; };
struct slice_updated { std::uint32_t device; std::uint64_t ticket; };
struct evaluate_rows { std::uint64_t ticket; token_rows ids; row_range rows; };
struct rows_evaluated { std::uint32_t device; std::uint64_t ticket; double loss_sum; };
struct device_ready { std::uint32_t device; caf::actor handle; };
struct device_lost { std::uint32_t device; std::string reason; };

// --- trainer <-> shard
struct want_rows { std::uint64_t ticket; step_number step; std::int64_t rows; };
struct rows_leased { std::uint64_t ticket; std::vector<lease> leases; token_rows ids; std::int64_t rows; };
struct save_cursor {};                    // -> shard, answered by cursor
struct cursor { std::string json; };
struct recover_leases { std::vector<std::vector<lease>> named; };  // per group: this site's, in committed records; answered
struct leases_recovered {};
struct close_leases { bool for_good; };  // -> shard, at the site's end: what is outstanding stays so for a resume, or is written off; answered
struct leases_closed { bool for_good; std::uint64_t outstanding; };
struct watermark_moved { group_id group; step_number watermark; };  // -> shard: a committed record of the group reaches this step
struct leases_vetoed { group_id group; step_number watermark; std::vector<lease> leases; };  // -> shard: the same, but nothing made of them was taken
struct leases_voided { group_id group; step_number watermark; std::vector<lease> leases; };  // -> shard: the group's records that named them are void

// --- trainer -> metrics
struct step_sample { step_number step; std::uint64_t tokens; double loss, gradient_norm, learning_rate, seconds; round_number round; };
struct evaluation_sample { round_number round; std::uint64_t tokens_total; double loss; std::uint64_t tokens; };
struct round_sample { round_record record; std::uint64_t bytes_up, bytes_down; double seconds; };
struct event_line { std::string kind, text; };
struct link_sample { site_id peer; bool up; link_counters counters; };
struct site_progress { std::string state; std::int64_t devices; step_number step; std::uint64_t tokens; bool flush; };
struct flush_rows {};                     // supervisor -> metrics: what waits is written now; answered
struct metrics_tick {};
struct metrics_restarted { caf::actor handle; };  // supervisor -> trainer, groups: where measurements go from now on

// --- coordinator <-> its log. One entry at a time; an answer without error says that it stands there.
struct append_entry { coordinator_entry entry; };
struct entry_appended { error why; };
struct log_closed { error why; };         // from the log itself: this coordinator leads no longer

// --- life of a site
struct begin_training { step_number after_step; };
struct drain { std::string reason; };     // finish the step, checkpoint, stop: resumable
struct save_boundary { step_number step; round_number round; std::uint64_t tokens_total; bool last; };  // trainer -> supervisor
struct boundary_saved {};                 // the state has been copied; the files may still be on their way
struct save_copy { std::shared_ptr<const site_copy> copy; round_number round; bool last; };
struct checkpoint_written { round_number round; step_number step; std::string folder; std::uint64_t bytes; double seconds; std::string error; bool last; };
struct save_now {};                       // checkpoint at the next boundary and go on
struct run_finished {};                   // every group has its last round
struct run_reopened {};                   // and has it no more: the records were voided by a restart
struct fail_device { std::uint32_t device; };  // rehearsal: the device's actor fails as if by a bug
struct fail_child { std::string name; };  // and another child of the supervisor: "metrics", "group 0", "link to 1"
struct fail_link { site_id peer; };            // the same of a link of the coordinator's
// --- users' own actors -> site supervisor -> link; supervisor -> them. At most once: while the link is down, what is sent is lost.
struct register_actor { std::string name; caf::actor handle; };  // under this name, until it ends or another takes it
struct send_to_actor { site_id site; std::string name; shared_bytes payload; };  // 1 to 128 bytes of name; any site, this one too
struct from_actor { site_id from; std::string name; shared_bytes payload; };     // name: whom it was sent to; the payload is never null
struct site_stopped { int exit_code; std::string reason; };
// clang-format on

}  // namespace isthmus::actors

// clang-format off
#define ISTHMUS_LOCAL_MESSAGE(name) CAF_ALLOW_UNSAFE_MESSAGE_TYPE(isthmus::actors::name)
ISTHMUS_LOCAL_MESSAGE(wire_up) ISTHMUS_LOCAL_MESSAGE(wire_down) ISTHMUS_LOCAL_MESSAGE(wire_refused) ISTHMUS_LOCAL_MESSAGE(wire_control) ISTHMUS_LOCAL_MESSAGE(wire_bulk)
ISTHMUS_LOCAL_MESSAGE(wire_sent) ISTHMUS_LOCAL_MESSAGE(outbound) ISTHMUS_LOCAL_MESSAGE(inbound) ISTHMUS_LOCAL_MESSAGE(link_changed)
ISTHMUS_LOCAL_MESSAGE(link_tick) ISTHMUS_LOCAL_MESSAGE(group_tick) ISTHMUS_LOCAL_MESSAGE(site_tick)
ISTHMUS_LOCAL_MESSAGE(coordinator_tick) ISTHMUS_LOCAL_MESSAGE(enter_epoch) ISTHMUS_LOCAL_MESSAGE(seal_group)
ISTHMUS_LOCAL_MESSAGE(group_sealed) ISTHMUS_LOCAL_MESSAGE(group_holds) ISTHMUS_LOCAL_MESSAGE(group_message)
ISTHMUS_LOCAL_MESSAGE(group_synced) ISTHMUS_LOCAL_MESSAGE(contribute) ISTHMUS_LOCAL_MESSAGE(group_settled)
ISTHMUS_LOCAL_MESSAGE(group_unsettled) ISTHMUS_LOCAL_MESSAGE(hand_in) ISTHMUS_LOCAL_MESSAGE(pass_round) ISTHMUS_LOCAL_MESSAGE(stand_by) ISTHMUS_LOCAL_MESSAGE(load_anchor)
ISTHMUS_LOCAL_MESSAGE(anchor_moved) ISTHMUS_LOCAL_MESSAGE(audit_contribution) ISTHMUS_LOCAL_MESSAGE(contribution_audited)
ISTHMUS_LOCAL_MESSAGE(anchor_loaded) ISTHMUS_LOCAL_MESSAGE(compute_gradient) ISTHMUS_LOCAL_MESSAGE(gradient_done)
ISTHMUS_LOCAL_MESSAGE(reduce_slice) ISTHMUS_LOCAL_MESSAGE(slice_reduced) ISTHMUS_LOCAL_MESSAGE(update_slice)
ISTHMUS_LOCAL_MESSAGE(slice_updated) ISTHMUS_LOCAL_MESSAGE(evaluate_rows) ISTHMUS_LOCAL_MESSAGE(rows_evaluated)
ISTHMUS_LOCAL_MESSAGE(device_ready) ISTHMUS_LOCAL_MESSAGE(device_lost) ISTHMUS_LOCAL_MESSAGE(want_rows)
ISTHMUS_LOCAL_MESSAGE(rows_leased) ISTHMUS_LOCAL_MESSAGE(watermark_moved) ISTHMUS_LOCAL_MESSAGE(leases_voided) ISTHMUS_LOCAL_MESSAGE(leases_vetoed) ISTHMUS_LOCAL_MESSAGE(step_sample)
ISTHMUS_LOCAL_MESSAGE(evaluation_sample) ISTHMUS_LOCAL_MESSAGE(round_sample) ISTHMUS_LOCAL_MESSAGE(event_line)
ISTHMUS_LOCAL_MESSAGE(drain) ISTHMUS_LOCAL_MESSAGE(save_cursor) ISTHMUS_LOCAL_MESSAGE(cursor) ISTHMUS_LOCAL_MESSAGE(save_boundary)
ISTHMUS_LOCAL_MESSAGE(boundary_saved) ISTHMUS_LOCAL_MESSAGE(group_wiring) ISTHMUS_LOCAL_MESSAGE(peer_is_synced)
ISTHMUS_LOCAL_MESSAGE(link_sample) ISTHMUS_LOCAL_MESSAGE(site_progress) ISTHMUS_LOCAL_MESSAGE(flush_rows) ISTHMUS_LOCAL_MESSAGE(metrics_tick)
ISTHMUS_LOCAL_MESSAGE(save_copy) ISTHMUS_LOCAL_MESSAGE(checkpoint_written) ISTHMUS_LOCAL_MESSAGE(recover_leases)
ISTHMUS_LOCAL_MESSAGE(leases_recovered) ISTHMUS_LOCAL_MESSAGE(close_leases) ISTHMUS_LOCAL_MESSAGE(leases_closed) ISTHMUS_LOCAL_MESSAGE(group_started) ISTHMUS_LOCAL_MESSAGE(restore_book)
ISTHMUS_LOCAL_MESSAGE(begin_training) ISTHMUS_LOCAL_MESSAGE(link_heard) ISTHMUS_LOCAL_MESSAGE(link_refused) ISTHMUS_LOCAL_MESSAGE(fail_link) ISTHMUS_LOCAL_MESSAGE(fail_device) ISTHMUS_LOCAL_MESSAGE(fail_child) ISTHMUS_LOCAL_MESSAGE(metrics_restarted) ISTHMUS_LOCAL_MESSAGE(save_group) ISTHMUS_LOCAL_MESSAGE(group_saved) ISTHMUS_LOCAL_MESSAGE(save_now) ISTHMUS_LOCAL_MESSAGE(run_finished) ISTHMUS_LOCAL_MESSAGE(run_reopened) ISTHMUS_LOCAL_MESSAGE(site_stopped)
ISTHMUS_LOCAL_MESSAGE(append_entry) ISTHMUS_LOCAL_MESSAGE(entry_appended) ISTHMUS_LOCAL_MESSAGE(log_closed)
ISTHMUS_LOCAL_MESSAGE(register_actor) ISTHMUS_LOCAL_MESSAGE(send_to_actor) ISTHMUS_LOCAL_MESSAGE(from_actor)
#undef ISTHMUS_LOCAL_MESSAGE
