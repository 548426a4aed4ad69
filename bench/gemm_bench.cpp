// The products with weights that training runs, in fp32 or bf16, beside the same without bf16 parts, our own kernels alone and oneDNN,
// plain and with weights in the library's own blocks, in the shapes of the models.
#include "bench/peak.hpp"
#include "bench/report.hpp"
#include "bench/train_step.hpp"
#include "kernels/scratch_block.hpp"
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/backends.hpp"
#include "kernels/stealing_team.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <functional>
#include <map>

namespace isthmus::bench {

namespace {

using dims = dnnl::memory::dims;

struct shape {
  const char* name;
  std::int64_t out, in;
};

std::vector<shape> shapes_of(std::int64_t d) {
  const model_config c = config_of({d, 2, 256, 2048, 4096, "a2", precision_kind::fp32});
  const std::int64_t ssm_in =
      2 * c.extent("ssm_inner") + 2 * c.extent("ssm_groups") * c.extent("ssm_state") + c.extent("ssm_inner") / c.extent("ssm_head_dim");
  return {{"qkv", 3 * d, d},
          {"o", d, d},
          {"gate_up", 2 * c.extent("ffn_hidden"), d},
          {"down", d, c.extent("ffn_hidden")},
          {"ssm_in", ssm_in, d},
          {"ssm_out", d, c.extent("ssm_inner")},
          {"head", c.vocabulary, d}};
}

template <class T>
constexpr auto type_of = std::is_same_v<T, float> ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;

/// c [m, n] (+)= a [m, k] b [k, n] by oneDNN in one thread, in tiles of m; either operand may be stored transposed.
template <class Act, class Out>
class library_product {
public:
  struct operand {
    Act* at;
    bool transposed;
  };
  library_product(dnnl::engine& engine, std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t tile, operand a, operand b, Out* c,
                  bool packs, bool adds)
      : engine_(engine), stream_(engine), m_(m), n_(n), k_(k), tile_(tile), a_(a), b_(b), c_(c) {
    const auto type = type_of<Act>;
    const dnnl::memory::desc da({tile, k}, type, a.transposed ? dims{1, m} : dims{k, 1}), dc({tile, n}, type_of<Out>, dims{n, 1});
    const dnnl::memory::desc plain({k, n}, type, b.transposed ? dims{1, k} : dims{n, 1});
    const dnnl::memory::desc any({k, n}, type, dnnl::memory::format_tag::any);
    dnnl::primitive_attr attributes;
    if (adds) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine, da, packs ? any : plain, dc, attributes);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(da, packs ? any : plain, dc), attributes, engine);
#endif
    code_ = dnnl::matmul(description);
    from_ = dnnl::memory(plain, engine, b.at);
    packed_ = packs ? dnnl::memory(description.weights_desc(), engine) : from_;
    left_ = dnnl::memory(da, engine, a.at);
    to_ = dnnl::memory(dc, engine, c);
    if (packs) pack_ = dnnl::reorder(from_, packed_);
  }
  void pack() { pack_.execute(stream_, from_, packed_); }
  void multiply() {
    for (std::int64_t i = 0; i + tile_ <= m_; i += tile_) {
      left_.set_data_handle(a_.at + i * (a_.transposed ? 1 : k_));
      to_.set_data_handle(c_ + i * n_);
      code_.execute(stream_, {{DNNL_ARG_SRC, left_}, {DNNL_ARG_WEIGHTS, packed_}, {DNNL_ARG_DST, to_}});
    }
  }

private:
  dnnl::engine& engine_;
  dnnl::stream stream_;
  std::int64_t m_, n_, k_, tile_;
  operand a_, b_;
  Out* c_;
  dnnl::matmul code_;
  dnnl::reorder pack_;
  dnnl::memory from_, packed_, left_, to_;
};

/// One way to compute a product, and the GFLOP/s it reached in each round.
struct way {
  std::string name;
  std::function<void()> run;
  std::vector<double> speeds;
};

/// CPU time of the calls of each way in turn; a round is as many calls as fill a few milliseconds.
void measure(std::vector<way>& ways, double flop, int rounds) {
  const int calls = std::max(1, static_cast<int>(2e9 / flop));
  for (auto& w : ways) w.run();
  for (int round = 0; round < rounds; ++round)
    for (auto& w : ways) {
      const double begin = process_seconds();
      for (int i = 0; i < calls; ++i) w.run();
      w.speeds.push_back(flop * calls / (process_seconds() - begin) * 1e-9);
    }
}

struct options {
  std::vector<std::int64_t> widths{256, 384, 512}, tiles{256};
  std::vector<std::string> passes{"forward", "input", "weight"}, dtypes{"f32", "bf16"};
  std::int64_t rows = 2048;
  int rounds = 5;
};

/// Everything that one shape is measured with. rounded: the weights as oneDNN takes them.
template <class Act>
struct bench_case {
  shape s;
  std::int64_t rows;
  Act *x, *y, *rounded;
  float* dw;
  kernels::matrix<Act>& matrix;
  const kernels::op_table<Act>& ops;
};

template <class Act>
way ours(const bench_case<Act>& b, kernels::stream& stream, const std::string& pass, bool packs) {
  const auto run = [b, &stream, pass, packs] {
    if (packs) b.matrix.weights_changed();
    if (pass == "forward")
      b.ops.linear(stream, {.w = &b.matrix, .x = b.x, .y = b.y, .rows = b.rows, .x_stride = b.s.in, .y_stride = b.s.out});
    else if (pass == "input")
      b.ops.linear_backward_input(stream,
                                  {.w = &b.matrix, .dy = b.y, .dx = b.x, .rows = b.rows, .dy_stride = b.s.out, .dx_stride = b.s.in});
    else
      b.ops.linear_backward_weight(
          stream, {.w = &b.matrix, .x = b.x, .dy = b.y, .dw = b.dw, .rows = b.rows, .x_stride = b.s.in, .dy_stride = b.s.out});
  };
  return {packs ? "ours, packing" : "ours", run, {}};
}

/// The library's ways for one product. always: what it packs is an activation, anew in each call.
template <class Product>
void add_ways(std::vector<way>& ways, const std::shared_ptr<Product>& plain, const std::shared_ptr<Product>& packed, std::int64_t tile,
              bool always) {
  packed->pack();
  ways.push_back({fmt::format("oneDNN m{}", tile), [plain] { plain->multiply(); }, {}});
  ways.push_back({fmt::format("oneDNN packed m{}", tile),
                  [packed, always] {
                    if (always) packed->pack();
                    packed->multiply();
                  },
                  {}});
  if (always) return;
  ways.push_back({fmt::format("oneDNN packing m{}", tile),
                  [packed] {
                    packed->pack();
                    packed->multiply();
                  },
                  {}});
}

template <class Act>
void add_library(std::vector<way>& ways, dnnl::engine& engine, const bench_case<Act>& b, const std::string& pass, std::int64_t tile) {
  using product = library_product<Act, Act>;
  using of_weights = library_product<Act, float>;
  const auto make = [&](bool packs) {
    return pass == "forward" ? std::make_shared<product>(engine, b.rows, b.s.out, b.s.in, tile, typename product::operand{b.x, false},
                                                         typename product::operand{b.rounded, true}, b.y, packs, false)
                             : std::make_shared<product>(engine, b.rows, b.s.in, b.s.out, tile, typename product::operand{b.y, false},
                                                         typename product::operand{b.rounded, false}, b.x, packs, false);
  };
  const auto make_of_weights = [&](bool packs) {
    return std::make_shared<of_weights>(engine, b.s.out, b.s.in, b.rows, tile, typename of_weights::operand{b.y, true},
                                        typename of_weights::operand{b.x, false}, b.dw, packs, true);
  };
  if (pass == "weight") return add_ways(ways, make_of_weights(false), make_of_weights(true), tile, true);
  add_ways(ways, make(false), make(true), tile, false);
}

void report(const options& o, const shape& s, const std::string& pass, const std::string& type, const std::vector<way>& ways,
            peak_kind kind, double peak) {
  for (std::size_t i = 1; i < ways.size(); ++i) {
    const bool packs = ways[i].name.find("packing") != std::string::npos && pass != "weight";
    const way& mine = pass != "weight" && packs ? ways[1] : ways[0];
    if (i == 1 && pass != "weight") continue;
    figure f;
    f.name = fmt::format("{} {}{} {}x{}x{}", s.name, pass, type == "f32" ? "" : " " + type, o.rows, s.out, s.in);
    f.unit = "GFLOP/s";
    f.value = median(mine.speeds);
    f.peer = ways[i].name;
    f.peer_value = median(ways[i].speeds);
    f.limit = peak_name(kind);
    f.share = f.value / peak;
    f.runs = o.rounds;
    f.spread = spread(mine.speeds);
    print(f);
  }
}

template <class T>
T* filled(kernels::scratch_block& block, std::int64_t n) {
  auto* at = reinterpret_cast<T*>(block.at_least(static_cast<std::size_t>(n) * sizeof(T)));
  for (std::int64_t j = 0; j < n; ++j) at[j] = T(static_cast<float>(j % 13 - 6) * 0.01F);
  return at;
}

template <class Act>
void run_shape(const options& o, const shape& s, dnnl::engine& engine) {
  constexpr bool fp32 = std::is_same_v<Act, float>;
  kernels::stealing_team one(1);
  const auto& backend = kernels::cpu_backend();
  const auto stream = backend.make_stream(one);
  kernels::cpu::cpu_stream own_kernels(one, nullptr, false), unsplit(one, kernels::cpu::make_gemm_library(1), false);
  kernels::scratch_block blocks[5];
  const auto* w = filled<float>(blocks[0], s.out * s.in);
  const auto& ops = kernels::ops_of<Act>(backend);
  const auto matrix = ops.make_matrix(w, s.out, s.in);
  const bench_case<Act> b{s,
                          o.rows,
                          filled<Act>(blocks[1], o.rows * s.in),
                          filled<Act>(blocks[2], o.rows * s.out),
                          filled<Act>(blocks[3], s.out * s.in),
                          filled<float>(blocks[4], s.out * s.in),
                          *matrix,
                          ops};
  for (const auto& pass : o.passes) {
    std::vector<way> ways{ours(b, *stream, pass, false)};
    if (pass != "weight") ways.push_back(ours(b, *stream, pass, true));
    ways.push_back(ours(b, own_kernels, pass, false));
    ways.back().name = "our kernels alone";
    if (fp32 && kernels::cpu::split_products_work()) {
      ways.push_back(ours(b, unsplit, pass, false));
      ways.back().name = "ours without bf16 parts";
    }
    const std::int64_t m = pass == "weight" ? s.out : o.rows;
    std::vector<std::int64_t> tiles;
    for (const std::int64_t tile : o.tiles) tiles.push_back(std::min(tile, m));
    tiles.erase(std::unique(tiles.begin(), tiles.end()), tiles.end());
    for (const std::int64_t tile : tiles)
      if (m % tile == 0) add_library(ways, engine, b, pass, tile);
    const peak_kind kind = fp32 ? peak_kind::fp32_fma : fastest_for_bf16();
    const double peak = register_peak(kind) * 1e-9;
    measure(ways, 2.0 * static_cast<double>(o.rows * s.out * s.in), o.rounds);
    report(o, s, pass, fp32 ? "f32" : "bf16", ways, kind, peak);
  }
}

int run(int argc, char** argv) {
  options o;
  CLI::App app{"Products with weights beside oneDNN, one thread, by CPU time"};
  app.add_option("--dtypes", o.dtypes, "f32 bf16")->delimiter(',');
  app.add_option("--widths", o.widths, "Model widths")->delimiter(',');
  app.add_option("--tiles", o.tiles, "Rows of a call of the library")->delimiter(',');
  app.add_option("--passes", o.passes, "forward input weight")->delimiter(',');
  app.add_option("--rows", o.rows, "Tokens a step");
  app.add_option("--rounds", o.rounds, "Rounds of all in turn");
  CLI11_PARSE(app, argc, argv);
  omp_set_num_threads(1);
  print_machine();
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  for (const std::int64_t d : o.widths)
    for (const auto& dtype : o.dtypes)
      for (const shape& s : shapes_of(d)) dtype == "bf16" ? run_shape<kernels::bf16>(o, s, engine) : run_shape<float>(o, s, engine);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
