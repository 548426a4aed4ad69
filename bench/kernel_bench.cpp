// Time of each kernel of one backend at the extents of a training step: bench/peers/torch_kernels.py sets PyTorch beside it.
#include "bench/kernel_jobs.hpp"
#include "bench/report.hpp"
#include "kernels/select.hpp"
#include "kernels/stealing_team.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <thread>

namespace isthmus::bench {

namespace {

using namespace kernels;

double median_seconds(const std::function<void()>& run, stream& s, double seconds_a_round) {
  const auto time = [&](int calls) {
    s.finish();
    const double begin = wall_seconds();
    for (int i = 0; i < calls; ++i) run();
    s.finish();
    return (wall_seconds() - begin) / calls;
  };
  time(2);
  const int calls = std::clamp(static_cast<int>(seconds_a_round / time(2)), 1, 2000);
  std::vector<double> rounds;
  for (int i = 0; i < 7; ++i) rounds.push_back(time(calls));
  return median(rounds);
}

void time_jobs(const std::vector<job>& jobs, const std::string& type, stream& s, const std::vector<std::string>& only,
               double seconds_a_round) {
  for (const job& j : jobs) {
    if (!only.empty() && std::find(only.begin(), only.end(), j.name) == only.end()) continue;
    const double seconds = median_seconds(j.run, s, seconds_a_round);
    fmt::print("{{\"name\": \"{}\", \"type\": \"{}\", \"us\": {:.3f}, \"gb_s\": {:.1f}, \"tflop_s\": {:.4f}}}\n", j.name, type,
               seconds * 1e6, j.bytes / seconds * 1e-9, j.operations / seconds * 1e-12);
    std::fflush(stdout);
  }
}

int run(int argc, char** argv) {
  extents x;
  std::string name = "cuda";
  std::vector<std::string> types{"f32", "bf16"}, only;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  double seconds_a_round = 0.02;
  CLI::App app{"Time of each kernel of a backend at the extents of a training step, one JSON line each"};
  const CLI::Range count(std::int64_t{1}, std::int64_t{1} << 40);
  app.add_option("--backend", name, "cuda cpu reference");
  app.add_option("--types", types, "f32 bf16")->delimiter(',');
  app.add_option("--only", only, "Names of kernels")->delimiter(',');
  app.add_option("--batch", x.batch, "Sequences")->check(count);
  app.add_option("--length", x.length, "Tokens of a sequence")->check(count);
  app.add_option("--d", x.d, "Columns of the model, a multiple of the 64 of a head")->check(count);
  app.add_option("--inner", x.inner, "Channels of Mamba-1 and Mamba-2, a multiple of the latter's heads' 64")->check(count);
  app.add_option("--scan-state", x.scan_state, "States a channel of the selective scan, at most 64")->check(CLI::Range(1, 64));
  app.add_option("--scan-chunk", x.scan_chunk, "Rows of its chunks")->check(count);
  app.add_option("--window", x.window, "Keys that a query sees, of attention_window")->check(count);
  app.add_option("--vocabulary", x.vocabulary, "Rows of the embedding")->check(count);
  app.add_option("--parameters", x.parameters, "Of the optimizer's step")->check(count);
  app.add_option("--threads", threads, "Of a backend on the host")->check(CLI::Range(1, 1024));
  CLI11_PARSE(app, argc, argv);
  const backend* b = find_backend(name);
  if (!b) {
    fmt::print(stderr, "kernel_bench: backend \"{}\" is not there. Found:", name);
    for (const backend* other : backends()) fmt::print(stderr, " {}", other->name);
    fmt::print(stderr, ". Give one of these as --backend.\n");
    return 2;
  }
  stealing_team team(threads);
  const auto s = b->make_stream(team);
  for (const std::string& type : types) {
    arrays memory(*b->memory, *s);
    time_jobs(type == "bf16" ? kernel_jobs<bf16>(*b, *s, memory, x) : kernel_jobs<float>(*b, *s, memory, x), type, *s, only,
              seconds_a_round);
  }
  arrays memory(*b->memory, *s);
  time_jobs(optimizer_jobs(*b, *s, memory, x), "f32", *s, only, seconds_a_round);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
