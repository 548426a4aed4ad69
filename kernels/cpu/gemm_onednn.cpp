// The only file that sees oneDNN, 2.x or 3.x.
#include "kernels/cpu/gemm_library.hpp"
#include "kernels/cpu/pair_product.hpp"
#include "kernels/cpu/split_product.hpp"
#include "kernels/cpu/traits.hpp"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

namespace isthmus::kernels::cpu {

/// What one worker needs to run a plan: handles that are pointed at the operands of each call, and the library's scratch memory.
struct worker_handles {
  dnnl::memory a, b, c, scratch;
};

struct gemm_library::plan {
  gemm_call call;
  bool fast;
  dnnl::matmul code;
  mutable std::vector<worker_handles> handles;
};

namespace {

using tag = dnnl::memory::data_type;

dnnl::memory::desc operand(std::int64_t rows, std::int64_t columns, std::int64_t stride, bool transposed, tag type) {
  return {{rows, columns}, type, transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1}};
}

dnnl::memory::desc right_operand(const gemm_call& call, tag type) {
  if (call.b_form == right_form::panels) return {{call.k, call.n}, type, dnnl::memory::format_tag::BA16a64b};
  if (call.b_form == right_form::pairs) return {{call.k, call.n}, type, dnnl::memory::format_tag::BA16a64b2a};
  return operand(call.k, call.n, call.b_stride, false, type);
}

class onednn_library final : public gemm_library {
public:
  onednn_library(int workers, bool knows_bf16) : knows_bf16_(knows_bf16), engine_(dnnl::engine::kind::cpu, 0) {
    for (int i = 0; i < workers; ++i) streams_.emplace_back(engine_);
  }

  bool knows_bf16() const override { return knows_bf16_; }

  const plan* prepare(const gemm_call& call) override {
    const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) { return p->call == call; });
    if (found != plans_.end()) {
      std::rotate(found, found + 1, plans_.end());  // the one not used for the longest time comes first
    } else {
      if (plans_.size() >= plans_at_most) plans_.erase(plans_.begin());
      plans_.push_back(make(call));
    }
    return plans_.back()->fast ? plans_.back().get() : nullptr;
  }

  void run(const plan& p, const void* a, const void* b, void* c, int worker) const override {
    omp_set_num_threads(1);  // of this thread: the library's own team stays away
    auto& h = p.handles[static_cast<std::size_t>(worker)];
    h.a.set_data_handle(const_cast<void*>(a));
    h.b.set_data_handle(const_cast<void*>(b));
    h.c.set_data_handle(c);
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, h.a.get()}, {DNNL_ARG_WEIGHTS, h.b.get()}, {DNNL_ARG_DST, h.c.get()}, {DNNL_ARG_SCRATCHPAD, h.scratch.get()}};
    const auto status = dnnl_primitive_execute(p.code.get(), streams_[static_cast<std::size_t>(worker)].get(), 4, arguments);
    dnnl::error::wrap_c_api(status, "gemm_library: a product failed");
  }

private:
  static constexpr std::size_t plans_at_most = 256;

  std::unique_ptr<plan> make(const gemm_call& call) const {
    const tag type = call.operands_are_bf16 ? tag::bf16 : tag::f32;
    const auto a = operand(call.m, call.k, call.a_stride, call.a_transposed, type);
    const auto b = right_operand(call, type);
    const auto c = operand(call.m, call.n, call.c_stride, false, call.c_is_bf16 ? tag::bf16 : tag::f32);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (call.adds) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    omp_set_num_threads(1);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine_, a, b, c, attributes);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine_);
#endif
    const bool fast = std::string_view(description.impl_info_str()).find("ref") == std::string_view::npos;
    auto p = std::make_unique<plan>(plan{call, fast, dnnl::matmul(description), {}});
    for (std::size_t i = 0; i < streams_.size(); ++i)
      p->handles.push_back({dnnl::memory(a, engine_, nullptr), dnnl::memory(b, engine_, nullptr), dnnl::memory(c, engine_, nullptr),
                            dnnl::memory(description.scratchpad_desc(), engine_)});
    return p;
  }

  const bool knows_bf16_;
  dnnl::engine engine_;
  std::vector<dnnl::stream> streams_;
  std::vector<std::unique_ptr<plan>> plans_;
};

}  // namespace

namespace {

/// Whether bf16 products are faster than fp32 ones: by the matrix unit or by dot products.
bool fast_at_bf16() { return split_products_work() || (pair_products_work() && this_cpu().fast_bf16_dots); }

}  // namespace

std::unique_ptr<gemm_library> make_gemm_library(int workers) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return std::make_unique<onednn_library>(workers, fast_at_bf16());
#endif
  (void)workers;
  return nullptr;
}

namespace {

const char* name_of(dnnl_cpu_isa_t isa) {
  switch (isa) {
    case dnnl_cpu_isa_sse41: return "sse41";
    case dnnl_cpu_isa_avx: return "avx";
    case dnnl_cpu_isa_avx2: return "avx2";
    case dnnl_cpu_isa_avx2_vnni: return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core: return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
    default: return "another instruction set";
  }
}

}  // namespace

std::string describe_gemm_library() {
  const auto* v = dnnl_version();
  const auto text = "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  if (make_gemm_library(1) == nullptr) return text + ", which has no fast code for this CPU: own kernels";
  return text + " (" + name_of(dnnl_get_effective_cpu_isa()) + ")";
}

}  // namespace isthmus::kernels::cpu
