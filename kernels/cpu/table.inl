// The table of this instruction set's kernels. Included last.

template <class Act>
constexpr op_table<Act> table() {
  return {.make_matrix = make_packed_matrix<Act>,
          .linear = linear<Act>,
          .linear_backward_input = linear_backward_input<Act>,
          .linear_backward_weight = linear_backward_weight<Act>,
          .embedding = embedding,
          .embedding_backward = embedding_backward,
          .rms_norm = rms_norm<Act>,
          .rms_norm_backward = rms_norm_backward<Act>,
          .swiglu = swiglu<Act>,
          .swiglu_backward = swiglu_backward<Act>,
          .rope = rope<Act>,
          .attention = attention<Act>,
          .attention_backward = attention_backward<Act>,
          .attention_cached = attention_cached<Act>,
          .conv1d = conv1d<Act>,
          .conv1d_backward = conv1d_backward<Act>,
          .conv1d_step = conv1d_step<Act>,
          .ssd = ssd<Act>,
          .ssd_backward = ssd_backward<Act>,
          .ssd_step = ssd_step<Act>,
          .gated_norm = gated_norm<Act>,
          .gated_norm_backward = gated_norm_backward<Act>,
          .cross_entropy = cross_entropy<Act>};
}
