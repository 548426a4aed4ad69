#include "framework/metrics/run_store.hpp"
#include "framework/metrics/terminal.hpp"
#include "framework/transport/address.hpp"
#include "framework/transport/link_probe.hpp"
#include "launcher/recipes.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/verbs.hpp"
#include "launcher/view.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <vector>

namespace isthmus::launcher {

namespace {

constexpr int tries = 5;
constexpr auto patience = std::chrono::seconds(1);

/// One line of the answer. What is not known is none.
struct probed_link {
  std::string from, to, address;
  std::string way;    // direct, refused, silent, outward, here (made and measured in this process), not known
  std::string state;  // as the run's store has it, "gone" of one that is over; empty where there is none
  std::optional<double> round_trip_seconds, loss, bytes_per_second;
  std::string trouble;
};

const char* name_of(door found) { return found == door::open ? "direct" : found == door::refused ? "refused" : "silent"; }

void call(probed_link& link) {
  const auto probe = probe_door(link.address, tries, patience);
  link.way = probe ? name_of(probe->found) : "not known";
  if (!probe) {
    link.trouble = probe.error().message;
    return;
  }
  link.loss = probe->loss;
  if (probe->round_trip_seconds > 0) link.round_trip_seconds = probe->round_trip_seconds;
}

/// A run's links as its sites see them, and whether the address that is dialled can be called from here.
expected<std::vector<probed_link>> links_of_run(const std::string& path) {
  const auto run = open_run_folder(path);
  if (!run) return run.failure();
  const auto store = run_store_reader::open(path + "/metrics.sqlite");
  if (!store) return store.failure();
  const auto rows = store->links();
  if (!rows) return rows.failure();
  const auto row_of_run = store->run();
  if (!row_of_run) return row_of_run.failure();
  const bool live = is_live(state_now(*row_of_run, path));
  const auto addresses = run->people.addresses();
  const auto name = [&](site_id s) { return s == coordinator_id ? std::string("coordinator") : run->plan.sites.at(s).name; };
  std::map<site_id, probed_link> doors;
  for (const auto& [site, address] : addresses) {
    doors[site].address = address;
    call(doors[site]);
  }
  std::vector<probed_link> links;
  for (const auto& row : *rows) {
    const site_id dialled = row.peer == coordinator_id ? row.peer : std::min(row.site, row.peer);
    if (!doors.contains(dialled)) continue;
    probed_link link = doors.at(dialled);
    link.from = name(row.site);
    link.to = name(row.peer);
    link.state = row.state == "up" && !live ? "gone" : row.state;          // nobody is left to say
    if (link.way != "direct" && link.state == "up") link.way = "outward";  // it stands, though nobody could call
    if (row.round_trip_seconds > 0) link.round_trip_seconds = row.round_trip_seconds;
    if (row.send_bytes_per_second > 0) link.bytes_per_second = row.send_bytes_per_second;
    links.push_back(std::move(link));
  }
  return links;
}

ucx_transport_options options_of(const recipe& plan) {
  ucx_transport_options o;
  o.endpoints = static_cast<int>(plan.links.endpoints);
  o.chunk_bytes = static_cast<std::size_t>(plan.links.chunk_bytes);
  o.window_bytes = static_cast<std::size_t>(plan.links.window_bytes);
  return o;
}

/// Both ends, on free ports of their hosts, where they are this machine's; else a call.
std::vector<probed_link> links_of_recipe(const recipe& plan) {
  const real_clock time;
  const auto any_port = [](const std::string& address) { return address.substr(0, address.rfind(':')) + ":0"; };
  const auto is_here = [](const std::string& address) {
    const auto at = parse_address(address);
    return at && device_of(*at);
  };
  std::vector<probed_link> links;
  for (std::size_t i = 0; i < plan.sites.size(); ++i)
    for (std::size_t j = i + 1; j < plan.sites.size(); ++j) {
      const auto &called = plan.sites[i], &caller = plan.sites[j];
      probed_link link{caller.name, called.name, called.address, "", "", {}, {}, {}, ""};
      if (!is_here(called.address) || !is_here(caller.address)) {
        call(link);
      } else if (const auto m =
                     measure_link(options_of(plan), any_port(caller.address), any_port(called.address), std::chrono::seconds(1), time);
                 m) {
        link.way = "here";
        link.bytes_per_second = m->bytes_per_second;
        if (m->round_trip_seconds > 0) link.round_trip_seconds = m->round_trip_seconds;
      } else {
        link.way = "not known";
        link.trouble = m.error().message;
      }
      links.push_back(std::move(link));
    }
  return links;
}

std::string answer_json(const std::vector<probed_link>& links) {
  const auto known = [](const std::optional<double>& value) { return value ? nlohmann::json(*value) : nlohmann::json(nullptr); };
  nlohmann::json answer{{"schema", 1}, {"links", nlohmann::json::array()}};
  for (const auto& l : links)
    answer["links"].push_back({{"from", l.from},
                               {"to", l.to},
                               {"address", l.address},
                               {"way", l.way},
                               {"state", l.state},
                               {"round_trip_seconds", known(l.round_trip_seconds)},
                               {"loss", known(l.loss)},
                               {"bytes_per_second", known(l.bytes_per_second)},
                               {"trouble", l.trouble}});
  return answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string answer_table(const std::vector<probed_link>& links) {
  std::vector<std::vector<std::string>> rows{{"link", "address", "way through", "state", "round trip", "loss", "rate"}};
  std::string notes;
  for (const auto& l : links) {
    const std::string way = l.way == "outward" ? "only outward (NAT, firewall)" : l.way == "silent" ? "nothing answers" : l.way;
    rows.push_back({l.from.empty() ? "from here" : l.from + " -> " + l.to, l.address, way, l.state.empty() ? "-" : l.state,
                    l.round_trip_seconds ? fmt::format("{:.2f} ms", *l.round_trip_seconds * 1e3) : "-",
                    l.loss ? fmt::format("{:.0f} %", *l.loss * 100) : "-",
                    l.bytes_per_second ? show_bytes(*l.bytes_per_second) + "/s" : "-"});
    if (!l.trouble.empty()) notes += fmt::format("{}: {}\n", l.address, l.trouble);
  }
  return show_table(rows, {false, false, false, false, true, true, true}) + notes;
}

}  // namespace

int run_net(const net_options& options, console& out) {
  std::vector<probed_link> links;
  const bool addresses =
      !options.what.empty() && std::all_of(options.what.begin(), options.what.end(), [](const auto& w) { return bool(parse_address(w)); });
  if (addresses) {
    for (const auto& address : options.what) {
      probed_link link;
      link.address = address;
      call(link);
      links.push_back(std::move(link));
    }
  } else if (options.what.size() > 1) {
    return out.error(exit_usage, "net: one recipe, one run, or addresses as in 10.0.0.1:7000");
  } else if (const auto run = find_run(options.what.empty() ? "" : options.what.front()); run) {
    auto found = links_of_run(*run);
    if (!found) return out.error(found.error());
    links = std::move(*found);
  } else {
    if (options.what.empty()) return out.error(run.error());
    const auto plan = read_or_complain(options.what.front(), {}, out);
    if (!plan) return exit_recipe;
    links = links_of_recipe(*plan);
  }
  out.answer(options.json ? answer_json(links) : answer_table(links));
  return exit_ok;
}

}  // namespace isthmus::launcher
