#include "framework/recipe/schema.hpp"

#include "framework/recipe/fault_kinds.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {
constexpr std::int64_t tera = 1'000'000'000'000;
constexpr double tiny = 1e-30;

template <class Enum>
void word(field_visitor& v, const char* key, Enum& value, std::initializer_list<const char*> words, const char* help) {
  auto place = static_cast<std::size_t>(value);
  v.word(key, place, words, help);
  value = static_cast<Enum>(place);
}
}  // namespace

void visit_fields(recipe::run_section& s, field_visitor& v) {
  v.text("name", s.name, text_rule::name, "part of the run folder's name");
  v.integer("seed", s.seed, 0, INT64_MAX, "every random draw derives from it");
  v.integer("tokens", s.tokens, 1, 1000 * tera, "trained in all, over all sites");
  v.flag("deterministic", s.deterministic, "same seed, same bits: one device a site, rounds wait for all sites");
}

void visit_fields(model_config& s, field_visitor& v) {
  v.layers(s);
  v.integer("d_model", s.d_model, 16, 65536, "width of the residual stream");
  v.layer_options(s);
  word(v, "norm", s.norm, {"rms_norm", "layer_norm"}, "before each mixer, and at the end");
  v.real("norm_eps", s.norm_eps, 1e-12, 1e-1, "added to a norm's mean square or variance");
  word(v, "precision", s.precision, {"fp32", "bf16"}, "of matrix products; weights, norms and states stay fp32");
  v.flag("tied_head", s.tied_head, "the head is the embedding, else a matrix of its own");
  v.integer("medusa_heads", s.medusa_heads, 0, medusa_heads_max, "that predict tokens further ahead, for faster greedy text");
  v.integer("activation_mib", s.activation_mib, 0, 1 << 24,
            "of activations on a device; rows go in smaller pieces and layers are computed twice to keep to it; 0: no limit");
  v.real("z_loss", s.z_loss, 0, 1, "of the squared logarithm of the softmax's sum, trained beside the loss, to keep logits small");
}

void visit_fields(recipe::train_section& s, field_visitor& v) {
  v.integer("context", s.context, 2, 1 << 20, "tokens in a row");
  v.integer("tokens_per_step", s.tokens_per_step, 2, 1 << 30, "of one site and local step; a multiple of context");
  v.real("learning_rate", s.learning_rate, tiny, 10, "peak of the schedule");
  v.integer("warm_up_tokens", s.warm_up_tokens, 0, 1000 * tera, "of the whole run: linear up to the peak");
  v.real("final_rate_ratio", s.final_rate_ratio, 0, 1, "the rate ends at learning_rate times this");
  v.integer("decay_tokens", s.decay_tokens, 0, 1000 * tera, "of the run's last, linearly down from the peak kept till then; 0: a cosine");
  v.real("weight_decay", s.weight_decay, 0, 10, "decoupled, on matrices only");
  v.real("beta1", s.beta1, 0, 0.999999, "AdamW, first moment");
  v.real("beta2", s.beta2, 0, 0.99999999, "AdamW, second moment");
  v.real("epsilon", s.epsilon, tiny, 1, "AdamW, added to the root");
  v.real("clip_norm", s.clip_norm, 0, 1e9, "global gradient norm; 0: no clipping");
}

void visit_fields(recipe::round_section& s, field_visitor& v) {
  v.choice("codec", s.codec, {"none", "int8", "sparse_loco", "own.*"}, "how contributions become bytes; own.*: a program's own codec");
  v.integer("warm_up_rounds", s.warm_up_rounds, 0, 1'000'000, "the first rounds go with int8, before codec = \"sparse_loco\"");
  v.integer("inner_steps", s.inner_steps, 1, 100'000, "local steps a round (H), fewer of a site that others wait for");
  v.integer("groups", s.groups, 1, 1024, "parameter groups, spread over the homes");
  v.choice("outer", s.outer, {"nesterov", "plain"}, "the outer optimizer");
  v.real("outer_learning_rate", s.outer_learning_rate, tiny, 10, "of the outer optimizer");
  v.real("outer_momentum", s.outer_momentum, 0, 0.999999, "of outer = \"nesterov\"");
  v.choice("aggregate", s.aggregate, {"mean", "clip_to_median", "centred_clipping", "trimmed_mean"},
           "how a home adds contributions; docs/hostile.md");
  v.real("residual_decay", s.residual_decay, 0, 1, "of the codec's error feedback, each round");
  v.integer("quorum", s.quorum, 0, sites_max, "contributions that let a round close; 0: a majority of the members");
  v.real("grace_seconds", s.grace_seconds, 0, 86400,
         "waited for the rest once the quorum is there, and before all are asked for what they have");
  v.real("deadline_min_seconds", s.deadline_min_seconds, 0.01, 86400, "lower bound of the learned deadline");
  v.real("deadline_max_seconds", s.deadline_max_seconds, 0.01, 604800, "upper bound of the learned deadline");
  v.integer("reference_tokens", s.reference_tokens, 0, tera, "unit of contributions; 0: tokens_per_step * inner_steps");
}

void visit_fields(recipe::guard_section& s, field_visitor& v) {
  v.integer("hostile_max", s.hostile_max, 1, 1000, "largest and smallest that aggregate = \"trimmed_mean\" leaves out of each element");
  v.real("norm_veto", s.norm_veto, 0, 1e9, "medians of length by tokens above which a contribution is vetoed; 0: none is");
  v.real("similarity_veto", s.similarity_veto, 0, 1, "cosine with an earlier contribution, or another site's, that is vetoed; 0: none is");
  v.real("direction_veto", s.direction_veto, -1, 1, "median cosine with the others' up to which a contribution is vetoed; -1: none is");
  v.real("weight_cap", s.weight_cap, 0, 1e9, "medians of the round up to which a contribution's tokens count; 0: all do");
  v.integer("probation_rounds", s.probation_rounds, 0, 1'000'000, "committed contributions before a site that came later counts in full");
  v.real("probation_weight", s.probation_weight, 0.001, 1, "the part of its tokens that counts until then");
  v.integer("barred_after", s.barred_after, 0, 1'000'000, "vetoes in a row that bar a site; 0: it never is");
  v.integer("barred_rounds", s.barred_rounds, 1, 1'000'000, "rounds that it is barred for");
  v.real("audit_rate", s.audit_rate, 0, 1, "chance that a home trains a contribution of a site with shared_text again");
  v.real("audit_cosine", s.audit_cosine, -1, 1, "of what came with what that makes, below which the audit has failed");
}

void visit_fields(recipe::data_section& s, field_visitor& v) {
  v.integer("vocabulary", s.vocabulary, 257, 1 << 20, "tokens of the model and its tokenizer");
  v.text("tokenizer", s.tokenizer, text_rule::path, "\"train\": from the pair counts of all sites; else the path of a tokenizer.json");
  v.choice("split", s.split, {"by_domain", "alike"}, "each site its own source, or all shards drawn from the union");
  v.choice("documents", s.documents, {"packed", "separate"}, "whether attention looks over the ends of documents in a row, or does not");
  v.integer("text_bytes_max", s.text_bytes_max, 10'000, tera, "of each source's text");
  v.integer("shared_count_minimum", s.shared_count_minimum, 1, tera, "words rarer than this at a site never leave it");
  v.integer("held_out_tokens", s.held_out_tokens, 1024, tera, "kept apart at each site, for evaluation only");
  v.integer("evaluation_every_rounds", s.evaluation_every_rounds, 1, 1'000'000, "rounds between two evaluations of the anchor");
}

void visit_fields(recipe::links_section& s, field_visitor& v) {
  v.integer("heartbeat_ms", s.heartbeat_ms, 10, 60'000, "between two heartbeats on a link");
  v.integer("dead_after_ms", s.dead_after_ms, 50, 600'000, "silence after which a peer is taken for dead");
  v.integer("chunk_bytes", s.chunk_bytes, 64 << 10, 4 << 20, "of a bulk transfer; 1 to 4 MiB is best");
  v.integer("window_bytes", s.window_bytes, 64 << 10, std::int64_t{4} << 30, "in flight on a link");
  v.integer("endpoints", s.endpoints, 1, 16, "UCX endpoints a link");
  v.text("data_ports", s.data_ports, text_rule::ports, "that bulk data may come in at, one a link and site, as in 20000-20100; empty: any");
  v.choice("bulk", s.bulk, {"ucx", "tcp"}, "what bulk data go over; tcp: connections of our own, with no port but the site's");
}

void visit_fields(recipe::coordinator_section& s, field_visitor& v) {
  v.choice("log", s.log, {"file", "etcd"}, "where the coordinator's decisions stand: the run folder, or etcd");
  v.texts("etcd", s.etcd, text_rule::etcd, etcd_members_max, "members of the etcd, asked in turn; for log = \"etcd\"");
  v.integer("processes", s.processes, 1, 5, "one leads, the others wait for the lead to become free; 1 with log = \"file\"");
  v.integer("lease_seconds", s.lease_seconds, 2, 60, "a lead that is not renewed in etcd ends so long after");
}

void visit_fields(recipe::checkpoint_section& s, field_visitor& v) {
  v.integer("every_rounds", s.every_rounds, 1, 1'000'000, "rounds between two checkpoints");
  v.integer("keep", s.keep, 2, 1000, "complete checkpoints kept at each site");
}

void visit_fields(recipe::site& s, field_visitor& v) {
  v.text("name", s.name, text_rule::name, "unique; part of file names");
  v.flag("home", s.home, "may aggregate rounds");
  v.integer("devices", s.devices, 1, 256, "data parallel in shared memory");
  v.integer("threads_per_device", s.threads_per_device, 1, 1024, "CPU threads of a device");
  v.text("address", s.address, text_rule::address, "IPv4 and port; port 0: a free one is picked at launch");
  v.text("source", s.source, text_rule::optional_name, "its corpus source (data.split = \"by_domain\")");
  v.real("tokens_per_second", s.tokens_per_second, 0, 1e12, "the pace it trains at, at most; 0: as fast as it can");
  v.flag("shared_text", s.shared_text, "its text is no secret: homes may hold it, and audit the site");
  v.flag("nat", s.nat, "can only dial out: behind NAT, or a firewall that lets nobody in");
  v.flag("spare", s.spare, "trains only in the place of a site that is missing");
}

void visit_fields(recipe::fault& s, field_visitor& v) {
  v.integer("at_round", s.at_round, 0, INT64_MAX, "fires when this round is committed");
  v.integer("at_tokens", s.at_tokens, 0, 1000 * tera, "or when so many tokens of the whole run are trained");
  v.real("at_seconds", s.at_seconds, 0, 604800, "or so long after the start");
  v.real("every_seconds", s.every_seconds, 0, 604800, "or at drawn times, that far apart on average");
  v.real("again_after_seconds", s.again_after_seconds, 0, 604800, "with at_seconds: and again each so many; 0: once");
  v.real("chance", s.chance, 0, 1, "that a run has it at all");
  v.choice("kind", s.kind, fault_kind_names, "what happens; docs/faults.md");
  v.text("site", s.site, text_rule::optional_name, "whom it hits: a site's name, \"coordinator\", or \"any\"");
  v.text("peer", s.peer, text_rule::name, "the other end of the link: a name, \"coordinator\", \"any\" or \"all\"");
  v.real("back_after_seconds", s.back_after_seconds, 0, 86400, "then restarted, continued or healed");
  v.real("amount", s.amount, 0, 1e12, "of kinds that have one (docs/faults.md); 0: the kind's own");
}

void visit_fields(recipe::scenario_section& s, field_visitor& v) {
  v.choice("arithmetic", s.arithmetic, {"grid", "model"}, "of a simulation: whole numbers that cost nothing, or the model");
  v.real("step_seconds", s.step_seconds, 1e-4, 3600, "virtual time of a site's local step");
  v.real("fault_seconds", s.fault_seconds, 0, 604800, "faults fire in the first so many; then all is healed");
  v.real("heal_seconds", s.heal_seconds, 1, 604800, "and the run must end within so many");
  v.real("stays_down", s.stays_down, 0, 1, "chance that one site is then not started again");
  v.flag("draw_settings", s.draw_settings, "each seed draws codec, groups, steps a round and the like anew");
}

namespace {

bool is_name(const std::string& s) {
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  return !s.empty() && s.size() <= 64 && alphanumeric(s[0]) &&
         std::all_of(s.begin(), s.end(), [&](char c) { return alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
}

/// Reads digits at s[at], up to max; -1 when there are none or too many.
int read_number(const std::string& s, std::size_t& at, int max) {
  int value = -1;
  for (; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at) {
    value = std::max(value, 0) * 10 + (s[at] - '0');
    if (value > max) return -1;
  }
  return value;
}

bool is_address(const std::string& s) {
  std::size_t at = 0;
  for (const char separator : {'.', '.', '.', ':'})
    if (read_number(s, at, 255) < 0 || at >= s.size() || s[at++] != separator) return false;
  return read_number(s, at, 65535) >= 0 && at == s.size();
}

/// "http://" and an address with a port above 0; what stands in brackets is looked at when it is dialled.
bool is_etcd(const std::string& s) {
  constexpr std::string_view scheme = "http://";
  if (!s.starts_with(scheme) || s.ends_with(":0")) return false;
  const std::string address = s.substr(scheme.size());
  const auto close = address.rfind("]:");
  if (!address.starts_with('[') || close == std::string::npos || address.size() > 64) return is_address(address);
  std::size_t at = close + 2;
  return address.find_first_not_of("0123456789abcdefABCDEF:.", 1) == close && read_number(address, at, 65535) > 0 && at == address.size();
}

/// Two ports, the lower first.
bool is_port_range(const std::string& s) {
  std::size_t at = 0;
  const int first = read_number(s, at, 65535);
  if (first < 1024 || at >= s.size() || s[at++] != '-') return false;
  const int last = read_number(s, at, 65535);
  return last > first && at == s.size();
}

}  // namespace

std::string breaks_rule(const std::string& value, text_rule rule) {
  switch (rule) {
    case text_rule::optional_name:
      if (value.empty()) return {};
      [[fallthrough]];
    case text_rule::name: return is_name(value) ? "" : "1 to 64 of a-z A-Z 0-9 _ - . and the first a letter or digit";
    case text_rule::address: return is_address(value) ? "" : "IPv4 address and port, as in \"127.0.0.1:0\"";
    case text_rule::etcd: return is_etcd(value) ? "" : "address and port, as in \"http://127.0.0.1:2379\"";
    case text_rule::ports:
      return value.empty() || is_port_range(value) ? "" : "two ports from 1024 to 65535, as in \"20000-20100\", or nothing";
    case text_rule::path:
      return !value.empty() && value.size() <= 4096 && value.find('\0') == std::string::npos ? "" : "1 to 4096 bytes without NUL";
  }
  return {};
}

namespace {
std::string with_point(std::string digits) { return digits.find_first_of(".e") == std::string::npos ? digits + ".0" : digits; }
}  // namespace

std::string toml_text(double value) { return with_point(fmt::format("{}", value)); }
std::string toml_text(float value) { return with_point(fmt::format("{}", value)); }
std::string toml_text(bool value) { return value ? "true" : "false"; }

std::string toml_text(const std::string& value) {
  std::string out = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\u{:04x}", byte);
    else
      out += c;
  }
  return out + '"';
}

std::string toml_text(const std::vector<std::string>& value) {
  std::string out = "[";
  for (const auto& one : value) out += (out.size() == 1 ? "" : ", ") + toml_text(one);
  return out + "]";
}

}  // namespace isthmus
