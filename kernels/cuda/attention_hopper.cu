#include "kernels/cuda/attention_hopper.cuh"

#include "kernels/cuda/attention_hopper.hpp"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda::hopper {

namespace {

using namespace tiled;

/// Groups of a block, keys of a tile, tiles on their way, blocks of a multiprocessor: two blocks hide each other's waiting where
/// registers allow for them.
template <int D>
struct forward_shape;
template <>
struct forward_shape<64> {
  static constexpr int groups = 2, keys = 64, stages = 4, blocks = 2;
};
template <>
struct forward_shape<128> {
  static constexpr int groups = 2, keys = 128, stages = 3, blocks = 1;
};

template <int D, class Shape = forward_shape<D>>
struct forward_memory {
  static constexpr int rows = Shape::groups * group_rows;
  alignas(1024) __nv_bfloat16 q[rows * D];
  ring<Shape::keys, D, Shape::stages> k, v;
  barrier q_full;

  __device__ auto q_tile() { return swizzled_tile<rows, D>::at(shared_address(q)); }
  __device__ void init() {
    k.init(Shape::groups * 4);
    v.init(Shape::groups * 4);
    q_full.init(1);
    publish_barriers();
  }
  __device__ void bring_q(const CUtensorMap& from, int head, int row, int batch) {
    q_full.arrive_expecting(swizzled_tile<rows, D>::bytes);
    start_tile(q_tile(), from, q_full, head, row, batch);
  }
};

/// The group's rows [begin + within, ...) against the tiles they see. A tile's scores are found while the weights of the one before
/// it go over its values.
template <int D, class Memory, class Bringer>
__device__ void attend(Memory& m, Bringer& keys, bool brings, int begin, int within, int seen, float scale, accumulator<D>& o,
                       running_softmax& softmax) {
  constexpr int Keys = forward_shape<D>::keys;
  const int row = begin + first_row_of_warp() + lane_row() - lane_column();
  accumulator<Keys> s;
  fragment_a weights[Keys / 16];
  float keep[2];
  place<forward_shape<D>::stages> at, before;
  m.q_full.wait(0);
  m.k.wait(at);
  begin_products();
  start_scores(s, m.q_tile(), within, m.k.tile(at.stage));
  commit_products();
  wait_for_products<0>();
  for (int i = 0;;) {
    settle(s);
    m.k.release(at.stage);
    if ((i + 1) * Keys > begin + within + 1) hide(s, low, [&](int ahead) { return i * Keys + ahead > row; });
    softmax.step(s, scale, keep);
    wait_for_products<0>();
    settle(o);
    if (i > 0) m.v.release(before.stage);
    if (i > 0 && __any_sync(~0U, keep[0] != 1 || keep[1] != 1)) scale_rows(o, keep);
    pack(weights, s);
    if (++i == seen) break;
    before = at;
    at.next();
    m.k.wait(at);
    begin_products();
    start_scores(s, m.q_tile(), within, m.k.tile(at.stage));
    commit_products();
    m.v.wait(before);
    begin_products();
    start_weighted(o, weights, m.v.tile(before.stage), i > 1);
    commit_products();
    if (brings) keys.bring();
    __syncwarp();
    wait_for_products<1>();
  }
  m.v.wait(at);
  begin_products();
  start_weighted(o, weights, m.v.tile(at.stage), seen > 1);
  commit_products();
  wait_for_products<0>();
  settle(o);
  m.v.release(at.stage);
  for (int i = seen; i < keys.tiles; ++i) {
    at.next();
    m.k.skip(at);
    m.v.skip(at);
  }
}

/// One block: rows of one head.
template <int D, class Shape = forward_shape<D>>
__global__ void __launch_bounds__(Shape::groups* group_threads, Shape::blocks)
    attention_rows(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v,
                   const __grid_constant__ attention_args<bf16> a) {
  extern __shared__ __align__(1024) std::byte raw[];
  auto& m = *reinterpret_cast<forward_memory<D>*>(raw);
  constexpr int rows = Shape::groups * group_rows;
  const int begin = static_cast<int>(gridDim.y - 1 - blockIdx.y) * rows, h = blockIdx.x, b = blockIdx.z;
  const int within = group_of_thread() * group_rows;
  const auto tiles = static_cast<int>((least(begin + rows, a.length) + Shape::keys - 1) / Shape::keys);
  bringer_of_keys<Shape::keys, D, Shape::stages> keys{m.k, m.v, k, v, static_cast<int>(h * a.kv_heads / a.heads), b, tiles};
  const bool brings = threadIdx.x == (Shape::groups - 1) * group_threads;  // of the group that sees most
  if (threadIdx.x == 0) m.init();
  __syncthreads();
  if (brings) {
    m.bring_q(q, h, begin, b);
    for (int i = 0; i < Shape::stages - 1; ++i) keys.bring();
  }
  __syncwarp();
  accumulator<D> o;
  running_softmax softmax;
  const int seen = min(tiles, (begin + within + group_rows + Shape::keys - 1) / Shape::keys);
  attend(m, keys, brings, begin, within, seen, a.scale * log2_e, o, softmax);
  const std::int64_t row = begin + first_row_of_warp() + lane_row();
  softmax.end(o, a.scale, a.lse + (b * a.heads + h) * a.length + row, a.length - row);
  write_strip(o, begin + first_row_of_warp(), a.o + (b * a.length * a.heads + h) * a.head_dim, a.heads * a.head_dim, a.length, a.head_dim);
}

}  // namespace

bool takes(const queue& q, const attention_args<bf16>& a) {
  return a.sight.plain() && q.on_hopper() && 32 < a.head_dim && a.head_dim <= 128 && can_be_mapped(queries_of(a)) &&
         can_be_mapped(keys_of(a)) && can_be_mapped(values_of(a));
}

void attention(queue& q, const attention_args<bf16>& a) {
  if (a.length == 0 || a.batch == 0) return;
  hopper::for_head_dim(a.head_dim, [&]<int D>() {
    using shape = forward_shape<D>;
    constexpr int rows = shape::groups * group_rows;
    launch(q, "attention", attention_rows<D>, hopper::grid_of(a.length, rows, a.heads, a.batch), shape::groups * group_threads,
           sizeof(forward_memory<D>), map_of(queries_of(a), rows), map_of(keys_of(a), shape::keys), map_of(values_of(a), shape::keys), a);
  });
}

}  // namespace isthmus::kernels::cuda::hopper
