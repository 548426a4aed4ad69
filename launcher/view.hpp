#pragma once

#include "framework/metrics/run_store.hpp"
#include "framework/metrics/terminal.hpp"
#include "framework/recipe/recipe.hpp"
#include "launcher/console.hpp"

#include <string>
#include <vector>

namespace isthmus::launcher {

/// One look at a run: what the live display, `status` and the end card show.
struct run_view {
  run_row run;
  std::vector<site_row> sites;
  std::vector<link_row> links;
  std::vector<evaluation_row> evaluations;
  std::vector<checkpoint_row> checkpoints;
  round_number committed = 0;              // by every group
  std::uint64_t tokens = 0;                // trained, over all sites
  double loss = 0, tokens_per_second = 0;  // over the sites that train
};

/// How many parameter groups the recipe's model is cut into.
std::int64_t group_count(const recipe& plan);
/// groups: of the run; its round is 0 until each has one.
expected<run_view> read_view(const run_store_reader& store, std::int64_t groups);
/// What the store says, corrected by whether its launcher still lives: one that does holds the run's lock. "crashed" if it should and does
/// not.
std::string state_now(const run_row& run, const std::string& run_path);
/// Whether a run in this state has processes that talk to each other.
bool is_live(const std::string& state);
/// Of a run that nobody drives any more: sites that could not say goodbye, and links, are "gone".
void mark_gone(run_view& view);

/// Rounds done, tokens, loss, rate and time left in two lines.
std::vector<std::string> progress_lines(const run_view& view, const recipe& plan, double elapsed, const eta_estimator& eta, int width,
                                        bool unicode);
/// The tables of sites and links, one line an entry.
std::vector<std::string> site_lines(const run_view& view, const recipe& plan, double now);
std::vector<std::string> link_lines(const run_view& view, const recipe& plan);
std::string site_name(const recipe& plan, site_id site);
std::string event_line_text(const event_row& event);
/// Where the words of event_line_text begin.
inline constexpr int event_text_column = 33;

/// Draws a run while it goes on: a block that is redrawn at a terminal, key=value lines elsewhere.
class live_display {
public:
  live_display(const recipe& plan, console& out) : plan_(plan), out_(out) {}
  /// One line that stays: events, and what the launcher does. A terminal's further lines begin below column `hang` of the first.
  void line(const std::string& text, int hang = 0);
  /// elapsed: seconds of this launch; now: wall. A note ("stopping ...") takes the place of the time left.
  void update(const run_view& view, double elapsed, double now, const std::string& note);
  /// The block is left as it is; what follows stands below it.
  void finish();

private:
  void erase();
  const recipe& plan_;
  console& out_;
  eta_estimator eta_;
  int drawn_ = 0;  // lines of the block
  double last_line_ = -1e9;
};

}  // namespace isthmus::launcher
