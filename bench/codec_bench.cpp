// Speed of the codecs on one thread: GB/s of fp32 contribution, against what memory gives in the same run, and the arithmetic of a
// whole SparseLoCo round at 30 M parameters. One JSON object a line. Usage: codec_bench [parameters [peers]], where peers is what
// bench/codec_peer.py printed just before.
#include "framework/codecs/codec.hpp"
#include "framework/codecs/contribution.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/probe.hpp"
#include "framework/core/rng.hpp"
#include "framework/optim/outer.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <ctime>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

using namespace isthmus;

namespace {

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct timing {
  double median = 0, spread = 0;  // seconds; (max - min) / median
  int runs = 0;
};

/// CPU time of `body`, which `prepare` makes ready each time.
timing measure(const std::function<void()>& prepare, const std::function<void()>& body, int runs = 7) {
  std::vector<double> seconds;
  for (int run = 0; run < runs; ++run) {
    prepare();
    const double start = cpu_seconds();
    body();
    seconds.push_back(cpu_seconds() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  return {median, (seconds.back() - seconds.front()) / median, runs};
}

struct peer {
  std::string name;
  double value = 0;
};

/// The lines of bench/codec_peer.py by the name of what they time.
std::map<std::string, peer> read_peers(const char* path) {
  std::map<std::string, peer> peers;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto entry = nlohmann::json::parse(line);
    peers[entry.at("name")] = {entry.at("peer"), entry.at("value")};
  }
  return peers;
}

/// ratio: how much better than the peer; share: of the limit.
void print(const std::string& name, double value, const char* unit, const peer& other, double ratio, double limit, double share,
           const timing& time) {
  fmt::print("{{\"name\": \"{}\", \"value\": {:.4g}, \"unit\": \"{}\", \"peer\": \"{}\", \"peer_value\": {}, \"ratio\": {}, "
             "\"limit\": {}, \"share\": {}, \"runs\": {}, \"spread\": {:.3f}}}\n", name, value, unit, other.name,
             other.value > 0 ? fmt::format("{:.4g}", other.value) : "null", ratio > 0 ? fmt::format("{:.3g}", ratio) : "null",
             limit > 0 ? fmt::format("{:.4g}", limit) : "null", share > 0 ? fmt::format("{:.3g}", share) : "null", time.runs, time.spread);
  std::fflush(stdout);
}

group_shape model_of(std::int64_t parameters) {
  parameter_layout layout;
  for (std::int64_t left = parameters; left > 0;) {
    layout.add("matrix", {std::min<std::int64_t>(left, 512 * 1365)}, true);
    layout.add("norm", {512}, false);
    left -= 512 * 1365 + 512;
  }
  return cut_groups(layout, 1).at(0);
}

void fill(std::span<float> values, std::uint64_t seed, float scale) {
  // The sum of four uniform numbers is near enough to a normal one, and quick.
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint64_t x = mix64(seed + i);
    const auto sum = static_cast<double>((x & 0xffffU) + (x >> 16 & 0xffffU) + (x >> 32 & 0xffffU) + (x >> 48));
    values[i] = scale * static_cast<float>(sum / 65536.0 - 2.0);
  }
}

float add_up(std::span<const float> values) {
  float sums[64] = {};
  for (std::size_t i = 0; i + 64 <= values.size(); i += 64) {
    for (std::size_t lane = 0; lane < 64; ++lane) sums[lane] += values[i + lane];
  }
  float sum = 0;
  for (const float s : sums) sum += s;
  return sum;
}

class codec_bench {
public:
  codec_bench(std::int64_t parameters, std::map<std::string, peer> peers)
      : peers_(std::move(peers)), group_(model_of(parameters)), size_(static_cast<std::size_t>(group_.size)), source_(size_), value_(size_), sum_(size_),
        anchor_(size_), working_(size_) {
    fill(source_.span(), 1, 1e-3F);
    fill(anchor_.span(), 2, 0.1F);
    gigabytes_ = 4e-9 * static_cast<double>(size_);
    volatile float kept = 0;
    const timing read = measure([] {}, [&] { kept = kept + add_up(source_.span()); }, 9);
    read_limit_ = gigabytes_ / read.median;
    print("memory read", read_limit_, "GB/s", {}, 0, 0, 0, read);
  }

  void speed(const std::string& name) {
    const codec_pair pair = *make_codec_pair(name);
    std::vector<std::byte> frame;
    const timing encode = measure([&] { reset(); }, [&] { frame = pair.up->encode(group_, value_.span()); });
    line(name + " encode", encode);
    line(name + " decode and add", measure([] {}, [&] { ensure(pair.up->add_to(group_, frame, sum_.span()).has_value(), "decode"); }),
         name != "sparse_loco");  // a sparse sum need not touch all of memory
    const codec_size size = pair.up->size(group_);
    double counted = 0;
    for (const auto& tensor : group_.tensors) counted += static_cast<double>(tensor.count);
    print(name + " payload", 8 * static_cast<double>(size.payload()) / counted, "bit/parameter", {}, 0, 0, 0, {0, 0, 1});
    if (size.sparse > 0) {
      double chunked = 0;
      for (const auto& tensor : group_.tensors) chunked += static_cast<double>(tensor.count / 4096 * 4096);
      print(name + " chunks alone", 8 * static_cast<double>(size.sparse) / chunked, "bit/parameter", {}, 0, 0, 0, {0, 0, 1});
    }
  }

  /// All a site does in a round of three when it is the home of all: the worst case. CPU seconds.
  void round() {
    const codec_pair pair = *make_codec_pair("sparse_loco");
    std::vector<std::vector<std::byte>> frames(3);
    for (std::size_t site = 0; site < 3; ++site) {
      fill(value_.span(), 100 + site, 1e-3F);
      frames[site] = pair.up->encode(group_, value_.span());
    }
    std::vector<std::byte> delta, own;
    std::memcpy(working_.data(), anchor_.data(), 4 * size_);
    for (std::size_t i = 0; i < size_; ++i) working_.data()[i] -= source_.data()[i];
    double parts[6] = {};
    const outer_rule rule{outer_kind::plain, 1.0F, 0.0F};
    const timing whole = measure([] {}, [&] {
      double last = cpu_seconds();
      const auto part = [&](int i) { const double now = cpu_seconds(); parts[i] = now - last; last = now; };
      ensure(form_contribution(group_, {1000, 1000, 0.95F}, anchor_.span(), working_.span(), value_.span(), 7).has_value(), "form");
      part(0);
      own = pair.up->encode(group_, value_.span());
      part(1);
      std::memset(sum_.data(), 0, 4 * size_);
      for (const auto& frame : frames) ensure(pair.up->add_to(group_, frame, sum_.span()).has_value(), "add");
      part(2);
      delta = pair.down->encode(group_, sum_.span());
      part(3);
      ensure(apply_outer(rule, group_, *pair.down, delta, 3.0, {anchor_.span(), {}}).has_value(), "apply");
      part(4);
      hash_floats(anchor_.span());
      part(5);
    });
    const char* names[] = {"form", "encode", "sum of 3", "union", "apply", "hash"};
    for (int i = 0; i < 6; ++i) print(std::string("round, ") + names[i], parts[i], "CPU s", {}, 0, 0, 0, {0, 0, 1});
    print("round, all", whole.median, "CPU s", {}, 0, 0, 0, whole);
    print("union", 8 * static_cast<double>(delta.size()) / static_cast<double>(size_), "bit/parameter", {}, 0, 0, 0, {0, 0, 1});
  }

  void probes() {
    volatile double kept = 0;
    line("probe", measure([] {}, [&] { kept = kept + probe(source_.span(), 3); }));
  }

private:
  void reset() { std::memcpy(value_.data(), source_.data(), 4 * size_); }
  void line(const std::string& name, const timing& time, bool reads_all = true) {
    const peer other = peers_[name];
    const double rate = gigabytes_ / time.median;
    print(name, rate, "GB/s", other, other.value > 0 ? rate / other.value : 0, reads_all ? read_limit_ : 0,
          reads_all ? rate / read_limit_ : 0, time);
  }

  std::map<std::string, peer> peers_;
  group_shape group_;
  std::size_t size_;
  float_array source_, value_, sum_, anchor_, working_;
  double gigabytes_ = 0, read_limit_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  codec_bench bench(argc > 1 ? std::atoll(argv[1]) : 30'000'000, argc > 2 ? read_peers(argv[2]) : std::map<std::string, peer>{});
  for (const char* name : {"none", "int8", "sparse_loco"}) bench.speed(name);
  bench.probes();
  bench.round();
  return 0;
}
