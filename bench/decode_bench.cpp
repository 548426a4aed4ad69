// Tokens a second of decoding, alone or many sequences at once, and of reading a prompt, by format of the weights, beside llama.cpp on the
// same shapes; decoding alone as a share of the rate at which memory can be read.
#include "bench/peak.hpp"
#include "bench/report.hpp"
#include "framework/models/hybrid_model.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <map>

namespace isthmus::bench {

namespace {

struct options {
  std::string peer;
  std::vector<std::string> shapes{"29M", "110M", "1B", "115M mamba"}, formats{"f32", "bf16", "int8", "int4"};
  std::vector<int> at_once;  // sequences that decode together
  std::vector<int> threads{1, 2};
  int rounds = 3;
  bool by_cpu = false, short_caches = false;
  double (*clock() const)() { return by_cpu ? process_seconds : wall_seconds; }
};

struct shape {
  const char* name;
  std::int64_t d, layers, heads, kv_heads, ffn, vocabulary, prefill, decode;  // prefill, decode: tokens
  bool mamba() const { return heads == 0; }
};
constexpr shape shapes[] = {{"29M", 512, 8, 8, 8, 1536, 4096, 512, 64},
                            {"110M", 768, 12, 12, 12, 2048, 32000, 512, 64},
                            {"1B", 2048, 16, 32, 8, 8192, 32000, 128, 12},
                            {"115M mamba", 768, 24, 0, 0, 0, 32000, 256, 32}};
constexpr std::int64_t mamba_state = 16;
constexpr std::int64_t prompt = 8;

struct format {
  const char* name;
  kernels::weight_format weights;
  precision_kind precision;
  double bits;  // a weight, scales included
  peak_kind peak;
};
constexpr format formats[] = {{"f32", kernels::weight_format::master, precision_kind::fp32, 32, peak_kind::fp32_fma},
                              {"bf16", kernels::weight_format::bf16, precision_kind::bf16, 16, peak_kind::bf16_dot},
                              {"int8", kernels::weight_format::int8, precision_kind::fp32, 8.5, peak_kind::int8_dot},
                              {"int4", kernels::weight_format::int4, precision_kind::fp32, 4.5, peak_kind::int8_dot}};

model_config config_of(const shape& s, precision_kind precision) {
  model_config c;
  c.vocabulary = s.vocabulary;
  c.d_model = s.d;
  c.precision = precision;
  if (s.mamba()) {
    c.layers.assign(static_cast<std::size_t>(s.layers), "mamba1/none");
    c.options = {{"ssm_inner", static_cast<double>(2 * s.d)}, {"scan_state", static_cast<double>(mamba_state)}};
    return c;
  }
  c.layers.assign(static_cast<std::size_t>(s.layers), "attention");
  c.options = {{"n_heads", static_cast<double>(s.heads)},
               {"n_kv_heads", static_cast<double>(s.kv_heads)},
               {"head_dim", static_cast<double>(s.d / s.heads)},
               {"ffn_hidden", static_cast<double>(s.ffn)}};
  return c;
}

/// Weights of matrices: what a token reads once. The head is the embedding.
double matrix_weights(const shape& s) {
  if (s.mamba()) {
    const std::int64_t inner = 2 * s.d, rank = (s.d + 15) / 16;
    return static_cast<double>(s.vocabulary * s.d + s.layers * inner * (3 * s.d + 2 * rank + 2 * mamba_state));
  }
  const auto d = static_cast<double>(s.d), kv = d / static_cast<double>(s.heads) * static_cast<double>(s.kv_heads);
  return static_cast<double>(s.vocabulary) * d +
         static_cast<double>(s.layers) * (2 * d * d + 2 * d * kv + 3 * d * static_cast<double>(s.ffn));
}
/// Operations a token of a prompt: 2 x weights but the head's, and of attention what is below the diagonal; scans are not counted.
double prefill_operations(const shape& s) {
  const double head = static_cast<double>(s.vocabulary * s.d);
  const double attention = s.mamba() ? 0 : 2 * static_cast<double>(s.layers * s.d * s.prefill);
  return 2 * (matrix_weights(s) - head) + attention;
}

struct speeds {
  std::vector<double> prefill, decode, read;    // tokens a second twice, bytes a second
  std::map<int, std::vector<double>> together;  // tokens a second of so many sequences, all of them counted
};

/// So many sequences, each behind the prompt, a token each at a time.
double decode_together(hybrid_model& model, const shape& s, int count, std::span<const std::int32_t> ids, double (*clock)()) {
  auto first = model.start();
  model.advance(first, ids.first(prompt));
  std::vector<sequence_state> states(static_cast<std::size_t>(count), first);
  std::vector<sequence_input> inputs;
  const auto step = [&](std::int64_t i) {
    inputs.clear();
    for (std::size_t k = 0; k < states.size(); ++k)
      inputs.push_back({&states[k], ids.subspan((static_cast<std::size_t>(i) + k) % ids.size(), 1)});
    model.advance(inputs);
  };
  step(0);  // weights are read in another form than by a single sequence
  const double begin = clock();
  for (std::int64_t i = 1; i <= s.decode; ++i) step(i);
  return static_cast<double>(s.decode * count) / (clock() - begin);
}

void run_ours(hybrid_model& model, const options& o, const shape& s, speeds& out) {
  double (*clock)() = o.clock();
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < s.prefill; ++i) ids.push_back(static_cast<std::int32_t>((i * 7919 + 13) % s.vocabulary));
  const std::span<const std::int32_t> all = ids;
  auto state = model.start();
  double begin = clock();
  model.advance(state, all);
  out.prefill.push_back(static_cast<double>(s.prefill) / (clock() - begin));
  state = model.start();
  model.advance(state, all.first(prompt));
  begin = clock();
  for (std::int64_t i = 0; i < s.decode; ++i) model.advance(state, all.subspan(static_cast<std::size_t>(prompt + i), 1));
  out.decode.push_back(static_cast<double>(s.decode) / (clock() - begin));
  for (const int count : o.at_once) out.together[count].push_back(decode_together(model, s, count, all, clock));
}

/// One round of the peer: its JSON line, or false when it cannot run.
bool run_peer(const options& o, const shape& s, const format& f, int threads, speeds& out) {
  if (o.peer.empty()) return false;
  const std::string command = fmt::format(
      "{} --d {} --layers {} --ffn {} --heads {} --kv-heads {} --vocab {} --threads {} --prefill {} --decode {} --format {}{}{}{}", o.peer,
      s.d, s.layers, s.ffn, s.heads, s.kv_heads, s.vocabulary, threads, s.prefill, s.decode, f.name, o.at_once.empty() ? "" : " --at-once ",
      fmt::join(o.at_once, " "), o.by_cpu ? " --by-cpu" : "");
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (!pipe) return false;
  std::string text;
  char piece[4096];
  while (const std::size_t n = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, n);
  const auto found = pclose(pipe) == 0 ? nlohmann::json::parse(text, nullptr, false) : nlohmann::json();
  if (!found.is_object() || !found.contains("prefill_tok_s") || !found.contains("decode_tok_s")) {
    print_note("the peer gave no figures: " + command);
    return false;
  }
  out.prefill.push_back(found["prefill_tok_s"].get<double>());
  out.decode.push_back(found["decode_tok_s"].get<double>());
  for (const int count : o.at_once) out.together[count].push_back(found["together_tok_s"].at(std::to_string(count)).get<double>());
  return true;
}

void row(const options& o, const shape& s, const format& f, int threads, const std::shared_ptr<float_array>& weights) {
  kernels::stealing_team team(threads);
  const auto caches = o.short_caches ? kernels::cache_format::bf16 : kernels::cache_format::activations;
  hybrid_model model(config_of(s, f.precision), kernels::default_backend(), team, {f.weights, caches}, weights);
  const auto readable = std::as_bytes(weights->span().first(std::min<std::size_t>(weights->size(), std::size_t{1} << 27)));
  speeds ours, theirs, warm_up;
  run_ours(model, o, s, warm_up);
  bool peer = true;
  std::vector<double> shares;
  for (int round = 0; round < o.rounds; ++round) {
    ours.read.push_back(read_rate(team, readable, o.clock()));
    run_ours(model, o, s, ours);
    shares.push_back(ours.decode.back() * matrix_weights(s) * f.bits / 8 /
                     std::max(ours.read.back(), read_rate(team, readable, o.clock())));
    peer = peer && run_peer(o, s, f, threads, theirs);
  }
  const auto report = [&](const std::string& what, const std::vector<double>& mine, const std::vector<double>& other,
                          const std::string& limit, double share) {
    figure found;
    found.name = fmt::format("{} {} {} t{}{}", what, s.name, f.name, threads, o.short_caches ? " bf16 cache" : "");
    found.unit = o.by_cpu ? "token/CPU s" : "token/s";
    found.value = median(mine);
    found.peer = peer ? "llama.cpp" : "";
    if (peer) found.peer_value = median(other);
    found.limit = share > 0 ? limit : "";
    if (share > 0) found.share = share;
    found.runs = o.rounds;
    found.spread = spread(mine);
    print(found);
  };
  report("decode", ours.decode, theirs.decode, fmt::format("huge-page read, {:.1f} GB/s", median(ours.read) * 1e-9), median(shares));
  for (const int count : o.at_once) report(fmt::format("decode {} at once", count), ours.together[count], theirs.together[count], "", 0);
  const peak_kind kind = f.peak == peak_kind::bf16_dot ? fastest_for_bf16() : f.peak;
  const double peak = register_peak(kind) * (o.by_cpu ? 1 : threads);
  report("prefill", ours.prefill, theirs.prefill, peak_name(kind), peak > 0 ? median(ours.prefill) * prefill_operations(s) / peak : 0);
}

int run(int argc, char** argv) {
  options o;
  CLI::App app{"Decoding beside llama.cpp and the rate of reading memory"};
  app.add_option("--peer", o.peer, "Command that measures the peer, such as: python3 bench/peers/llama_decode.py");
  app.add_option("--shapes", o.shapes, "29M 110M 1B '115M mamba'")->delimiter(',');
  app.add_option("--formats", o.formats, "f32 bf16 int8 int4")->delimiter(',');
  app.add_option("--threads", o.threads, "Numbers of threads")->delimiter(',');
  app.add_option("--at-once", o.at_once, "Sequences that decode together, too")->delimiter(',');
  app.add_option("--rounds", o.rounds, "Rounds of ours and the peer in turn");
  app.add_flag("--short-caches", o.short_caches, "Keys and values in bf16 beside fp32 activations, too (llama.cpp's are fp16)");
  app.add_flag("--by-cpu", o.by_cpu, "Seconds of CPU time, all threads together: what other programs on the machine disturb least");
  CLI11_PARSE(app, argc, argv);
  print_machine();
  const auto asked = [](const std::vector<std::string>& names, const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const auto& s : shapes) {
    if (!asked(o.shapes, s.name)) continue;
    const auto config = config_of(s, precision_kind::fp32);
    const auto weights = std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(config).size));
    initial_weights(config, 1, weights->span());
    for (const auto& f : formats)
      for (const int threads : o.threads)
        if (asked(o.formats, f.name)) row(o, s, f, threads, weights);
  }
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
