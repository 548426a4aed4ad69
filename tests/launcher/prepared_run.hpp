#pragma once

#include "framework/data/token_shard.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/tokenizer/tokenizer.hpp"
#include "tests/launcher/program.hpp"

#include <string>
#include <vector>

namespace isthmus::tests {

/// A runs root with runs in it as `launch` leaves them before anything is trained: recipe, roster, keys, tokenizer, one token shard.
struct prepared_runs {
  scratch_folder scratch;
  surroundings where{{"ISTHMUS_RUNS=" + scratch.path.string()}, {}, {}, false, ~std::size_t{0}};

  /// Makes the run; its tokenizer joins `merged` with other bytes, so that another letter gives another one. more: of the recipe,
  /// "model.d_model=64". Gives its folder.
  std::string add(const std::string& name, char merged = 'a', std::size_t held_out_tokens = 1000,
                  const std::vector<std::string>& more = {});
  /// As if its shard had been made with the tokenizer of that letter.
  void put_shard(const std::string& run, char merged, std::size_t held_out_tokens);
  /// A checkpoint of its first weights, as if a site had come to that round. Gives its folder.
  std::string add_checkpoint(const std::string& run, site_id site = 0, round_number round = 0);
  outcome go(const std::vector<std::string>& arguments) const { return run_isthmus(arguments, where); }
  /// One of the run's processes, started as by its launcher; `err` of the outcome is its log.
  outcome run_process(const std::string& run, const std::string& verb) const;
};

/// The lock of a run as its launcher holds it for its life: until the descriptor is closed.
int hold_launcher_lock(const std::string& run);

/// The tokenizer of that letter: 256 bytes, merges, the end of text.
tokenizer letter_tokenizer(char merged);

}  // namespace isthmus::tests
