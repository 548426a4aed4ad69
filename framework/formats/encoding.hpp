#pragma once

#include "framework/checkpoint/safetensors.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace isthmus {

/// How the numbers of a tensor lie in a file: in blocks of `block` numbers and `block_bytes` bytes, little endian.
struct tensor_encoding {
  std::string_view name;  // as the format has it: "BF16", "Q4_K"
  std::int64_t block = 1;
  std::int64_t block_bytes = 0;
  /// Writes blocks * block numbers. Neither pointer need be aligned for `in`. Null: there is no fp32 from these.
  void (*decode)(const std::byte* in, std::int64_t blocks, float* out) = nullptr;
};

/// Of a safetensors dtype; only F32, F16 and BF16 decode.
const tensor_encoding& encoding_of(dtype type);

/// Of a type number of GGUF (ggml_type); null where we do not read it: then ggml_type_name says what it is.
/// F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K.
const tensor_encoding* ggml_encoding(std::uint32_t type);
/// "Q2_K", or "type 77" for an unknown number.
std::string ggml_type_name(std::uint32_t type);
/// "F32, F16, ...": all that ggml_encoding knows.
std::string ggml_encodings_known();

/// The decoders by themselves. All are exact: every half and bf16 is a float, and a block's numbers are those that the formulas
/// give in fp32 without contraction, as the Python package `gguf` computes them. NaNs keep sign and payload.
void decode_f32(const std::byte* in, std::int64_t count, float* out);
void decode_f16(const std::byte* in, std::int64_t count, float* out);
void decode_bf16(const std::byte* in, std::int64_t count, float* out);
void decode_q4_0(const std::byte* in, std::int64_t blocks, float* out);  // d * (q - 8)
void decode_q4_1(const std::byte* in, std::int64_t blocks, float* out);  // d * q + m
void decode_q8_0(const std::byte* in, std::int64_t blocks, float* out);  // d * q
void decode_q4_k(const std::byte* in, std::int64_t blocks, float* out);  // (d * scale) * q - (dmin * min)
void decode_q6_k(const std::byte* in, std::int64_t blocks, float* out);  // (d * scale) * (q - 32)

/// To the nearest, ties to even; too large becomes an infinity. out: [in.size()].
void encode_f16(std::span<const float> in, std::uint16_t* out);
void encode_bf16(std::span<const float> in, std::uint16_t* out);

}  // namespace isthmus
