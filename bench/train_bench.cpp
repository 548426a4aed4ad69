// Tokens a second of whole training steps beside PyTorch on the same cores, and model FLOP/s as a share of the register peak.
#include "bench/peak.hpp"
#include "bench/report.hpp"
#include "bench/train_step.hpp"
#include "kernels/stealing_team.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace isthmus::bench {

namespace {

struct options {
  std::string python = "/usr/bin/python3", peer = "bench/peers";
  std::vector<std::string> models{"7.5M", "19.3M", "31M"}, patterns{"a", "a2"}, dtypes{"f32", "bf16"};
  std::vector<int> threads{1, 2};
  std::vector<std::int64_t> contexts{256};  // tokens of a row
  bool compile = false;                     // the peer may compile its model
  int rounds = 3, steps = 3;
};

struct model_size {
  const char* name;
  std::int64_t d_model, layers;
};
constexpr model_size sizes[] = {{"7.5M", 256, 8}, {"19.3M", 384, 10}, {"31M", 512, 9}};

/// Tokens by wall second and by CPU second.
struct speeds {
  std::vector<double> wall, cpu;
};

/// One round of the peer: its JSON line, or nothing when it cannot run.
bool run_peer(const options& o, const model_size& size, const train_shape& shape, const std::string& dtype, int threads, speeds& out) {
  namespace fs = std::filesystem;
  const fs::path folder(o.peer);
  const fs::path script = fs::exists(folder / "torch_train.py") ? folder / "torch_train.py" : folder / "train_bench.py";
  if (!fs::exists(script) || !fs::exists(o.python)) return false;
  // Debian's libopenblas0-pthread and PyTorch's OpenMP pool spin against each other; the -openmp build is the fair one.
  const std::string blas = "/usr/lib/x86_64-linux-gnu/openblas-openmp";
  const std::string command = fmt::format(
      "cd '{}' && OMP_NUM_THREADS={} OPENBLAS_NUM_THREADS={} LD_LIBRARY_PATH={} '{}' {} --d {} --layers {} --ctx {} --tokens {} "
      "--vocab {} --pattern {} --dtype {} --threads {} --steps {}{} 2>/dev/null",
      folder.string(), threads, threads, fs::exists(blas) ? blas : "", o.python, script.filename().string(), size.d_model, size.layers,
      shape.context, shape.tokens, shape.vocabulary, shape.pattern, dtype, threads, o.steps, o.compile ? " --compile" : "");
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return false;
  std::string text;
  char piece[4096];
  while (const std::size_t n = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, n);
  if (pclose(pipe) != 0) return false;
  const auto found = nlohmann::json::parse(text, nullptr, false);
  if (found.is_discarded() || !found.contains("tok_s") || !found.contains("tok_cpu_s")) return false;
  out.wall.push_back(found["tok_s"].get<double>());
  out.cpu.push_back(found["tok_cpu_s"].get<double>());
  return true;
}

void run_ours(train_step& step, std::int64_t tokens, int steps, speeds& out) {
  std::vector<double> wall, cpu;
  for (int i = 0; i < steps; ++i) {
    const double wall_begin = wall_seconds(), cpu_begin = process_seconds();
    step.run();
    wall.push_back(static_cast<double>(tokens) / (wall_seconds() - wall_begin));
    cpu.push_back(static_cast<double>(tokens) / (process_seconds() - cpu_begin));
  }
  out.wall.push_back(median(wall));
  out.cpu.push_back(median(cpu));
}

void row(const options& o, const model_size& size, const std::string& pattern, std::int64_t context, const std::string& dtype,
         int threads) {
  const bool bf16 = dtype == "bf16";
  const train_shape shape{size.d_model, size.layers, context, 2048, 4096, pattern, bf16 ? precision_kind::bf16 : precision_kind::fp32};
  kernels::stealing_team team(threads);
  train_step step(shape, team);
  const peak_kind kind = bf16 ? fastest_for_bf16() : peak_kind::fp32_fma;
  speeds ours, theirs;
  std::vector<double> peaks;
  step.run();
  bool peer = pattern.find_first_of("eh") == std::string::npos;  // which has neither experts nor Hyena
  for (int round = 0; round < o.rounds; ++round) {
    run_ours(step, shape.tokens, o.steps, ours);
    peaks.push_back(register_peak(kind));
    peer = peer && run_peer(o, size, shape, dtype, threads, theirs);
  }
  const double flop_a_token = step.model_flop() / static_cast<double>(shape.tokens), peak = median(peaks);
  const auto report = [&](const char* what, const std::vector<double>& mine, const std::vector<double>& other, double cores) {
    figure f;
    f.name = fmt::format("train {} {} {}{} t{} {}", size.name, pattern, dtype, context == 256 ? "" : fmt::format(" context {}", context),
                         threads, what);
    f.unit = "token/s";
    f.value = median(mine);
    f.peer = peer ? "PyTorch" : "";
    if (peer) f.peer_value = median(other);
    f.limit = peak_name(kind);
    f.share = f.value * flop_a_token / (peak * cores);
    f.runs = o.rounds;
    f.spread = spread(mine);
    print(f);
  };
  report("wall", ours.wall, theirs.wall, threads);
  report("cpu", ours.cpu, theirs.cpu, 1);  // tokens a CPU second: what other programs on the machine disturb least
}

int run(int argc, char** argv) {
  options o;
  CLI::App app{"Training speed beside PyTorch and the register peak"};
  app.add_option("--python", o.python, "Interpreter that has PyTorch");
  app.add_option("--peer", o.peer, "Folder with torch_train.py or train_bench.py");
  app.add_option("--models", o.models, "7.5M 19.3M 31M")->delimiter(',');
  app.add_option("--patterns", o.patterns,
                 "a: attention; e: with experts; 1, 2: Mamba-1, Mamba-2; h: Hyena; a2: attention and Mamba-2 in turn")
      ->delimiter(',');
  app.add_option("--dtypes", o.dtypes, "f32 bf16")->delimiter(',');
  app.add_option("--threads", o.threads, "Numbers of threads")->delimiter(',');
  app.add_option("--contexts", o.contexts, "Tokens of a row, up to 2048")->delimiter(',');
  app.add_flag("--compile", o.compile, "Let PyTorch compile its model as well, and take the faster of the two");
  app.add_option("--rounds", o.rounds, "Rounds of ours and the peer in turn");
  app.add_option("--steps", o.steps, "Steps a round");
  CLI11_PARSE(app, argc, argv);
  print_machine();
  for (const auto& size : sizes)
    for (const auto& pattern : o.patterns)
      for (const auto& dtype : o.dtypes)
        for (const int threads : o.threads)
          for (const std::int64_t context : o.contexts)
            if (std::find(o.models.begin(), o.models.end(), size.name) != o.models.end()) row(o, size, pattern, context, dtype, threads);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
