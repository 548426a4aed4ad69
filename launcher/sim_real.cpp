#include "launcher/sim_real.hpp"

#include "framework/models/hybrid_model.hpp"
#include "launcher/conductor.hpp"
#include "launcher/launch.hpp"
#include "launcher/ledger_verdict.hpp"
#include "launcher/memory.hpp"
#include "launcher/rehearsal_report.hpp"
#include "launcher/stage.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace isthmus::launcher {

namespace {

/// What the conductor and its stage can do to processes and links.
bool is_played(fault_kind kind) {
  switch (kind) {
    case fault_kind::kill:
    case fault_kind::power:
    case fault_kind::wipe:
    case fault_kind::rot:
    case fault_kind::stop:
    case fault_kind::leave:
    case fault_kind::device:
    case fault_kind::slow:
    case fault_kind::tear:
    case fault_kind::disk_full: return true;
    default: return is_of_links(kind);
  }
}

expected<void> check_faults(const recipe& plan, bool of_packets) {
  for (std::size_t i = 0; i < plan.faults.size(); ++i) {
    const auto& name = plan.faults[i].kind;
    const auto kind = kind_of_fault(name);
    const bool needs_packets = kind == fault_kind::duplicate || kind == fault_kind::reorder;
    if (is_played(kind) && (of_packets || !needs_packets)) continue;
    return fail(errc::recipe_invalid, fmt::format("faults.{}.kind = \"{}\" cannot be done to real processes{}; `isthmus sim` without "
                                                  "--real plays all faults",
                                                  i, name, needs_packets ? " but by network namespaces (--links tun)" : ""));
  }
  return {};
}

expected<std::unique_ptr<stage>> build_stage(const std::string& links, const recipe& plan, console& out) {
  if (links == "frames") return stage::build(plan, false);
  const auto root = emulator::become_root_somewhere();
  auto made = root ? stage::build(plan, true) : expected<std::unique_ptr<stage>>(root.failure());
  if (made || links == "tun") return made;
  out.warn(fmt::format("no network namespaces with TUN devices here ({}): faults of links are done to frames (--links frames)",
                       made.error().message));
  return stage::build(plan, false);
}

std::string played_text(const std::vector<played_fault>& played) {
  std::map<std::string, int> kinds;
  for (const auto& p : played) ++kinds[name_of_fault(p.fault.kind)];
  std::string text = fmt::format("faults {}", played.size());
  const char* before = ": ";
  for (const auto& [kind, n] : kinds) {
    text += fmt::format("{}{} {}", before, kind, n);
    before = ", ";
  }
  return text + "\n";
}

std::string packets_text(const emulator::packet_counters& p) {
  return fmt::format(
      "packets {}: delivered {}, cut {}, lost {}, overflowed {}, duplicated {}, reordered {}, corrupted {}, torn {}; {} resets\n", p.taken,
      p.delivered, p.cut, p.lost, p.overflowed, p.duplicated, p.reordered, p.corrupted, p.torn, p.resets);
}

}  // namespace

int run_sim_real(const sim_options& options, const recipe& plan, console& out) {
  if (const auto ok = check(plan.model); !ok) return out.error(exit_recipe, ok.error().message);
  if (const auto ok = check_faults(plan, options.links != "frames"); !ok) return out.error(ok.error());
  if (const auto ok = check_memory(plan); !ok) return out.error(ok.error());
  auto where = build_stage(options.links, plan, out);
  if (!where) return out.error(where.error());
  if (const auto ok = check_faults(plan, (*where)->in_spaces()); !ok) return out.error(ok.error());
  if ((*where)->in_spaces() && plan.coordinator.log == "etcd")
    return out.error(exit_environment,
                     "coordinator.log = \"etcd\": from the namespaces of a rehearsal no etcd can be reached; --links frames does "
                     "without them");
  if (plan.coordinator.processes > 1)
    return out.error(exit_environment,
                     fmt::format("coordinator.processes = {}: a rehearsal steers one; it is started again when it is killed",
                                 plan.coordinator.processes));
  const auto signals = hold_signals();
  auto run = make_run_folder(plan, options.run_folder);
  if (!run) return out.error(run.error());
  const auto lock = run_lock::take(run->path);
  if (!lock) return out.error(lock.error());
  show_header(*run, out);
  if (const int code = prepare_text(*run, signals, out); code != exit_ok) return code;
  if (const auto ok = give_addresses(*run, (*where)->addresses()); !ok) return out.error(ok.error());
  launch_memory memory;
  conductor lead(*run, memory, out, where->get());
  const int code = lead.conduct();
  if (code == exit_interrupted || code == exit_stopped) {
    out.progress(fmt::format("{}: nothing is proved; what there was lies in {}\n", lead.reason(), shell_word(run->path)));
    return code;
  }
  const auto report = report_rehearsal(*run, lead, code);
  if (options.json) {
    auto answer = report_json(report);
    answer["schema"] = 1;
    answer["run"] = run->path;
    answer["seed"] = plan.run.seed;
    answer["links"] = (*where)->in_spaces() ? "tun" : "frames";
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else {
    out.answer("\n" + played_text(lead.played()));
    if ((*where)->in_spaces()) out.answer(packets_text((*where)->packets()));
    out.answer(report_text(report) + ledger_text(report.ledger));
    for (const auto& b : report.broken) out.answer("BROKEN " + b + "\n");
    out.answer(
        fmt::format("{}; look: isthmus status {}\n", report.broken.empty() ? "every promise was kept" : "NOT kept", shell_word(run->path)));
  }
  return report.broken.empty() ? exit_ok : exit_violated;
}

}  // namespace isthmus::launcher
