// The only file that sees oneDNN, 2.x or 3.x.
#include "kernels/cpu/bf16_gemm.hpp"

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <vector>

namespace isthmus::kernels::cpu {

/// What one worker needs to run a plan: handles that are pointed at the operands of each call, and the library's scratch memory.
struct worker_handles {
  dnnl::memory a, b, c, scratch;
};

struct bf16_gemm::plan {
  bf16_call call;
  dnnl::matmul code;
  mutable std::vector<worker_handles> handles;
};

namespace {

using tag = dnnl::memory::data_type;

dnnl::memory::desc operand(std::int64_t rows, std::int64_t columns, std::int64_t stride, bool transposed, tag type) {
  return {{rows, columns}, type, transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1}};
}

class onednn_gemm final : public bf16_gemm {
public:
  explicit onednn_gemm(int workers) : engine_(dnnl::engine::kind::cpu, 0) {
    for (int i = 0; i < workers; ++i) streams_.emplace_back(engine_);
  }

  const plan& prepare(const bf16_call& call) override {
    const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) { return p->call == call; });
    if (found != plans_.end()) {
      std::rotate(found, found + 1, plans_.end());  // the one not used for the longest time comes first
    } else {
      if (plans_.size() >= plans_at_most) plans_.erase(plans_.begin());
      plans_.push_back(make(call));
    }
    return *plans_.back();
  }

  void run(const plan& p, const void* a, const void* b, void* c, int worker) const override {
    omp_set_num_threads(1);  // of this thread: the library's own team stays away
    auto& h = p.handles[static_cast<std::size_t>(worker)];
    h.a.set_data_handle(const_cast<void*>(a));
    h.b.set_data_handle(const_cast<void*>(b));
    h.c.set_data_handle(c);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, h.a.get()}, {DNNL_ARG_WEIGHTS, h.b.get()}, {DNNL_ARG_DST, h.c.get()},
                                         {DNNL_ARG_SCRATCHPAD, h.scratch.get()}};
    const auto status = dnnl_primitive_execute(p.code.get(), streams_[static_cast<std::size_t>(worker)].get(), 4, arguments);
    dnnl::error::wrap_c_api(status, "bf16_gemm: a product failed");
  }

private:
  static constexpr std::size_t plans_at_most = 256;

  std::unique_ptr<plan> make(const bf16_call& call) const {
    const auto a = operand(call.m, call.k, call.a_stride, call.a_transposed, tag::bf16);
    const auto b = operand(call.k, call.n, call.b_stride, call.b_transposed, tag::bf16);
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
    auto p = std::make_unique<plan>(plan{call, dnnl::matmul(description), {}});
    for (std::size_t i = 0; i < streams_.size(); ++i)
      p->handles.push_back({dnnl::memory(a, engine_, nullptr), dnnl::memory(b, engine_, nullptr), dnnl::memory(c, engine_, nullptr),
                            dnnl::memory(description.scratchpad_desc(), engine_)});
    return p;
  }

  dnnl::engine engine_;
  std::vector<dnnl::stream> streams_;
  std::vector<std::unique_ptr<plan>> plans_;
};

}  // namespace

std::unique_ptr<bf16_gemm> make_bf16_gemm(int workers) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return std::make_unique<onednn_gemm>(workers);
#endif
  (void)workers;
  return nullptr;
}

}  // namespace isthmus::kernels::cpu
