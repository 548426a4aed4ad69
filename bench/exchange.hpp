#pragma once

#include "framework/codecs/codec.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/parameter_layout.hpp"
#include "framework/rounds/contribution_book.hpp"
#include "framework/rounds/parameter_group.hpp"
#include "framework/wire/wire.hpp"

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace isthmus::bench {

/// Rounds of three sites in one thread: real groups, books and wire frames, the wire itself a queue in memory. Groups are spread over the
/// homes; what stands for training is not counted.
class exchange {
public:
  static constexpr site_id sites = 3;
  struct traffic {
    std::size_t payload = 0;  // what the codec put into the frames that crossed, its own framing excluded
    std::size_t exact = 0;    // what codec::size says of them; of a union only what does not depend on the data
    std::size_t all = 0;      // every byte that crossed in that direction: headers and small messages too
  };

  exchange(const parameter_layout& layout, const std::string& codec, outer_rule outer);
  /// One round of every group. Contributions, deltas, commits; ends with the anchors back in the working weights.
  void round();
  /// CPU seconds of each site in the last round.
  const std::array<double, sites>& seconds() const { return seconds_; }
  const traffic& up() const { return up_; }      // contributions and what members answer, all rounds
  const traffic& down() const { return down_; }  // deltas and commits
  /// In the last round: elements that some contribution names, and that the deltas name (fewer only where a sum is zero).
  std::size_t union_elements() const { return union_elements_; }
  std::size_t delta_elements() const { return delta_elements_; }
  std::size_t parameters() const { return parameters_; }

private:
  struct site {
    std::vector<parameter_group> groups;
    std::vector<std::unique_ptr<contribution_book>> books;
    std::unique_ptr<wire::framer> frames;
    std::unique_ptr<float_array> working;
  };
  struct parcel {
    site_id from, to;
    wire::outgoing bytes;
  };

  void train(site_id id);
  void contribute(site_id id);
  void perform(site_id id, const group_actions& actions);
  void count(site_id from, const envelope& what, const wire::outgoing& bytes);
  void deliver(const parcel& p);

  std::vector<group_shape> shapes_;
  codec_pair codecs_;
  std::array<site, sites> sites_;
  std::array<double, sites> seconds_{};
  std::deque<parcel> wire_;
  std::unique_ptr<float_array> noise_;
  time_point now_{};
  step_number step_ = 0;
  traffic up_, down_;
  std::vector<std::vector<bool>> named_;  // by group: elements that a frame of this round names
  std::size_t parameters_ = 0, union_elements_ = 0, delta_elements_ = 0;
};

}  // namespace isthmus::bench
