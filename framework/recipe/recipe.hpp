#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/models/config.hpp"
#include "framework/optim/schedule.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// One whole run as a value: what a recipe file says, defaults filled in. The defaults stand here and nowhere else; ranges and
/// help texts stand in schema.cpp. Counts are int64, so that a file's numbers fit unchanged; every value that load_recipe gives has
/// passed its range and the checks between keys.
struct recipe {
  struct run_section {
    std::string name = "run";  // part of the run folder's name
    std::int64_t seed = 1;
    std::int64_t tokens = 1'000'000;  // trained in all, over all sites
    bool deterministic = false;       // same seed, same bits: one device a site, rounds wait for all sites
    bool operator==(const run_section&) const = default;
  } run;

  model_config model;  // [model]; its vocabulary is data.vocabulary

  struct train_section {
    std::int64_t context = 256;            // tokens in a row
    std::int64_t tokens_per_step = 1024;   // of one site and local step, a multiple of context
    double learning_rate = 2e-3;           // peak
    std::int64_t warm_up_tokens = 50'000;  // of the whole run: linear up to the peak
    double final_rate_ratio = 0.1;         // the rate ends at learning_rate times this
    std::int64_t decay_tokens = 0;         // the peak is kept until so many are left, then linearly down; 0: a cosine all the way
    double weight_decay = 0.1;
    double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
    double clip_norm = 1.0;  // global gradient norm; 0: no clipping
    bool operator==(const train_section&) const = default;
  } train;

  struct round_section {
    std::string codec = "sparse_loco";  // none | int8 | sparse_loco | own.*
    std::int64_t warm_up_rounds = 0;    // rounds at the beginning that go with int8, before codec = "sparse_loco"
    std::int64_t inner_steps = 10;      // H
    std::int64_t groups = 4;            // parameter groups, spread over the homes
    std::string outer = "nesterov";     // nesterov | plain
    double outer_learning_rate = 0.7;
    double outer_momentum = 0.9;
    std::string aggregate = "mean";                              // mean | clip_to_median | centred_clipping | trimmed_mean
    double residual_decay = 0.95;                                // of a codec's error feedback, each round
    std::int64_t quorum = 0;                                     // contributions that let a round close; 0: a majority of the members
    double grace_seconds = 5;                                    // waited for the rest once the quorum is there
    double deadline_min_seconds = 2, deadline_max_seconds = 60;  // bounds of the learned deadline
    std::int64_t reference_tokens = 0;                           // unit of contributions; 0: tokens_per_step * inner_steps
    bool operator==(const round_section&) const = default;
  } round;

  /// What homes do about contributions that may be wrong: docs/hostile.md. As it stands they trust them all.
  struct guard_section {
    std::int64_t hostile_max = 1;       // round.aggregate = "trimmed_mean": largest and smallest left out of each element
    double norm_veto = 0;               // longer than so many times the median contribution, by tokens: vetoed; 0: never
    double similarity_veto = 0;         // cosine with an earlier contribution, or another's, that makes it a replay or copy; 0: never
    double direction_veto = -1;         // median cosine with the others' up to which it is vetoed; -1: never
    double weight_cap = 0;              // tokens counted of a contribution, in medians of the round; 0: all
    std::int64_t probation_rounds = 0;  // of its own that a new site has committed before it counts in full
    double probation_weight = 0.25;     // until then so much of its tokens count
    std::int64_t barred_after = 0;      // vetoes in a row that bar a site; 0: never
    std::int64_t barred_rounds = 10;    // for so many rounds
    double audit_rate = 0;              // chance that a home trains a contribution of a site with shared_text again; 0: never
    double audit_cosine = 0.25;         // of what came with what that makes, below which the audit has failed
    bool operator==(const guard_section&) const = default;
  } guard;

  struct data_section {
    std::int64_t vocabulary = 2048;
    std::string tokenizer = "train";           // "train": merged pair counts of all sites; else the path of a tokenizer.json
    std::string split = "by_domain";           // by_domain: each site its own source; alike: all shards drawn from the union
    std::string documents = "packed";          // packed: attention looks over their ends; separate: it does not
    std::int64_t text_bytes_max = 10'000'000;  // of each source's text
    std::int64_t shared_count_minimum = 10;    // a word rarer than this at a site is never told to the others for the tokenizer
    std::int64_t held_out_tokens = 32'768;     // kept apart at each site, for evaluation only
    std::int64_t evaluation_every_rounds = 10;
    bool operator==(const data_section&) const = default;
  } data;

  struct links_section {
    std::int64_t heartbeat_ms = 250;
    std::int64_t dead_after_ms = 2000;
    std::int64_t chunk_bytes = 1 << 20;
    std::int64_t window_bytes = 16 << 20;
    std::int64_t endpoints = 1;  // UCX endpoints a link
    std::string data_ports;      // that UCX listens on, "20000-20100"; empty: any
    std::string bulk = "ucx";    // what bulk data go over: ucx, or tcp for connections of our own
    bool operator==(const links_section&) const = default;
  } links;

  struct coordinator_section {
    std::string log = "file";        // file | etcd: where its decisions stand
    std::vector<std::string> etcd;   // members of an etcd, "http://127.0.0.1:2379"
    std::int64_t processes = 1;      // one leads, the others wait for the lead to become free
    std::int64_t lease_seconds = 4;  // a lead that is not renewed ends so long after
    bool operator==(const coordinator_section&) const = default;
  } coordinator;

  struct checkpoint_section {
    std::int64_t every_rounds = 5;
    std::int64_t keep = 2;
    bool operator==(const checkpoint_section&) const = default;
  } checkpoint;

  struct site {
    std::string name;          // unique; part of file names
    bool home = true;          // may aggregate
    std::int64_t devices = 1;  // data parallel in shared memory
    std::int64_t threads_per_device = 1;
    std::string address = "127.0.0.1:0";  // port 0: a free one is picked at launch
    std::string source;                   // name of its corpus source (data.split = by_domain)
    double tokens_per_second = 0;         // it trains no faster, and does not catch up; 0: as fast as it can
    bool shared_text = false;             // its text is no secret: homes may hold it, and audit the site
    bool nat = false;                     // can only dial out
    bool spare = false;                   // holds all that the others hold, and trains in the place of a site that is missing
    bool operator==(const site&) const = default;
  };
  std::vector<site> sites;  // [[sites]]; a site's id is its place here

  struct fault {
    std::int64_t at_round = 0;       // fires when this round is committed
    std::int64_t at_tokens = 0;      // or when so many tokens of the whole run are trained
    double at_seconds = 0;           // or so long after the start
    double every_seconds = 0;        // or again and again, at drawn times that far apart on average. Exactly one of the four is not 0
    double again_after_seconds = 0;  // at_seconds only: and again each so many seconds, while the fault phase lasts; 0: once
    double chance = 1;               // that a run has it at all; drawn once for the run
    std::string kind = "kill";       // framework/recipe/fault_kinds.hpp
    std::string site;                // its name; "coordinator"; "any": a site drawn each time
    std::string peer = "all";        // the other end, of faults of links: a name, "coordinator", "any" or "all"
    double back_after_seconds = 3;   // then restarted, continued or healed; for every_seconds drawn, this on average
    double amount = 0;               // what the kind says; 0: its default
    bool operator==(const fault&) const = default;
  };
  std::vector<fault> faults;  // [[faults]]; rehearsed by the launcher and the simulation

  /// How a simulation plays the run: `isthmus sim`.
  struct scenario_section {
    std::string arithmetic = "grid";  // grid: whole numbers in place of the model, which cost next to nothing; model: the recipe's
    double step_seconds = 0.05;       // virtual time of a site's local step
    double fault_seconds = 30;        // faults fire in the first so many; then all is healed
    double heal_seconds = 600;        // and the run must end within so many
    double stays_down = 0;            // chance that one site is then not started again: the others must end the run
    bool draw_settings = false;       // each seed draws codec, groups, steps a round, checkpoints and the like anew
    bool operator==(const scenario_section&) const = default;
  } scenario;

  bool operator==(const recipe&) const = default;
};

// What follows from a recipe.
std::int64_t steps_per_site(const recipe& r);                // local steps a site plans: tokens / sites / tokens_per_step, rounded up
std::int64_t planned_rounds(const recipe& r);                // steps_per_site / inner_steps, rounded up
std::int64_t reference_tokens(const recipe& r);              // round.reference_tokens with its default filled in
std::int64_t rows_per_step(const recipe& r);                 // tokens_per_step / context
std::int64_t quorum(const recipe& r, std::int64_t members);  // contributions that let a round of so many members close
/// The site of that name, or nothing.
std::optional<std::uint32_t> find_site(const recipe& r, std::string_view name);

/// The learning rate by tokens of the whole run: it ends at learning_rate * final_rate_ratio.
rate_schedule learning_rates(const recipe& r);

/// One thing that is wrong in a recipe, ready to be shown.
struct recipe_problem {
  std::string code;      // "R012", docs/errors.md
  std::string message;   // what was found
  std::string place;     // "recipes/tiny.toml:14:1", or the override
  std::string allowed;   // what would be right; may be empty
  std::string help;      // what to do; may be empty
  bool warning = false;  // the recipe is usable all the same
};

/// A key with its value in canonical TOML and where the value came from: "default", "recipes/tiny.toml:14:11", "override".
struct recipe_value {
  std::string key, value, origin, help;
};

/// All that reading a recipe gives: every problem at once; a value only when none of them is an error.
struct recipe_reading {
  std::optional<recipe> value;
  std::vector<recipe_problem> problems;
  std::vector<recipe_value> values;  // of every key, in schema order
};

/// Parses TOML text; `file` is its name in messages. overrides: "key.path=value"; elements of lists by index or by name
/// ("sites.0.devices=2", "sites.alpha.devices=2"); later ones win.
recipe_reading read_recipe(std::string_view text, const std::string& file, const std::vector<std::string>& overrides = {});
/// The same from a regular file of at most 1 MiB.
recipe_reading read_recipe_file(const std::string& path, const std::vector<std::string>& overrides = {});
/// read_recipe_file for those who only want to go on: all problems in one message, errc::recipe_invalid or not_found.
expected<recipe> load_recipe(const std::string& path, const std::vector<std::string>& overrides = {});

/// Canonical TOML: every key in schema order (an empty links.data_ports aside), numbers in their shortest exact form. Reading it gives the same recipe.
std::string write_recipe(const recipe& r);
/// Of the canonical text; sites with different hashes refuse each other.
hash128 recipe_hash(const recipe& r);

/// Problems as text, one paragraph each: `error[R012]: ...`, `  --> place`, allowed and help.
std::string show_problems(const std::vector<recipe_problem>& problems);

/// One key as `isthmus show --schema` explains it; a default of "-" means none.
struct recipe_key {
  std::string key, default_value, allowed, meaning;
};
/// Every key of a section, or of all ("").
std::vector<recipe_key> recipe_schema(std::string_view section);

}  // namespace isthmus
