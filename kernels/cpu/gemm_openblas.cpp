// The only file that sees OpenBLAS: fp32 products where there is no oneDNN.
#include "kernels/cpu/gemm_library.hpp"

#include <cblas.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace isthmus::kernels::cpu {

struct gemm_library::plan {
  gemm_call call;
};

namespace {

class openblas_library final : public gemm_library {
public:
  openblas_library() { openblas_set_num_threads(1); }  // of the process: the library's own team stays away

  bool knows_bf16() const override { return false; }

  const plan* prepare(const gemm_call& call) override {
    if (call.operands_are_bf16 || call.c_is_bf16) return nullptr;
    const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) { return p->call == call; });
    if (found != plans_.end()) {
      std::rotate(found, found + 1, plans_.end());
    } else {
      if (plans_.size() >= plans_at_most) plans_.erase(plans_.begin());
      plans_.push_back(std::make_unique<plan>(plan{call}));
    }
    return plans_.back().get();
  }

  void run(const plan& p, const void* a, const void* b, void* c, int) const override {
    const auto& g = p.call;
    const auto* right = static_cast<const float*>(b);
    auto* out = static_cast<float*>(c);
    if (g.b_form != right_form::panels) return multiply(g, g.n, a, right, g.b_stride, out);
    const std::int64_t panel = (g.k + library_depth_unit - 1) / library_depth_unit * library_depth_unit * library_panel;
    for (std::int64_t first = 0; first < g.n; first += library_panel, right += panel)
      multiply(g, std::min(library_panel, g.n - first), a, right, library_panel, out + first);
  }

private:
  static constexpr std::size_t plans_at_most = 256;

  static void multiply(const gemm_call& g, std::int64_t columns, const void* a, const float* b, std::int64_t stride, float* c) {
    cblas_sgemm(CblasRowMajor, g.a_transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, static_cast<blasint>(g.m),
                static_cast<blasint>(columns), static_cast<blasint>(g.k), 1.0F, static_cast<const float*>(a),
                static_cast<blasint>(g.a_stride), b, static_cast<blasint>(stride), g.adds ? 1.0F : 0.0F, c,
                static_cast<blasint>(g.c_stride));
  }

  std::vector<std::unique_ptr<plan>> plans_;
};

}  // namespace

std::unique_ptr<gemm_library> make_gemm_library(int) { return std::make_unique<openblas_library>(); }

std::string describe_gemm_library() {
  std::string version = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
  version.resize(std::min(version.find(' ', std::string_view("OpenBLAS ").size()), version.size()));
  return version + " (" + openblas_get_corename() + ") for fp32; bf16: our kernels";
}

}  // namespace isthmus::kernels::cpu
