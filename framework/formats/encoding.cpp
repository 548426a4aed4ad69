#include "framework/formats/encoding.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <limits>

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in files");

namespace isthmus {

namespace {

std::uint16_t word_at(const std::byte* in, std::int64_t i) {
  std::uint16_t word = 0;
  std::memcpy(&word, in + 2 * i, 2);
  return word;
}

/// Masks instead of branches, so that compilers make vectors of it.
float float_of_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t rest = half & 0x7fffU;                                           // exponent and fraction
  const float small = static_cast<float>(static_cast<std::int32_t>(rest)) * 0x1p-24F;  // of a subnormal: exact
  const std::uint32_t subnormal = 0U - static_cast<std::uint32_t>(rest < 0x0400U),
                      extreme = 0U - static_cast<std::uint32_t>(rest >= 0x7c00U);
  const std::uint32_t normal = ((rest << 13) + (112U << 23)) | (extreme & 0x7f800000U);  // exponent bias 15 -> 127; infinity, NaN
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(small) & subnormal) | (normal & ~subnormal) | sign);
}

constexpr std::array<tensor_encoding, 15> of_dtypes{{{"BOOL", 1, 1},
                                                     {"U8", 1, 1},
                                                     {"I8", 1, 1},
                                                     {"F8_E5M2", 1, 1},
                                                     {"F8_E4M3", 1, 1},
                                                     {"I16", 1, 2},
                                                     {"U16", 1, 2},
                                                     {"F16", 1, 2, decode_f16},
                                                     {"BF16", 1, 2, decode_bf16},
                                                     {"I32", 1, 4},
                                                     {"U32", 1, 4},
                                                     {"F32", 1, 4, decode_f32},
                                                     {"F64", 1, 8},
                                                     {"I64", 1, 8},
                                                     {"U64", 1, 8}}};

struct ggml_entry {
  std::uint32_t type;
  tensor_encoding encoding;
};
// ggml.h, enum ggml_type: without a decoder those that are refused.
constexpr std::array<ggml_entry, 34> of_ggml{{{0, {"F32", 1, 4, decode_f32}},
                                              {1, {"F16", 1, 2, decode_f16}},
                                              {30, {"BF16", 1, 2, decode_bf16}},
                                              {2, {"Q4_0", 32, 18, decode_q4_0}},
                                              {3, {"Q4_1", 32, 20, decode_q4_1}},
                                              {8, {"Q8_0", 32, 34, decode_q8_0}},
                                              {12, {"Q4_K", 256, 144, decode_q4_k}},
                                              {14, {"Q6_K", 256, 210, decode_q6_k}},
                                              {6, {"Q5_0"}},
                                              {7, {"Q5_1"}},
                                              {9, {"Q8_1"}},
                                              {10, {"Q2_K"}},
                                              {11, {"Q3_K"}},
                                              {13, {"Q5_K"}},
                                              {15, {"Q8_K"}},
                                              {16, {"IQ2_XXS"}},
                                              {17, {"IQ2_XS"}},
                                              {18, {"IQ3_XXS"}},
                                              {19, {"IQ1_S"}},
                                              {20, {"IQ4_NL"}},
                                              {21, {"IQ3_S"}},
                                              {22, {"IQ2_S"}},
                                              {23, {"IQ4_XS"}},
                                              {24, {"I8"}},
                                              {25, {"I16"}},
                                              {26, {"I32"}},
                                              {27, {"I64"}},
                                              {28, {"F64"}},
                                              {29, {"IQ1_M"}},
                                              {34, {"TQ1_0"}},
                                              {35, {"TQ2_0"}},
                                              {39, {"MXFP4"}},
                                              {4, {"Q4_2"}},
                                              {5, {"Q4_3"}}}};

}  // namespace

const tensor_encoding& encoding_of(dtype type) { return of_dtypes.at(static_cast<std::size_t>(type)); }

const tensor_encoding* ggml_encoding(std::uint32_t type) {
  for (const auto& entry : of_ggml)
    if (entry.type == type) return entry.encoding.decode == nullptr ? nullptr : &entry.encoding;
  return nullptr;
}

std::string ggml_type_name(std::uint32_t type) {
  for (const auto& entry : of_ggml)
    if (entry.type == type) return std::string(entry.encoding.name);
  return "type " + std::to_string(type);
}

std::string ggml_encodings_known() {
  std::string names;
  for (const auto& entry : of_ggml)
    if (entry.encoding.decode != nullptr) names += (names.empty() ? "" : ", ") + std::string(entry.encoding.name);
  return names;
}

void decode_f32(const std::byte* in, std::int64_t count, float* out) {
  if (count > 0) std::memcpy(out, in, static_cast<std::size_t>(count) * sizeof(float));
}

void decode_f16(const std::byte* in, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = float_of_half(word_at(in, i));
}

void decode_bf16(const std::byte* in, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(word_at(in, i)) << 16);
}

void decode_q4_0(const std::byte* in, std::int64_t blocks, float* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 18, out += 32) {
    const float d = float_of_half(word_at(in, 0));
    for (int i = 0; i < 16; ++i) {
      const int pair = std::to_integer<int>(in[2 + i]);
      out[i] = d * static_cast<float>((pair & 15) - 8);
      out[16 + i] = d * static_cast<float>((pair >> 4) - 8);
    }
  }
}

void decode_q4_1(const std::byte* in, std::int64_t blocks, float* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 20, out += 32) {
    const float d = float_of_half(word_at(in, 0)), m = float_of_half(word_at(in, 1));
    for (int i = 0; i < 16; ++i) {
      const int pair = std::to_integer<int>(in[4 + i]);
      out[i] = d * static_cast<float>(pair & 15) + m;
      out[16 + i] = d * static_cast<float>(pair >> 4) + m;
    }
  }
}

void decode_q8_0(const std::byte* in, std::int64_t blocks, float* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 34, out += 32) {
    const float d = float_of_half(word_at(in, 0));
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<std::int8_t>(in[2 + i]));
  }
}

/// 256 numbers: d, dmin as halves; eight 6-bit scales and mins in 12 bytes; 128 bytes of nibbles, 32 low ones, then their 32 high.
void decode_q4_k(const std::byte* in, std::int64_t blocks, float* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 144, out += 256) {
    const float d = float_of_half(word_at(in, 0)), dmin = float_of_half(word_at(in, 1));
    const auto at = [&](int i) { return std::to_integer<int>(in[4 + i]); };
    for (int j = 0; j < 8; ++j) {
      const int scale = j < 4 ? at(j) & 63 : (at(j + 4) & 15) | ((at(j - 4) >> 6) << 4);
      const int low = j < 4 ? at(j + 4) & 63 : (at(j + 4) >> 4) | ((at(j) >> 6) << 4);
      const float step = d * static_cast<float>(scale), offset = dmin * static_cast<float>(low);
      const std::byte* nibbles = in + 16 + 32 * (j / 2);
      for (int i = 0; i < 32; ++i) {
        const int pair = std::to_integer<int>(nibbles[i]);
        out[32 * j + i] = step * static_cast<float>(j % 2 == 0 ? pair & 15 : pair >> 4) - offset;
      }
    }
  }
}

/// 256 numbers: 128 bytes of low nibbles, 64 of upper two bits, sixteen i8 scales, d as a half.
void decode_q6_k(const std::byte* in, std::int64_t blocks, float* out) {
  for (std::int64_t b = 0; b < blocks; ++b, in += 210, out += 256) {
    const float d = float_of_half(word_at(in + 208, 0));
    for (int part = 0; part < 16; ++part) {  // sixteen numbers of one scale
      const int half = part / 8, quarter = part % 8 / 2, lane = part % 2 * 16;
      const std::byte* low = in + 64 * half + 32 * (quarter % 2) + lane;
      const std::byte* high = in + 128 + 32 * half + lane;
      const float step = d * static_cast<float>(static_cast<std::int8_t>(in[192 + part]));
      for (int i = 0; i < 16; ++i) {
        const int nibble = std::to_integer<int>(low[i]) >> (4 * (quarter / 2)) & 15;
        const int upper = std::to_integer<int>(high[i]) >> (2 * quarter) & 3;
        out[16 * part + i] = step * static_cast<float>((nibble | upper << 4) - 32);
      }
    }
  }
}

void encode_bf16(std::span<const float> in, std::uint16_t* out) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(in[i]);
    const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
    const std::uint32_t rounded = bits + 0x7fffU + (bits >> 16 & 1U);
    out[i] = static_cast<std::uint16_t>((nan ? bits | 0x400000U : rounded) >> 16);
  }
}

void encode_f16(std::span<const float> in, std::uint16_t* out) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(in[i]);
    const std::uint32_t rest = bits & 0x7fffffffU;
    std::uint32_t half = 0;
    if (rest > 0x7f800000U)
      half = 0x7e00U | (rest >> 13 & 0x3ffU);
    else if (rest >= 0x477ff000U)  // 65520 and more round to infinity
      half = 0x7c00U;
    else if (rest >= 0x38800000U)  // 2^-14: normal halves
      half = (rest - (112U << 23) + 0xfffU + (rest >> 13 & 1U)) >> 13;
    else  // subnormal: 0.5 has an ulp of 2^-24, so the sum is rounded where a half would be
      half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) + 0.5F) - std::bit_cast<std::uint32_t>(0.5F);
    out[i] = static_cast<std::uint16_t>(half | (bits >> 16 & 0x8000U));
  }
}

}  // namespace isthmus
