// Attention as the table has it: in fp32, or by pairs where the CPU is fast at those.

template <class Act>
void attention(stream& s, const attention_args<Act>& a) {
  if constexpr (std::is_same_v<Act, bf16>)
    if (static_cast<cpu_stream&>(s).dots_of_pairs()) return pair_attention(s, a);
  attention_by<float>(s, a);
}
template <class Act>
void attention_backward(stream& s, const attention_backward_args<Act>& a) {
  if constexpr (std::is_same_v<Act, bf16>)
    if (static_cast<cpu_stream&>(s).dots_of_pairs()) return pair_attention_backward(s, a);
  attention_backward_by<float>(s, a);
}
