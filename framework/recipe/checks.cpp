#include "framework/models/hybrid_model.hpp"
#include "framework/models/layer_pairs.hpp"
#include "framework/recipe/fault_kinds.hpp"
#include "framework/recipe/schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace isthmus {

namespace {

constexpr const char* loopback = "127.0.0.0/8";

/// Collects what the checks find.
class checker {
public:
  checker(const recipe& r, const place_finder& places, std::vector<recipe_problem>& out) : r_(r), places_(places), out_(out) {}

  void all() {
    if (clean({"model"})) model();
    if (clean({"run", "train", "data", "sites"})) train();
    if (clean({"round", "sites"})) round();
    if (clean({"links"})) links();
    if (clean({"coordinator"})) coordinator();
    if (clean({"links", "sites"}) && !r_.links.data_ports.empty()) data_ports();
    if (clean({"sites", "data", "train"})) sites();
    if (clean({"run", "guard", "sites"})) audits();
    if (clean({"run", "train", "round", "sites", "faults"})) faults();
  }

private:
  bool clean(std::initializer_list<const char*> sections) const {
    return std::all_of(sections.begin(), sections.end(), [&](const char* s) { return places_.clean(s); });
  }
  void wrong(const char* code, const std::string& key, std::string message, std::string allowed, std::string help = {}) {
    out_.push_back({code, std::move(message), places_.place_of(key), std::move(allowed), std::move(help), false});
  }
  void doubtful(const char* code, const std::string& key, std::string message, std::string help) {
    out_.push_back({code, std::move(message), places_.place_of(key), {}, std::move(help), true});
  }

  void model() {
    const auto& m = r_.model;
    if (m.layers.empty()) {
      wrong("R030", "model", "the model has no layers", "layers = [\"attention\", \"mamba2\", ...], or pattern and n_layers");
      return;
    }
    for (const auto& fault : faults_of(m)) {
      const std::string& text = fault.message;  // "model.n_kv_heads is 3: it must divide n_heads = 4"
      const auto colon = text.find(": ");
      wrong("R031", model_key(text.substr(0, text.find(' '))), text.substr(0, colon),
            colon != std::string::npos ? text.substr(colon + 2) : "");
    }
    if (sees_ahead(m))
      wrong("R054", "model.layers", "a layer sees later tokens, which are what a recipe trains to predict", "causal layers");
  }

  /// A variant's key as its place in the list of them: model.variants.NAME.key becomes model.variants.0.key.
  std::string model_key(const std::string& key) const {
    for (std::size_t i = 0; i < r_.model.variants.size(); ++i)
      if (const std::string prefix = "model.variants." + r_.model.variants[i].name + "."; key.starts_with(prefix))
        return fmt::format("model.variants.{}.{}", i, key.substr(prefix.size()));
    return key;
  }

  void train() {
    const auto& t = r_.train;
    if (t.tokens_per_step % t.context != 0) whole_rows();
    if (t.warm_up_tokens >= r_.run.tokens)
      wrong("R034", "train.warm_up_tokens",
            fmt::format("train.warm_up_tokens = {} leaves nothing of run.tokens = {}", t.warm_up_tokens, r_.run.tokens),
            "fewer than run.tokens");
    else if (t.decay_tokens > r_.run.tokens - t.warm_up_tokens)
      wrong("R034", "train.decay_tokens",
            fmt::format("train.decay_tokens = {} and train.warm_up_tokens = {} are more than run.tokens = {}", t.decay_tokens,
                        t.warm_up_tokens, r_.run.tokens),
            "at most what the warm-up leaves");
    const auto sites = std::max<std::int64_t>(1, static_cast<std::int64_t>(r_.sites.size()));
    if (r_.run.tokens < sites * t.tokens_per_step)
      wrong("R034", "run.tokens", fmt::format("run.tokens = {} is less than one step of every site", r_.run.tokens),
            fmt::format("at least {} (sites x tokens_per_step)", sites * t.tokens_per_step));
    if (r_.data.held_out_tokens <= t.context)
      wrong("R034", "data.held_out_tokens",
            fmt::format("data.held_out_tokens = {} holds no row of train.context = {}", r_.data.held_out_tokens, t.context),
            "more than context");
    if (t.learning_rate > 0.1)
      doubtful("R060", "train.learning_rate", fmt::format("train.learning_rate = {} is unusually high", t.learning_rate),
               "1e-4 to 3e-3 is common");
  }

  void whole_rows() {
    const auto& t = r_.train;
    const auto below = t.tokens_per_step / t.context * t.context, above = below + t.context;
    wrong("R033", "train.tokens_per_step",
          fmt::format("train.tokens_per_step = {} is not a multiple of train.context = {}", t.tokens_per_step, t.context),
          "whole rows of context tokens", below == 0 ? fmt::format("use {}", above) : fmt::format("use {} or {}", below, above));
  }

  void round() {
    const auto& d = r_.round;
    if (d.deadline_min_seconds > d.deadline_max_seconds)
      wrong("R035", "round.deadline_min_seconds",
            fmt::format("round.deadline_min_seconds = {} is above round.deadline_max_seconds = {}", d.deadline_min_seconds,
                        d.deadline_max_seconds),
            "min <= max");
    const auto sites = static_cast<std::int64_t>(r_.sites.size());
    if (d.quorum > sites && sites > 0)
      wrong("R035", "round.quorum", fmt::format("round.quorum = {}, but there are {} sites", d.quorum, sites),
            fmt::format("0 to {}", sites));
    if (d.warm_up_rounds > 0 && d.codec != "sparse_loco")
      wrong("R035", "round.warm_up_rounds",
            fmt::format("round.warm_up_rounds = {} goes before codec = \"sparse_loco\", not \"{}\"", d.warm_up_rounds, d.codec), "0",
            "only a sparse codec holds change back for many rounds");
    if (d.aggregate == "trimmed_mean" && d.codec == "sparse_loco")
      wrong("R035", "round.aggregate", "round.aggregate = \"trimmed_mean\" compares elements, of which codec = \"sparse_loco\" sends few",
            "codec = \"none\" or \"int8\"",
            "what a site did not send would count as 0 there, and the mean of nearly every element with it");
    if (d.outer == "nesterov" && d.outer_momentum == 0)
      doubtful("R060", "round.outer_momentum", "round.outer = \"nesterov\" with outer_momentum = 0 is outer = \"plain\"", "0.9 is common");
  }

  void links() {
    const auto& l = r_.links;
    if (l.dead_after_ms < 3 * l.heartbeat_ms)
      wrong("R036", "links.dead_after_ms",
            fmt::format("links.dead_after_ms = {} is under three heartbeats of {} ms", l.dead_after_ms, l.heartbeat_ms),
            fmt::format("at least {}", 3 * l.heartbeat_ms), "one late heartbeat must not end a link");
    if (l.window_bytes < l.chunk_bytes)
      wrong("R036", "links.window_bytes",
            fmt::format("links.window_bytes = {} is under links.chunk_bytes = {}", l.window_bytes, l.chunk_bytes), "at least one chunk");
  }

  void coordinator() {
    const auto& c = r_.coordinator;
    if (c.log == "etcd" && c.etcd.empty())
      wrong("R039", "coordinator.etcd", "coordinator.log = \"etcd\", but coordinator.etcd names no member",
            "etcd = [\"http://127.0.0.1:2379\"]", "all members of it: while a majority of them answers, membership goes on");
    if (c.log == "file" && !c.etcd.empty())
      wrong("R039", "coordinator.log", "coordinator.etcd has members, but coordinator.log = \"file\"", "log = \"etcd\"");
    if (c.log == "file" && c.processes > 1)
      wrong("R039", "coordinator.processes", fmt::format("{} coordinators cannot share the log of one file", c.processes), "1",
            "a coordinator that dies is started again; with log = \"etcd\" others stand by");
  }

  /// Each end of a link listens on a port of its own, all of loopback on the same address, where the coordinator is, too.
  void data_ports() {
    const auto links = static_cast<std::int64_t>(r_.sites.size());  // of a site: to the other sites and the coordinator
    std::map<std::string, std::int64_t> ends{{loopback, links}};    // by host
    for (const auto& s : r_.sites) ends[s.address.starts_with("127.") ? loopback : s.address.substr(0, s.address.find(':'))] += links;
    std::int64_t needed = 0;
    for (const auto& [host, there] : ends) needed = std::max(needed, there);
    const auto& range = r_.links.data_ports;  // "first-last"
    const auto dash = range.find('-');
    const std::int64_t given = std::stoi(range.substr(dash + 1)) - std::stoi(range.substr(0, dash)) + 1;
    if (given < needed)
      wrong("R038", "links.data_ports",
            fmt::format("links.data_ports = \"{}\" has {} ports for the {} ends of links at one address", range, given, needed),
            fmt::format("at least {} ports: one for each link of each site, and of the coordinator", needed),
            "twice as many leave room while links are replaced");
  }

  void sites() {
    if (r_.sites.empty()) {
      wrong("R040", "sites", "the recipe has no [[sites]]", "at least one, with its name");
      return;
    }
    std::set<std::string> names;
    std::set<std::string> addresses;
    for (std::size_t i = 0; i < r_.sites.size(); ++i) site(r_.sites[i], fmt::format("sites.{}", i), names, addresses);
    const auto behind = std::count_if(r_.sites.begin(), r_.sites.end(), [](const recipe::site& s) { return s.nat; });
    if (behind > 1)
      wrong("R048", "sites", fmt::format("{} sites can only dial out (nat = true)", behind), "one at most",
            "two of them could not reach each other: let a port of one through to it");
    if (std::all_of(r_.sites.begin(), r_.sites.end(), [](const recipe::site& s) { return s.spare; }))
      wrong("R049", "sites", "every site is a spare", "at least one with spare = false", "a spare trains in the place of another site");
    if (std::none_of(r_.sites.begin(), r_.sites.end(), [](const recipe::site& s) { return s.home; }))
      wrong("R042", "sites", "no site has home = true", "at least one home",
            "a home aggregates rounds; give it to the best connected sites");
  }

  void audits() {
    if (r_.guard.audit_rate == 0) return;
    const auto auditable = [&](const recipe::site& of) {  // a home does not audit itself
      return of.shared_text && std::any_of(r_.sites.begin(), r_.sites.end(), [&](const auto& s) { return s.home && &s != &of; });
    };
    if (std::none_of(r_.sites.begin(), r_.sites.end(), auditable))
      wrong("R053", "guard.audit_rate", "guard.audit_rate is above 0, but no home could audit a site",
            "a site with shared_text = true, beside a home", "only text that its owner lets others hold can be trained again elsewhere");
    if (r_.run.deterministic)
      wrong("R053", "guard.audit_rate", "guard.audit_rate is above 0, but run.deterministic = true", "audit_rate = 0",
            "audits run beside the training: which record tells of them depends on time");
  }

  void site(const recipe::site& s, const std::string& path, std::set<std::string>& names, std::set<std::string>& addresses) {
    if (!s.name.empty() && !names.insert(s.name).second)
      wrong("R041", path + ".name", fmt::format("two sites are named \"{}\"", s.name), "unique names");
    if (!s.address.ends_with(":0") && !addresses.insert(s.address).second)
      wrong("R041", path + ".address", fmt::format("two sites have the address {}", s.address), "unique addresses, or port 0");
    if (s.name == "coordinator" || s.name.starts_with("coordinator-"))
      wrong("R041", path + ".name", fmt::format("\"{}\" is a name for coordinators", s.name), "another name");
    if (r_.data.split == "by_domain" && s.source.empty())
      wrong("R043", path + ".source", fmt::format("site \"{}\" has no source, but data.split = \"by_domain\"", s.name),
            "source = the name of a corpus source", "`isthmus doctor` lists the sources; data.split = \"alike\" needs none");
    if (r_.train.tokens_per_step % r_.train.context == 0 && s.devices > rows_per_step(r_))
      wrong("R044", path + ".devices", fmt::format("site \"{}\" has {} devices for {} rows a step", s.name, s.devices, rows_per_step(r_)),
            fmt::format("1 to {} (tokens_per_step / context)", rows_per_step(r_)));
    if (clean({"run"}) && r_.run.deterministic && s.devices > 1)
      wrong("R046", path + ".devices", fmt::format("site \"{}\" has {} devices, but run.deterministic = true", s.name, s.devices),
            "devices = 1", "devices' sums come in the order in which they answer; threads_per_device may be more");
  }

  /// A name that a fault may give: of a site, or one of the words.
  void fault_end(const std::string& name, const std::string& path, std::vector<std::string> words) {
    if (find_site(r_, name) || std::find(words.begin(), words.end(), name) != words.end()) return;
    for (const auto& s : r_.sites) words.push_back(s.name);
    wrong("R050", path, fmt::format("the fault hits \"{}\", which is no site", name), fmt::format("{}", fmt::join(words, ", ")));
  }

  void fault_time(const recipe::fault& f, const std::string& path) {
    const int times = (f.at_round > 0) + (f.at_tokens > 0) + (f.at_seconds > 0) + (f.every_seconds > 0);
    if (times != 1)
      wrong("R051", path, fmt::format("a fault needs one time, and has {}", times),
            "exactly one of at_round, at_tokens, at_seconds, every_seconds above 0");
    if (f.again_after_seconds > 0 && f.at_seconds == 0)
      wrong("R051", path, "a fault that comes again needs at_seconds",
            "again_after_seconds with at_seconds; every_seconds draws its times");
    if (f.at_round > planned_rounds(r_) || f.at_tokens > r_.run.tokens)
      wrong("R051", path, "the fault lies behind the end of the run",
            fmt::format("at_round up to {}, at_tokens up to {}", planned_rounds(r_), r_.run.tokens));
  }

  void faults() {
    for (std::size_t i = 0; i < r_.faults.size(); ++i) {
      const auto& f = r_.faults[i];
      const auto path = fmt::format("faults.{}", i);
      const auto kind = kind_of_fault(f.kind);
      const bool of_coordinator = kind == fault_kind::kill || kind == fault_kind::power || is_of_links(kind);
      fault_end(f.site, path + ".site", of_coordinator ? std::vector<std::string>{"any", "coordinator"} : std::vector<std::string>{"any"});
      if (is_of_links(kind)) fault_end(f.peer, path + ".peer", {"any", "all", "coordinator"});
      fault_time(f, path);
      if (kind == fault_kind::loss && f.amount >= 1)
        wrong("R052", path + ".amount", fmt::format("a loss of {} lets nothing through", f.amount), "below 1; kind = \"cut\" loses all");
      if (kind == fault_kind::duplicate && f.amount > 1)
        wrong("R052", path + ".amount", fmt::format("a chance of {}", f.amount), "at most 1");
    }
  }

  const recipe& r_;
  const place_finder& places_;
  std::vector<recipe_problem>& out_;
};

}  // namespace

void check_between_keys(const recipe& r, const place_finder& places, std::vector<recipe_problem>& problems) {
  checker(r, places, problems).all();
}

}  // namespace isthmus
