// Speed of the codecs on one thread: GB/s of fp32 numbers encoded and decoded, against what memory gives in the same run, and the
// arithmetic of a whole SparseLoCo round at 30 M parameters. The peer is PyTorch, timed just before by bench/peers/torch_codec.py.
// Usage: codec_bench [parameters [folder of the script [interpreter that has PyTorch]]].
#include "bench/report.hpp"
#include "framework/codecs/codec.hpp"
#include "framework/codecs/contribution.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/probe.hpp"
#include "framework/core/rng.hpp"
#include "framework/optim/outer.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace isthmus::bench {

namespace {

/// CPU seconds of `body`, which `prepare` makes ready each time.
std::vector<double> seconds_of(const std::function<void()>& prepare, const std::function<void()>& body, int runs = 7) {
  std::vector<double> seconds;
  for (int run = 0; run < runs; ++run) {
    prepare();
    const double start = process_seconds();
    body();
    seconds.push_back(process_seconds() - start);
  }
  return seconds;
}

struct peer {
  std::string name;
  double value = 0;
};

/// The lines of torch_codec.py by the name of what they time; a note and nothing else when it cannot run.
std::map<std::string, peer> run_peers(const std::string& folder, const std::string& python) {
  const std::string command = "OMP_NUM_THREADS=1 '" + python + "' '" + folder + "/torch_codec.py' 2>/dev/null";
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  char piece[4096];
  while (pipe != nullptr)
    if (const std::size_t n = std::fread(piece, 1, sizeof piece, pipe); n > 0)
      text.append(piece, n);
    else
      break;
  std::map<std::string, peer> peers;
  std::istringstream lines(pipe != nullptr && pclose(pipe) == 0 ? text : "");
  for (std::string line; std::getline(lines, line);)
    if (const auto entry = nlohmann::json::parse(line, nullptr, false); entry.is_object() && entry.contains("name"))
      peers[entry.at("name")] = {entry.at("peer"), entry.at("value")};
  if (peers.empty()) print_note("No peer: " + python + " with PyTorch, or " + folder + "/torch_codec.py, is missing here.");
  return peers;
}

figure said(const std::string& name, double value, const std::string& unit) {
  figure f;
  f.name = name;
  f.value = value;
  f.unit = unit;
  return f;
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

class codec_bench {
public:
  codec_bench(std::int64_t parameters, std::map<std::string, peer> peers)
      : peers_(std::move(peers)),
        group_(model_of(parameters)),
        size_(static_cast<std::size_t>(group_.size)),
        source_(size_),
        value_(size_),
        sum_(size_),
        anchor_(size_),
        working_(size_) {
    fill(source_.span(), 1, 1e-3F);
    fill(anchor_.span(), 2, 0.1F);
    gigabytes_ = 4e-9 * static_cast<double>(size_);
    const auto read = memory_read_seconds(source_.span());
    read_limit_ = gigabytes_ / median(read);
    line("memory read", read, false);
  }

  void speed(const std::string& name) {
    const codec_pair pair = *make_codec_pair(name);
    both_ways(*pair.up, [&] { std::memcpy(value_.data(), source_.data(), 4 * size_); });
    const codec_size size = pair.up->size(group_);
    double counted = 0;
    for (const auto& tensor : group_.tensors) counted += static_cast<double>(tensor.count);
    print(said(name + " payload", 8 * static_cast<double>(size.payload()) / counted, "bit/parameter"));
    if (size.sparse == 0) return;
    double chunked = 0;
    for (const auto& tensor : group_.tensors) chunked += static_cast<double>(tensor.count / 4096 * 4096);
    print(said(name + " chunks alone", 8 * static_cast<double>(size.sparse) / chunked, "bit/parameter"));
    const auto frames = three_frames(pair);
    both_ways(*pair.down, [&] {
      std::memset(value_.data(), 0, 4 * size_);
      for (const auto& frame : frames) ensure(pair.up->add_to(group_, frame, value_.span()).has_value(), "add");
    });
  }

  /// All a site does in a round of three when it is the home of all: the worst case. CPU seconds.
  void round() {
    const codec_pair pair = *make_codec_pair("sparse_loco");
    const auto frames = three_frames(pair);
    std::vector<std::byte> delta, own;
    std::memcpy(working_.data(), anchor_.data(), 4 * size_);
    for (std::size_t i = 0; i < size_; ++i) working_.data()[i] -= source_.data()[i];
    double parts[5] = {};
    const outer_rule rule{outer_kind::plain, 1.0F, 0.0F};
    const auto whole = seconds_of(
        [] {},
        [&] {
          double last = process_seconds();
          const auto part = [&](int i) {
            const double now = process_seconds();
            parts[i] = now - last;
            last = now;
          };
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
        });
    const char* names[] = {"form", "encode", "sum of 3", "union", "apply and hash"};
    const auto limited = [&](const char* what, double seconds) {
      figure f = said(std::string("round, ") + what, seconds, "CPU s");
      f.less_is_better = true;
      f.limit = "one read of the weights";
      f.share = gigabytes_ / read_limit_ / seconds;
      return f;
    };
    for (int i = 0; i < 5; ++i) print(limited(names[i], parts[i]));
    figure all = limited("all", median(whole));
    all.runs = static_cast<int>(whole.size());
    all.spread = spread(whole);
    print(all);
    print(said("union", 8 * static_cast<double>(delta.size()) / static_cast<double>(size_), "bit/parameter"));
  }

  void probes() {
    volatile double kept = 0;
    line("probe", seconds_of([] {}, [&] { kept = kept + probe(source_.span(), 3); }));
  }

private:
  /// prepare fills value_ with what the codec encodes.
  void both_ways(const codec& c, const std::function<void()>& prepare) {
    std::vector<std::byte> frame;
    const std::string name(c.name());
    line(name + " encode", seconds_of(prepare, [&] { frame = c.encode(group_, value_.span()); }));
    line(name + " decode and add", seconds_of([] {}, [&] { ensure(c.add_to(group_, frame, sum_.span()).has_value(), "decode"); }));
  }

  std::vector<std::vector<std::byte>> three_frames(const codec_pair& pair) {
    std::vector<std::vector<std::byte>> frames(3);
    for (std::size_t site = 0; site < 3; ++site) {
      fill(value_.span(), 100 + site, 1e-3F);
      frames[site] = pair.up->encode(group_, value_.span());
    }
    return frames;
  }

  /// GB/s of fp32 numbers that a pass of so many seconds stands for, as a share of reading them. A sparse decode may pass it: it need
  /// not touch all of memory.
  void line(const std::string& name, const std::vector<double>& seconds, bool limited = true) {
    const peer other = peers_[name];
    figure f = said(name, gigabytes_ / median(seconds), "GB/s");
    if (other.value > 0) {
      f.peer = other.name;
      f.peer_value = other.value;
    }
    if (limited) {
      f.limit = "memory read";
      f.share = f.value / read_limit_;
    }
    f.runs = static_cast<int>(seconds.size());
    f.spread = spread(seconds);
    print(f);
  }

  std::map<std::string, peer> peers_;
  group_shape group_;
  std::size_t size_;
  float_array source_, value_, sum_, anchor_, working_;
  double gigabytes_ = 0, read_limit_ = 0;
};

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) {
  using namespace isthmus::bench;
  print_machine();
  codec_bench bench(argc > 1 ? std::atoll(argv[1]) : 30'000'000,
                    run_peers(argc > 2 ? argv[2] : "bench/peers", argc > 3 ? argv[3] : "/usr/bin/python3"));
  for (const char* name : {"none", "int8", "sparse_loco"}) bench.speed(name);
  bench.probes();
  bench.round();
  return 0;
}
