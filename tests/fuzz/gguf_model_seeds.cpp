#include "framework/tokenizer/byte_alphabet.hpp"
#include "tests/framework/formats/gguf_builder.hpp"
#include "tests/fuzz/targets.hpp"

#include <fmt/format.h>

#include <utility>

namespace isthmus::fuzz {

namespace {

using b = testing::gguf_builder;
using named = std::pair<std::string, std::vector<std::uint64_t>>;  // a tensor, its extents as GGUF has them

/// Infos of fp16 tensors behind each other, then their numbers: all -1, so that ssm_a is one that there can be.
std::vector<std::byte> with_tensors(b& file, const std::vector<named>& tensors) {
  std::uint64_t offset = 0;
  std::vector<std::uint64_t> counts;
  for (const auto& [name, extents] : tensors) {
    file.tensor(name, extents, 1, offset);
    std::uint64_t count = 1;
    for (const std::uint64_t extent : extents) count *= extent;
    counts.push_back(count);
    offset += (2 * count + 31) / 32 * 32;
  }
  file.pad();
  for (const std::uint64_t count : counts) {
    for (std::uint64_t i = 0; i < count; ++i) file.add(std::uint16_t{0xbc00});
    file.pad();
  }
  return file.bytes();
}

void numbers(b& file, const std::string& architecture, const std::vector<std::pair<const char*, std::uint32_t>>& values) {
  for (const auto& [key, value] : values) file.key(architecture + "." + key, b::u32).add(value);
}

/// Llama with SentencePiece: 256 bytes, two letters and what they join to, a user-defined token. With experts: two, of which one is taken.
/// blank: the piece that spells one.
std::vector<std::byte> llama(bool experts, const char* blank = "\u2581") {
  const std::vector<std::string> pieces{"<unk>", "<s>", "</s>", "t", "h", "th", blank, "\u2581th", "<tool>"};
  constexpr std::int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1, 4};
  const std::size_t count = pieces.size() + 256;
  b file;
  file.head(experts ? 12 : 11, experts ? 18 : 16).text_key("general.architecture", "llama");
  numbers(file, "llama",
          {{"embedding_length", 16},
           {"block_count", 1},
           {"feed_forward_length", 16},
           {"attention.head_count", 2},
           {"attention.head_count_kv", 1},
           {"context_length", 64},
           {"rope.dimension_count", 8}});
  if (experts) numbers(file, "llama", {{"expert_count", 2}, {"expert_used_count", 1}});
  file.key("llama.attention.layer_norm_rms_epsilon", b::f32).add(1e-5F).key("llama.rope.freq_base", b::f32).add(10000.0F);
  file.text_key("tokenizer.ggml.model", "llama").array_key("tokenizer.ggml.tokens", b::text, count);
  for (const auto& piece : pieces) file.add_text(piece);
  for (int byte = 0; byte < 256; ++byte) file.add_text(fmt::format("<0x{:02X}>", byte));
  file.array_key("tokenizer.ggml.scores", b::f32, count);
  for (std::size_t i = 0; i < count; ++i) file.add(-static_cast<float>(i));
  file.array_key("tokenizer.ggml.token_type", b::i32, count);
  for (const std::int32_t type : types) file.add(type);
  for (int byte = 0; byte < 256; ++byte) file.add(std::int32_t{6});
  file.key("tokenizer.ggml.add_bos_token", b::boolean)
      .add(std::uint8_t{1})
      .key("tokenizer.ggml.bos_token_id", b::u32)
      .add(std::uint32_t{1});
  const std::string blk = "blk.0.";
  std::vector<named> tensors{{"token_embd.weight", {16, count}},     {"output_norm.weight", {16}},     {blk + "attn_norm.weight", {16}},
                             {blk + "attn_q.weight", {16, 16}},      {blk + "attn_k.weight", {16, 8}}, {blk + "attn_v.weight", {16, 8}},
                             {blk + "attn_output.weight", {16, 16}}, {blk + "ffn_norm.weight", {16}}};
  const std::vector<std::uint64_t> matrix = experts ? std::vector<std::uint64_t>{16, 16, 2} : std::vector<std::uint64_t>{16, 16};
  if (experts) tensors.emplace_back(blk + "ffn_gate_inp.weight", std::vector<std::uint64_t>{16, 2});
  for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"})
    tensors.emplace_back(blk + name + (experts ? "_exps.weight" : ".weight"), matrix);
  return with_tensors(file, tensors);
}

/// Mamba with byte-level BPE.
std::vector<std::byte> mamba() {
  b file;
  file.head(12, 14).text_key("general.architecture", "mamba").key("mamba.attention.layer_norm_rms_epsilon", b::f32).add(1e-5F);
  numbers(file, "mamba",
          {{"embedding_length", 16},
           {"block_count", 1},
           {"ssm.conv_kernel", 4},
           {"ssm.inner_size", 32},
           {"ssm.state_size", 2},
           {"ssm.time_step_rank", 1},
           {"vocab_size", 259}});
  file.text_key("tokenizer.ggml.model", "gpt2").text_key("tokenizer.ggml.pre", "mpt").array_key("tokenizer.ggml.tokens", b::text, 259);
  for (int byte = 0; byte < 256; ++byte) file.add_text(to_byte_alphabet(std::string(1, static_cast<char>(byte))));
  file.add_text("th").add_text("<tool>").add_text("<|endoftext|>").array_key("tokenizer.ggml.token_type", b::i32, 259);
  for (int i = 0; i < 259; ++i) file.add(std::int32_t{i == 258 ? 3 : i == 257 ? 4 : 1});
  file.array_key("tokenizer.ggml.merges", b::text, 1).add_text("t h");
  const std::string blk = "blk.0.";
  return with_tensors(file, {{"token_embd.weight", {16, 259}},
                             {"output_norm.weight", {16}},
                             {blk + "attn_norm.weight", {16}},
                             {blk + "ssm_in.weight", {16, 64}},
                             {blk + "ssm_conv1d.weight", {4, 32}},
                             {blk + "ssm_conv1d.bias", {32}},
                             {blk + "ssm_x.weight", {32, 5}},
                             {blk + "ssm_dt.weight", {1, 32}},
                             {blk + "ssm_dt.bias", {32}},
                             {blk + "ssm_a", {2, 32}},
                             {blk + "ssm_d", {32}},
                             {blk + "ssm_out.weight", {32, 16}}});
}

}  // namespace

std::vector<seed> gguf_model_seeds() {
  return {{"gguf_models", "llama", llama(false)},
          {"gguf_models", "blanks_by_bytes", llama(false, "\u2d81")},
          {"gguf_models", "experts", llama(true)},
          {"gguf_models", "mamba", mamba()}};
}

}  // namespace isthmus::fuzz
