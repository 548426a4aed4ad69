#pragma once

#include "framework/core/buffer.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace isthmus {

/// Which state of a group: the one behind this record. Both zero: the initial one.
struct state_name {
  round_number round = 0;
  hash128 record_hash;
  bool operator==(const state_name&) const = default;
};

/// A group's state on its way here, in pieces from several holders at once. Pieces of one state fit together whoever sent them, what has
/// arrived is kept when a holder goes, and who is slow or lost is relieved of what it was asked for. Only decides: what it wants asked is
/// in what its functions give. Who sent bad bytes cannot be told from their sum: after a copy that was no good the holders are taken one
/// at a time.
class state_copy {
public:
  /// A piece wanted of a holder; any: of whatever state it has.
  struct question {
    site_id to = 0;
    state_name what;
    std::uint64_t begin = 0;  // in floats
    bool any = false;
  };
  using questions = std::vector<question>;
  enum class taken { useless, kept, whole };

  /// Sizes in floats: of the state, and of a piece (the last one may be shorter). failures: copies before this one that were no good.
  state_copy(std::size_t state_floats, std::size_t piece_floats, std::size_t failures);

  /// Goes for this state, or without one for whatever a holder has first, from these holders, the best first. Pieces of that state that
  /// are here stay, others do not.
  questions fetch(const std::optional<state_name>& wanted, const std::vector<site_id>& holders);
  /// A piece came. useless: of another state, of another size, or here already.
  taken take(site_id from, const message::state_part& m, const shared_bytes& payload);
  /// What to ask next: each holder has some pieces to send at a time, the more it has sent the more.
  questions ask();
  /// That holder does not have the state that we want. When none has it, we take another one.
  questions not_there(site_id from);
  /// Nothing came for a while: what was asked of holders that are silent is asked elsewhere.
  questions again();
  /// The whole was no good: begins anew.
  questions discard();

  const std::optional<state_name>& wanted() const { return wanted_; }
  std::size_t pieces_here() const { return here_count_; }
  /// Of the whole state, [state_floats]; and what came with its first piece.
  const float_array& values() const { return values_; }
  const message::state_part& facts() const { return facts_; }
  site_id first_source() const { return first_source_; }

private:
  struct holder {
    std::set<std::size_t> asked;  // pieces
    std::size_t window = 2;       // so many at a time: more with each that comes, one while it is silent
    int silent = 0;               // polls since something came
    bool gave = false, elsewhere = false;
    bool slow() const { return silent >= (gave ? 2 : 1); }
  };
  void forget();
  std::optional<std::size_t> next_piece() const;
  bool nobody_has_it() const;

  std::size_t piece_;
  float_array values_;
  std::vector<bool> here_;
  std::size_t here_count_ = 0;
  std::optional<state_name> wanted_;
  message::state_part facts_;
  site_id first_source_ = 0;
  std::vector<site_id> order_;
  std::map<site_id, holder> holders_;
  bool one_at_a_time_ = false;
  std::size_t turn_ = 0;  // whose it is then
};

}  // namespace isthmus
