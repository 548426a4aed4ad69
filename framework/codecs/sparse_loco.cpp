#include "framework/codecs/frame.hpp"
#include "framework/codecs/make_codec.hpp"
#include "framework/codecs/sparse_parts.hpp"
#include "framework/codecs/vector_ops.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace isthmus {

namespace {

constexpr std::size_t index_bytes = chunk_kept * 12 / 8, code_bytes = chunk_kept * 2 / 8;
constexpr std::size_t chunk_bytes = index_bytes + code_bytes;  // 112: 0.21875 bit per parameter
constexpr std::size_t table_size = 4;

/// What is kept of one tensor, chunk after chunk.
struct kept_values {
  std::vector<std::uint16_t> index;
  std::vector<float> value;
  std::vector<std::uint8_t> code;
};

/// Four bins over mean +- 3 sigma, so of 1.5 sigma each; the outer two take what lies beyond. All sums in fp64, in order.
struct binning {
  float low = 0, middle = 0, high = 0;
  explicit binning(const std::vector<float>& values) {
    const auto n = static_cast<double>(values.size());
    double sum = 0, squares = 0;
    for (const float v : values) sum += static_cast<double>(v);
    const double mean = sum / n;
    for (const float v : values) squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
    const auto width = static_cast<float>(1.5 * std::sqrt(squares / n));
    middle = static_cast<float>(mean);
    low = middle - width;
    high = middle + width;
  }
  std::uint8_t code(float v) const { return static_cast<std::uint8_t>((v >= low) + (v >= middle) + (v >= high)); }
};

/// Codes the values and returns each bin's mean (0 for an empty one).
std::array<float, table_size> quantise(kept_values& kept) {
  const binning bins(kept.value);
  std::array<double, table_size> sum{};
  std::array<std::size_t, table_size> count{};
  kept.code.resize(kept.value.size());
  for (std::size_t i = 0; i < kept.value.size(); ++i) {
    const std::uint8_t code = bins.code(kept.value[i]);
    kept.code[i] = code;
    sum[code] += static_cast<double>(kept.value[i]);
    ++count[code];
  }
  std::array<float, table_size> table{};
  for (std::size_t b = 0; b < table_size; ++b) {
    if (count[b] > 0) table[b] = static_cast<float>(sum[b] / static_cast<double>(count[b]));
  }
  return table;
}

void pack_chunk(const std::uint16_t* index, const std::uint8_t* code, std::byte* to) {
  for (std::size_t i = 0; i < chunk_kept; i += 2, to += 3) {
    const unsigned pair = index[i] | static_cast<unsigned>(index[i + 1]) << 12;
    to[0] = static_cast<std::byte>(pair);
    to[1] = static_cast<std::byte>(pair >> 8);
    to[2] = static_cast<std::byte>(pair >> 16);
  }
  for (std::size_t i = 0; i < chunk_kept; i += 4, ++to) {
    *to = static_cast<std::byte>(code[i] | code[i + 1] << 2 | code[i + 2] << 4 | code[i + 3] << 6);
  }
}

void unpack_index(const std::byte* from, std::uint16_t* index) {
  for (std::size_t i = 0; i < chunk_kept; i += 2, from += 3) {
    const unsigned pair =
        std::to_integer<unsigned>(from[0]) | std::to_integer<unsigned>(from[1]) << 8 | std::to_integer<unsigned>(from[2]) << 16;
    index[i] = static_cast<std::uint16_t>(pair & 0xfffU);
    index[i + 1] = static_cast<std::uint16_t>(pair >> 12);
  }
}

class sparse_loco_codec final : public codec {
public:
  std::string_view name() const override { return "sparse_loco"; }
  float limit() const override { return limit_up; }

  codec_size size(const group_shape& group) const override {
    codec_size size{frame_header_bytes, 0, 0, 0};
    for (const auto& tensor : group.tensors) {
      const sparse_extent parts(tensor);
      size.sparse += parts.chunks * chunk_bytes;
      size.tables += parts.chunks > 0 ? table_size * sizeof(float) : 0;
      size.dense += 2 * parts.tail;
    }
    return size;
  }

  std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const override {
    ensure(value.size() == static_cast<std::size_t>(group.size), "sparse_loco codec: the value has not the size of the group");
    auto frame = begin_frame(codec_id::sparse_loco, group, size(group).payload());
    kept_values kept;
    for (const auto& tensor : group.tensors) {
      const sparse_extent parts(tensor);
      if (parts.chunks > 0) encode_chunks(value.data() + parts.offset, parts.chunks, kept, frame);
      encode_tail(value.subspan(parts.tail_offset(), parts.tail), frame);
    }
    return frame;
  }

  expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const override {
    if (auto ok = read(group, frame, nullptr); !ok) return ok;
    return read(group, frame, &sink);
  }

private:
  void encode_chunks(float* value, std::size_t chunks, kept_values& kept, std::vector<std::byte>& frame) const {
    kept.index.resize(chunks * chunk_kept);
    kept.value.resize(chunks * chunk_kept);
    for (std::size_t c = 0; c < chunks; ++c) {
      std::uint16_t* index = kept.index.data() + c * chunk_kept;
      ensure_magnitude(vector_ops::top_of_chunk(value + c * chunk_size, index), limit_up);
      for (std::size_t i = 0; i < chunk_kept; ++i) kept.value[c * chunk_kept + i] = value[c * chunk_size + index[i]];
    }
    const auto table = quantise(kept);
    append(frame, std::span<const float>(table));
    const std::size_t at = frame.size();
    frame.resize(at + chunks * chunk_bytes);
    for (std::size_t c = 0; c < chunks; ++c) {
      const std::size_t first = c * chunk_kept;
      pack_chunk(kept.index.data() + first, kept.code.data() + first, frame.data() + at + c * chunk_bytes);
      for (std::size_t i = first; i < first + chunk_kept; ++i) value[c * chunk_size + kept.index[i]] -= table[kept.code[i]];
    }
  }

  void encode_tail(std::span<float> value, std::vector<std::byte>& frame) const {
    ensure_magnitude(vector_ops::max_magnitude(value.data(), value.size()), limit_up);
    for (float& v : value) {
      const std::uint16_t half = to_bf16(v);
      append(frame, half);
      v -= from_bf16(half);
    }
  }

  expected<void> read(const group_shape& group, std::span<const std::byte> frame, frame_sink* sink) const {
    frame_reader reader(frame);
    if (auto ok = reader.header(codec_id::sparse_loco, group); !ok) return ok;
    for (const auto& tensor : group.tensors) {
      const sparse_extent parts(tensor);
      if (parts.chunks > 0) {
        if (auto ok = read_chunks(reader, parts, sink); !ok) return ok;
      }
      if (auto ok = read_tail(reader, parts, sink); !ok) return ok;
    }
    return reader.end();
  }

  expected<void> read_chunks(frame_reader& reader, const sparse_extent& parts, frame_sink* sink) const {
    std::array<float, table_size> table{};
    if (auto ok = reader.floats(table, limit_up, "table of means"); !ok) return ok;
    std::array<std::uint16_t, chunk_kept> index{};
    std::array<float, chunk_kept> values{};
    for (std::size_t c = 0; c < parts.chunks; ++c) {
      const auto bytes = reader.take(chunk_bytes, "chunk");
      if (!bytes) return bytes.failure();
      unpack_index(bytes->data(), index.data());
      if (sink == nullptr) {
        bool ascends = true;
        for (std::size_t i = 1; i < chunk_kept; ++i) ascends &= index[i - 1] < index[i];
        if (!ascends) return reader.bad(errc::malformed, "indices of a chunk", "they do not ascend");
        continue;
      }
      const std::byte* codes = bytes->data() + index_bytes;
      for (std::size_t i = 0; i < chunk_kept; ++i) { values[i] = table[std::to_integer<unsigned>(codes[i / 4]) >> (2 * (i % 4)) & 3U]; }
      sink->sparse(static_cast<std::int64_t>(parts.offset + c * chunk_size), index, values);
    }
    return {};
  }

  expected<void> read_tail(frame_reader& reader, const sparse_extent& parts, frame_sink* sink) const {
    const auto bytes = reader.take(2 * parts.tail, "dense numbers");
    if (!bytes) return bytes.failure();
    if (parts.tail == 0) return {};
    std::array<float, chunk_size> values;
    for (std::size_t i = 0; i < parts.tail; ++i) {
      std::uint16_t half = 0;
      std::memcpy(&half, bytes->data() + 2 * i, 2);
      values[i] = from_bf16(half);
    }
    const auto told = std::span(values).first(parts.tail);
    const std::uint32_t largest = vector_ops::max_magnitude(told.data(), told.size());
    if (largest > magnitude(limit_up)) return reader.bad(judge_magnitude(largest, limit_up), "dense numbers", "a magnitude above 2^64");
    if (sink != nullptr) sink->dense(static_cast<std::int64_t>(parts.tail_offset()), told);
    return {};
  }
};

}  // namespace

std::shared_ptr<const codec> make_sparse_loco_codec() { return std::make_shared<sparse_loco_codec>(); }

}  // namespace isthmus
