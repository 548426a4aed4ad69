#include "framework/metrics/terminal.hpp"
#include "framework/recipe/nearest.hpp"
#include "framework/transport/ucx_transport.hpp"
#include "launcher/build_info.hpp"
#include "launcher/children.hpp"
#include "launcher/verbs.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <functional>
#include <iostream>

namespace isthmus::launcher {

namespace {

constexpr std::size_t argument_bytes_max = 128 << 10;

/// Whatever else is wrong with the command line: who asks for JSON gets its error as JSON, too.
bool asks_for_json(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i)
    if (std::string_view(argv[i]) == "--json") return true;
  return false;
}

/// CLI::Range of decimal numbers, but for those beyond 64 bits, which that clamps.
CLI::Validator integer_within(std::int64_t low, std::int64_t high) {
  const auto allowed = fmt::format("INT in [{} - {}]", low, high);
  return CLI::Validator(
      [=](std::string& text) {
        std::int64_t value = 0;
        const char* end = text.data() + text.size();
        const auto [stop, status] = std::from_chars(text.data(), end, value);
        if (status != std::errc() || stop != end || value < low || value > high) return fmt::format("{} not in {}", text, allowed);
        text = std::to_string(value);  // the parser would take a leading 0 for octal
        return std::string{};
      },
      allowed);
}

/// CLI::Range, but for NaN, which that lets pass.
[[maybe_unused]] CLI::Validator number_within(double low, double high) {
  const auto allowed = fmt::format("FLOAT in [{} - {}]", low, high);
  return CLI::Validator(
      [=](std::string& text) {
        double value = 0;
        return CLI::detail::lexical_cast(text, value) && value >= low && value <= high ? std::string{}
                                                                                       : fmt::format("{} not in {}", text, allowed);
      },
      allowed);
}

/// What a script gives when its variable is not set: no run, no file, and not "the newest" either.
CLI::Validator not_empty() {
  return CLI::Validator([](std::string& text) { return text.empty() ? std::string("must not be empty") : std::string{}; }, "");
}

/// A name for something new. The parser takes the flag that follows for the value that was forgotten.
CLI::Validator new_name() {
  return CLI::Validator(
      [](std::string& text) {
        if (text.empty()) return std::string("must not be empty");
        return text.starts_with("-") ? fmt::format("{} begins with a dash; ./{} is such a folder", text, text) : std::string{};
      },
      "");
}

/// The command line as a tree of options; parse() runs the chosen verb.
class command_line {
public:
  command_line() {
    app_.require_subcommand(0, 1);
    app_.fallthrough();
    app_.add_flag("--quiet,-q", settings_.quiet, "no progress on standard error");
    app_.add_option("--color", colour_, "auto, always or never")->check(CLI::IsMember({"auto", "always", "never"}))->capture_default_str();
    app_.set_version_flag("--version", fmt::format("isthmus {}", build_version));
    app_.footer(
        "A first run:\n  isthmus launch quickstart\nExit codes: 0 ok, 1 failed, 2 usage, 3 recipe, 4 environment, 5 file, 6 refused, 7 "
        "stopped (resumable), 8 promise "
        "violated, 130 interrupted.");
    reading_verbs();
    run_verbs();
    model_verbs();
    sim_verbs();
    link_verbs();
    child_verbs();
  }

  int parse(int argc, char** argv) {
    settings_.json = asks_for_json(argc, argv);
    if (const int refused = refuse_arguments(argc, argv); refused != exit_ok) return refused;
    try {
      app_.parse(argc, argv);
    } catch (const CLI::Success& help) {  // --help, --version
      console out(settings());
      std::ostringstream text;
      app_.exit(help, text, text);
      out.answer(text.str());
      return out.finish(exit_ok);
    } catch (const CLI::ParseError& e) { return explain(e); }
    console out(settings());
    if (!chosen_) {
      out.answer(app_.help());
      return out.finish(exit_usage);
    }
    return out.finish(chosen_(out));
  }

private:
  /// A verb that takes options of type Options; `add` binds flags to them.
  template <class Options, class Add>
  void verb(const char* name, const char* help, const char* example, int (*run)(const Options&, console&), Add add) {
    auto options = std::make_shared<Options>();
    auto* sub = app_.add_subcommand(name, help);
    sub->footer(fmt::format("Example:\n  {}", example));
    add(*sub, *options);
    sub->callback([this, options, run] { chosen_ = [options, run](console& out) { return run(*options, out); }; });
  }

  static void json_flag(CLI::App& sub, bool& json) {
    sub.add_flag("--json", json, "machine-readable answer, documented in docs/manual.md");
  }

  void reading_verbs() {
    verb<ls_options>("ls", "lists the recipes that came along", "isthmus ls", run_ls,
                     [](CLI::App& sub, ls_options& o) { json_flag(sub, o.json); });
    verb<cp_options>("cp", "copies a recipe, to edit it", "isthmus cp quickstart mine.toml", run_cp, [](CLI::App& sub, cp_options& o) {
      sub.add_option("recipe", o.recipe, "name or path of a recipe")->required();
      sub.add_option("destination", o.destination, "file or folder")->required()->check(not_empty());
      sub.add_flag("--force", o.force, "overwrite");
    });
    verb<show_options>(
        "show", "prints a recipe with every default filled in", "isthmus show quickstart train.context=128 --origin", run_show,
        [](CLI::App& sub, show_options& o) {
          sub.add_option("recipe", o.recipe, "name or path of a recipe; with --schema: a section");
          auto* overrides = sub.add_option("overrides", o.overrides, "key.path=value");
          auto* origin = sub.add_flag("--origin", o.origin, "where each value comes from");
          sub.add_flag("--schema", o.schema, "every key with its default, range and meaning")->excludes(origin)->excludes(overrides);
          json_flag(sub, o.json);
        });
    verb<validate_options>("validate", "checks a recipe and shows everything that is wrong", "isthmus validate mine.toml", run_validate,
                           [](CLI::App& sub, validate_options& o) {
                             sub.add_option("recipe", o.recipe, "name or path of a recipe")->required();
                             sub.add_option("overrides", o.overrides, "key.path=value");
                             json_flag(sub, o.json);
                           });
    verb<doctor_options>("doctor", "tells what this machine has and lacks", "isthmus doctor", run_doctor,
                         [](CLI::App& sub, doctor_options& o) { json_flag(sub, o.json); });
    verb<version_options>("version", "prints the version", "isthmus version --json", run_version,
                          [](CLI::App& sub, version_options& o) { json_flag(sub, o.json); });
  }

  void run_verbs() {
    verb<launch_options>(
        "launch", "trains a recipe: makes a run folder, starts every site, shows progress", "isthmus launch quickstart run.tokens=300_000",
        run_launch, [](CLI::App& sub, launch_options& o) {
          sub.add_option("recipe", o.recipe, "name or path of a recipe")->required();
          sub.add_option("overrides", o.overrides, "key.path=value");
          sub.add_option("--run-folder", o.run_folder, "a new or empty folder instead of runs/<name>-<time>")->check(new_name());
          sub.add_flag("--dry-run", o.dry_run,
                       "check the recipe, train one step here and tell the memory that each site will need; no run");
        });
    verb<resume_options>(
        "resume", "goes on with a run that was stopped or killed", "isthmus resume runs/quickstart-20260101-120000", run_resume,
        [](CLI::App& sub, resume_options& o) { sub.add_option("run", o.run, "run folder or its name")->required()->check(not_empty()); });
    verb<status_options>("status", "shows runs, or one run, also after a crash", "isthmus status runs/quickstart-20260101-120000",
                         run_status, [](CLI::App& sub, status_options& o) {
                           sub.add_option("run", o.run, "run folder or its name; none: all runs")->check(not_empty());
                           json_flag(sub, o.json);
                         });
    verb<evaluate_options>(
        "evaluate", "tells the loss of a run's anchor on held-out text, every row of it", "isthmus evaluate my-run --on another-run",
        run_evaluate, [](CLI::App& sub, evaluate_options& o) {
          sub.add_option("run", o.run, "run folder or its name; none: the newest run")->check(not_empty());
          sub.add_option("--on", o.on, "the run whose held-out text is taken; none: its own; same tokenizer")->check(not_empty());
          json_flag(sub, o.json);
        });
  }

  void model_verbs() {
    verb<generate_verb_options>(
        "generate", "writes text with the newest checkpoint of a run, a Hugging Face folder or a GGUF file",
        "isthmus generate my-run --prompt \"The editor\"", run_generate, [](CLI::App& sub, generate_verb_options& o) {
          sub.add_option("run", o.run, "run folder or its name, a folder with config.json, or a GGUF file; none: the newest run")
              ->check(not_empty());
          sub.add_option("--prompt", o.prompt, "text to continue; --prompt=-x for one that begins with a dash");
          sub.add_option("--tokens", o.tokens, "at most so many new tokens")->transform(integer_within(1, 1 << 20))->capture_default_str();
          sub.add_option("--temperature", o.temperature, "0: always the most likely token")
              ->check(number_within(0, 100))
              ->capture_default_str();
          sub.add_option("--top-p", o.top_p, "draw from the most likely tokens that sum to this")
              ->check(number_within(0.01, 1))
              ->capture_default_str();
          sub.add_option("--seed", o.seed, "the same seed gives the same text")
              ->transform(integer_within(0, INT64_MAX))
              ->capture_default_str();
          sub.add_option("--site", o.site, "whose checkpoint; none: the furthest");
          sub.add_option("--weights", o.weights, "how they are read: master (as trained), bf16, int8, int4")
              ->check(CLI::IsMember({"master", "bf16", "int8", "int4"}))
              ->capture_default_str();
          sub.add_option("--kv-cache", o.kv_cache, "attention's keys and values: full (as computed), or bf16, in half the memory of fp32")
              ->check(CLI::IsMember({"full", "bf16"}))
              ->capture_default_str();
          sub.add_flag("--one-by-one", o.one_by_one, "decode without the model's Medusa heads, which speed up --temperature 0");
          json_flag(sub, o.json);
        });
    verb<convert_options>("convert", "writes a model as a Hugging Face folder that Transformers loads",
                          "isthmus convert my-run my-model --dtype bf16", run_convert, [](CLI::App& sub, convert_options& o) {
                            sub.add_option("source", o.source,
                                           "run folder or its name (its newest checkpoint), a folder with config.json, or a GGUF file")
                                ->required()
                                ->check(not_empty());
                            sub.add_option("destination", o.destination, "a new folder")->required()->check(new_name());
                            sub.add_option("--dtype", o.type, "of the weights: f32, bf16, f16")
                                ->check(CLI::IsMember({"f32", "bf16", "f16"}))
                                ->capture_default_str();
                            json_flag(sub, o.json);
                          });
  }

  void sim_verbs() {
    verb<sim_options>(
        "sim", "plays a recipe with its faults in simulation, seed after seed", "isthmus sim faults --seeds 1..1000", run_sim,
        [](CLI::App& sub, sim_options& o) {
          sub.add_option("recipe", o.recipe, "name or path of a recipe")->required();
          sub.add_option("overrides", o.overrides, "key.path=value");
          sub.add_option("--seeds", o.seeds, "one, or a range as in 1..10000; none: the recipe's")->check(not_empty());
          sub.add_option("--jobs", o.jobs, "processes; none: one a core")->transform(integer_within(1, 1024));
          sub.add_flag("--events", o.events, "of one seed: what happened, line by line, on standard error");
          sub.add_option("--keep", o.keep, "of one seed: writes the run's ledgers and checkpoints to this new or empty folder")
              ->check(new_name());
          sub.add_option("--shrink", o.shrink, "writes the shortest scenario that still fails to this file")->check(new_name());
          sub.add_flag("--real", o.real, "with real processes, in network namespaces, and real time");
          sub.add_option("--links", o.links,
                         "with --real: tun (network namespaces, packets are hurt), frames (needs no privilege: processes hurt their own "
                         "frames), auto")
              ->check(CLI::IsMember({"auto", "tun", "frames"}))
              ->capture_default_str();
          sub.add_option("--run-folder", o.run_folder, "with --real: a new or empty folder instead of runs/<name>-<time>")
              ->check(new_name());
          json_flag(sub, o.json);
        });
    verb<ledger_options>("ledger", "proves from a run's logs that nothing was lost", "isthmus ledger my-run", run_ledger,
                         [](CLI::App& sub, ledger_options& o) {
                           sub.add_option("run", o.run, "run folder or its name; none: the newest run")->check(not_empty());
                           json_flag(sub, o.json);
                         });
  }

  void link_verbs() {
    verb<keys_options>(
        "keys", "makes, shows, lists and rotates the keys that seal links", "isthmus keys make alpha.key", run_keys,
        [](CLI::App& sub, keys_options& o) {
          sub.add_option("action", o.action, "make, show or rotate a key file; list a run's; token, admit: let a process enter its own")
              ->required()
              ->check(CLI::IsMember({"make", "show", "list", "rotate", "token", "admit"}));
          sub.add_option("path", o.path, "of the key file; list, token, admit: run folder or its name, none: the newest run")
              ->check(new_name());
          sub.add_option("--site", o.site, "token: the site whose key may be entered")->check(not_empty());
          sub.add_option("--expires", o.expires, "token: after 90s, 15m, 1h, 7d")->capture_default_str();
          sub.add_option("--out", o.out, "token: the new file that it is written to")->check(new_name())->capture_default_str();
          sub.add_option("--listen", o.listen, "token, admit: where newcomers call")->check(not_empty())->capture_default_str();
          json_flag(sub, o.json);
        });
    verb<join_options>(
        "join", "enters this machine's key in a run's roster, with a token", "isthmus join join.token --key alpha.key", run_join,
        [](CLI::App& sub, join_options& o) {
          sub.add_option("token", o.token, "file that `isthmus keys token` wrote; -: standard input")->required()->check(not_empty());
          sub.add_option("--key", o.key, "our key file; made where it is missing")->check(new_name())->capture_default_str();
          json_flag(sub, o.json);
        });
    verb<net_options>("net", "probes links: way through, round trip, loss, rate", "isthmus net 10.0.0.1:7000 10.0.0.2:7000", run_net,
                      [](CLI::App& sub, net_options& o) {
                        sub.add_option("what", o.what, "a run, a recipe, or addresses; none: the newest run")->check(not_empty());
                        json_flag(sub, o.json);
                      });
  }

  /// Started by the launcher alone; not in the help.
  void child_verbs() {
    for (const char* name : {"site", "coordinator"}) {
      verb<child_options>(name, "started by launch", "", run_child, [](CLI::App& sub, child_options& o) {
        sub.group("");
        sub.add_option("--run", o.run)->required();
        sub.add_option("--log", o.log)->required();
        sub.add_option("--launcher", o.launcher)->required();
        sub.add_option("--site", o.site);
        sub.add_option("--space", o.space);
        sub.add_option("--steering", o.steering);
        sub.add_option("--place", o.place);
      });
    }
  }

  console::settings settings() {
    settings_.colour = colour_ == "always" ? colour_choice::always : colour_ == "never" ? colour_choice::never : colour_choice::automatic;
    return settings_;
  }

  /// What no verb could make sense of.
  int refuse_arguments(int argc, char** argv) {
    for (int i = 1; i < argc; ++i)
      if (const std::string_view argument = argv[i]; argument.size() > argument_bytes_max) {
        console out(settings());
        return out.error(exit_usage,
                         fmt::format("argument {} has {} bytes; at most {} make sense", i, argument.size(), argument_bytes_max));
      }
    return exit_ok;
  }

  std::vector<std::string> verb_names() const {
    std::vector<std::string> out;
    for (const auto* sub : app_.get_subcommands([](const CLI::App* s) { return !s->get_group().empty(); })) out.push_back(sub->get_name());
    return out;
  }

  /// A parse error as one line with the nearest name that exists.
  int explain(const CLI::ParseError& e) {
    console out(settings());
    const auto subs = app_.get_subcommands();
    const CLI::App& where = subs.empty() ? app_ : *subs.front();
    const auto extras = app_.remaining(true);
    auto text = fmt::format("{}", e.what());
    const bool extra = e.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError);
    const bool missing = e.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError);  // perhaps taken for an unknown flag
    if (!extras.empty() && (extra || (missing && extras.front().starts_with("-")))) {
      const auto& first = extras.front();
      const bool flag = first.starts_with("-");
      text = fmt::format("unknown {} \"{}\"", flag ? "flag" : subs.empty() ? "verb" : "argument", fit_width(printable(first), 60, false));
      const auto names = flag ? flag_names(where) : verb_names();
      if (const auto near = subs.empty() || flag ? nearest_name(first.substr(0, first.find('=')), names) : ""; !near.empty())
        text += fmt::format("; did you mean \"{}\"?", near);
      else if (!flag && subs.empty())
        text += fmt::format("; verbs: {}", fmt::join(names, ", "));
    }
    const auto name = subs.empty() ? std::string("isthmus") : "isthmus " + where.get_name();
    return out.error(exit_usage, fmt::format("{}; see `{} --help`", text, name));
  }

  std::vector<std::string> flag_names(const CLI::App& where) const {
    std::vector<std::string> out;
    for (const CLI::App* app : {&where, &app_})
      for (const auto* option : app->get_options())
        for (const auto& name : option->get_lnames()) out.push_back("--" + name);
    return out;
  }

  CLI::App app_{"Trains language models over sites that are far apart, unequal and unreliable.", "isthmus"};
  console::settings settings_;
  std::string colour_ = "auto";
  std::function<int(console&)> chosen_;
};

}  // namespace

}  // namespace isthmus::launcher

int main(int argc, char** argv) {
  using namespace isthmus::launcher;
  isthmus::prepare_environment(argc, argv);
  open_standard_descriptors();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is seen as EPIPE where it matters
  try {
    return command_line().parse(argc, argv);
  } catch (const std::exception& e) {
    console out({.json = asks_for_json(argc, argv)});
    if (dynamic_cast<const std::bad_alloc*>(&e) != nullptr) return out.error(isthmus::exit_environment, "there is not enough memory");
    return out.error(isthmus::exit_failed, fmt::format("internal error: {}; please report it with the command line", e.what()));
  }
}
