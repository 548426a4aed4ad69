#include "tests/framework/formats/gguf_builder.hpp"

#include "framework/tokenizer/byte_alphabet.hpp"

#include <span>

namespace isthmus::testing {

gguf_builder& gguf_builder::raw(std::string_view bytes) {
  bytes_ += bytes;
  return *this;
}

gguf_builder& gguf_builder::tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t kind,
                                   std::uint64_t offset) {
  add_text(name).add(static_cast<std::uint32_t>(dimensions.size()));
  for (const std::uint64_t d : dimensions) add(d);
  return add(kind).add(offset);
}

gguf_builder& gguf_builder::pad(std::size_t alignment) { return zeros((alignment - bytes_.size() % alignment) % alignment); }

gguf_builder& gguf_builder::zeros(std::size_t count) {
  bytes_.append(count, '\0');
  return *this;
}

std::vector<std::byte> gguf_builder::bytes() const {
  const auto all = std::as_bytes(std::span(bytes_));
  return {all.begin(), all.end()};
}

std::vector<std::byte> small_gguf() {
  using b = gguf_builder;
  gguf_builder file;
  file.head(1, 9).text_key("general.architecture", "llama").key("general.alignment", b::u32).add(std::uint32_t{32});
  file.key("llama.rope.freq_base", b::f32).add(10000.0F);
  file.text_key("tokenizer.ggml.model", "gpt2").text_key("tokenizer.ggml.pre", "gpt-2");
  file.array_key("tokenizer.ggml.tokens", b::text, 259);
  for (int byte = 0; byte < 256; ++byte) file.add_text(to_byte_alphabet(std::string(1, static_cast<char>(byte))));
  file.add_text("th").add_text("the").add_text("<|endoftext|>");
  file.array_key("tokenizer.ggml.token_type", b::i32, 259);
  for (int i = 0; i < 259; ++i) file.add(std::int32_t{i == 258 ? 3 : 1});
  file.array_key("tokenizer.ggml.merges", b::text, 2).add_text("t h").add_text("th e");
  file.text_key("tokenizer.chat_template", "{{ messages }}");
  return file.tensor("t", {32, 2}, 8, 0).pad().zeros(68).bytes();
}

std::vector<std::byte> every_type_gguf() {
  using b = gguf_builder;
  constexpr struct {
    std::uint32_t type;
    std::uint64_t numbers, bytes;
  } tensors[] = {{0, 2, 8}, {1, 2, 4}, {30, 2, 4}, {2, 32, 18}, {3, 32, 20}, {8, 32, 34}, {12, 256, 144}, {14, 256, 210}};
  gguf_builder file;
  file.head(std::size(tensors), 25, 2);
  std::uint64_t number = 0;
  for (const auto& [kind, bytes] : {std::pair{b::u8, 1},
                                    {b::i8, 1},
                                    {b::u16, 2},
                                    {b::i16, 2},
                                    {b::u32, 4},
                                    {b::i32, 4},
                                    {b::f32, 4},
                                    {b::u64, 8},
                                    {b::i64, 8},
                                    {b::f64, 8},
                                    {b::boolean, 1}}) {
    file.key("v" + std::to_string(number), kind).zeros(static_cast<std::size_t>(bytes));
    file.array_key("a" + std::to_string(number), kind, 2).zeros(2 * static_cast<std::size_t>(bytes));
    ++number;
  }
  file.text_key("t", "text").array_key("ts", b::text, 2).add_text("").add_text("b");
  file.array_key("n", b::array, 2).add(b::u8).add(std::uint64_t{1}).add(std::uint8_t{7}).add(b::text).add(std::uint64_t{0});
  std::uint64_t offset = 0;
  for (const auto& t : tensors) {
    file.tensor("x" + std::to_string(t.type), {t.numbers}, t.type, offset);
    offset += (t.bytes + 31) / 32 * 32;
  }
  file.pad();
  for (const auto& t : tensors) file.zeros(t.bytes).pad();
  return file.bytes();
}

}  // namespace isthmus::testing
