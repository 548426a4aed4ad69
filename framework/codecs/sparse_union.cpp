#include "framework/codecs/frame.hpp"
#include "framework/codecs/make_codec.hpp"
#include "framework/codecs/sparse_parts.hpp"
#include "framework/codecs/vector_ops.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace isthmus {

namespace {

constexpr std::uint16_t bitmap_flag = 0x8000;
constexpr std::size_t bitmap_bytes = chunk_size / 8;
constexpr std::size_t dictionary_max = 4096;

/// The distinct values of a tensor in order of appearance: sums of a few frames have few, as each frame has four a tensor.
class dictionary {
public:
  dictionary() : place_(table_size, empty) {}
  void clear() {
    std::fill(place_.begin(), place_.end(), empty);
    values_.clear();
    full_ = false;
  }
  /// The value's number; once there are too many, nothing more is added.
  std::uint16_t add(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (std::size_t at = (bits * 0x9e3779b1U) >> 18; !full_; at = (at + 1) % table_size) {
      if (place_[at] == empty) {
        full_ = values_.size() == dictionary_max;
        if (full_) break;
        place_[at] = static_cast<std::uint16_t>(values_.size());
        values_.push_back(value);
      }
      if (std::bit_cast<std::uint32_t>(values_[place_[at]]) == bits) return place_[at];
    }
    return 0;
  }
  bool full() const { return full_; }
  std::span<const float> values() const { return values_; }

private:
  static constexpr std::size_t table_size = 1U << 14;
  static constexpr std::uint16_t empty = 0xffff;
  std::vector<std::uint16_t> place_;
  std::vector<float> values_;
  bool full_ = false;
};

/// Bytes of one code into a dictionary of that many values.
std::size_t code_width(std::size_t entries) { return entries <= 256 ? 1 : 2; }

/// A tensor's part of the frame while it is built.
struct tensor_parts {
  std::vector<std::uint16_t> heads;
  std::vector<std::byte> places;
  std::vector<float> values;
  std::vector<std::uint16_t> codes;
  dictionary distinct;
  void clear() {
    heads.clear();
    places.clear();
    values.clear();
    codes.clear();
    distinct.clear();
  }
};

/// Appends one chunk's head and places: gaps of a byte each (255 goes on), or a bitmap where that is smaller.
void add_places(tensor_parts& parts, std::span<const std::uint16_t> index) {
  const std::size_t start = parts.places.size();
  unsigned next = 0;  // the first place not yet passed
  for (const std::uint16_t i : index) {
    unsigned gap = i - next;
    for (; gap >= 255; gap -= 255) parts.places.push_back(std::byte{255});
    parts.places.push_back(static_cast<std::byte>(gap));
    next = i + 1U;
  }
  auto head = static_cast<std::uint16_t>(index.size());
  if (parts.places.size() - start > bitmap_bytes) {
    head |= bitmap_flag;
    parts.places.resize(start);
    parts.places.resize(start + bitmap_bytes);
    for (const std::uint16_t i : index) parts.places[start + i / 8] |= std::byte{1} << (i % 8);
  }
  parts.heads.push_back(head);
}

void append_tensor(std::vector<std::byte>& frame, const tensor_parts& parts) {
  append(frame, std::span<const std::uint16_t>(parts.heads));
  const auto distinct = parts.distinct.values();
  const std::size_t coded = 4 * distinct.size() + code_width(distinct.size()) * parts.values.size();
  const bool raw = parts.distinct.full() || distinct.empty() || coded >= 4 * parts.values.size();
  append(frame, raw ? std::uint16_t{0} : static_cast<std::uint16_t>(distinct.size()));
  append(frame, std::span<const std::byte>(parts.places));
  if (raw) {
    append(frame, std::span<const float>(parts.values));
    return;
  }
  append(frame, distinct);
  if (code_width(distinct.size()) == 2) {
    append(frame, std::span<const std::uint16_t>(parts.codes));
    return;
  }
  const std::size_t at = frame.size();
  frame.resize(at + parts.codes.size());
  for (std::size_t i = 0; i < parts.codes.size(); ++i) frame[at + i] = static_cast<std::byte>(parts.codes[i]);
}

/// A frame's places, chunk after chunk.
struct places_read {
  std::vector<std::uint16_t> counts, index;
};

/// What a checked frame holds of one tensor.
struct tensor_read {
  sparse_extent extent;
  std::size_t values = 0;               // their number
  std::vector<float> dictionary, tail;  // dictionary: empty where values are raw
  const std::byte* coded = nullptr;     // fp32, or codes of code_width
  /// Copies values [first, first + out.size()).
  void copy_values(std::size_t first, std::span<float> out) const {
    if (dictionary.empty()) {
      if (!out.empty()) std::memcpy(out.data(), coded + 4 * first, out.size_bytes());
      return;
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = dictionary[code(first + i)];
  }
  std::size_t code(std::size_t i) const {
    if (code_width(dictionary.size()) == 1) return std::to_integer<std::size_t>(coded[i]);
    return std::to_integer<std::size_t>(coded[2 * i]) | std::to_integer<std::size_t>(coded[2 * i + 1]) << 8;
  }
};

expected<void> read_bitmap(frame_reader& reader, std::size_t count, places_read& places) {
  const auto bytes = reader.take(bitmap_bytes, "bitmap");
  if (!bytes) return bytes.failure();
  const std::size_t before = places.index.size();
  for (std::size_t word_at = 0; word_at < bitmap_bytes; word_at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes->data() + word_at, 8);
    for (; word != 0; word &= word - 1) {
      places.index.push_back(static_cast<std::uint16_t>(8 * word_at + static_cast<std::size_t>(std::countr_zero(word))));
    }
  }
  const std::size_t found = places.index.size() - before;
  if (found == count) return {};
  return reader.bad(errc::malformed, "bitmap", fmt::format("{} bits are set, the chunk's head says {}", found, count));
}

expected<void> read_gaps(frame_reader& reader, std::size_t count, places_read& places) {
  const auto bytes = reader.rest();
  std::size_t place = 0, used = 0;
  for (std::size_t found = 0; found < count;) {
    if (used == bytes.size()) return reader.take(used + 1, "gaps").failure();
    const auto gap = std::to_integer<std::size_t>(bytes[used++]);
    place += gap;
    if (gap == 255) continue;
    if (place >= chunk_size) return reader.bad(errc::out_of_range, "gaps", fmt::format("they lead to element {} of 4096", place));
    places.index.push_back(static_cast<std::uint16_t>(place++));
    ++found;
  }
  const auto passed = reader.take(used, "gaps");
  return passed ? expected<void>{} : passed.failure();
}

expected<void> check_codes(const frame_reader& reader, const tensor_read& tensor) {
  std::size_t largest = 0;
  for (std::size_t i = 0; i < tensor.values; ++i) largest = std::max(largest, tensor.code(i));
  if (tensor.values == 0 || largest < tensor.dictionary.size()) return {};
  return reader.bad(errc::out_of_range, "codes", fmt::format("code {} into a dictionary of {}", largest, tensor.dictionary.size()));
}

/// The values behind a tensor's places: a dictionary of `entries` and codes, or fp32 where entries is 0.
expected<void> read_values(frame_reader& reader, std::size_t entries, tensor_read& tensor) {
  tensor.dictionary.resize(entries);
  if (auto ok = reader.floats(tensor.dictionary, limit_down, "dictionary"); !ok) return ok;
  const auto coded = reader.take(tensor.values * (entries == 0 ? 4 : code_width(entries)), "values");
  if (!coded) return coded.failure();
  tensor.coded = coded->data();
  if (entries > 0) return check_codes(reader, tensor);
  std::array<float, chunk_size> part;
  for (std::size_t at = 0; at < tensor.values; at += part.size()) {
    const auto out = std::span(part).first(std::min(part.size(), tensor.values - at));
    tensor.copy_values(at, out);
    const std::uint32_t largest = vector_ops::max_magnitude(out.data(), out.size());
    if (largest > magnitude(limit_down)) return reader.bad(judge_magnitude(largest, limit_down), "values", "a magnitude above 2^96");
  }
  return {};
}

expected<void> read_chunks(frame_reader& reader, tensor_read& tensor, places_read& places) {
  const std::size_t chunks = tensor.extent.chunks;
  const auto heads = reader.take(2 * chunks + 2, "heads of chunks");
  if (!heads) return heads.failure();
  const auto word = [&](std::size_t i) {
    return std::to_integer<unsigned>((*heads)[2 * i]) | std::to_integer<unsigned>((*heads)[2 * i + 1]) << 8;
  };
  for (std::size_t c = 0; c < chunks; ++c) {
    const unsigned count = word(c) & 0x7fffU;
    if (count > chunk_size) return reader.bad(errc::out_of_range, "heads of chunks", fmt::format("{} of 4096 elements", count));
    auto ok = (word(c) & bitmap_flag) != 0 ? read_bitmap(reader, count, places) : read_gaps(reader, count, places);
    if (!ok) return ok;
    places.counts.push_back(static_cast<std::uint16_t>(count));
    tensor.values += count;
  }
  const std::size_t entries = word(chunks);
  if (entries > dictionary_max) return reader.bad(errc::out_of_range, "dictionary", fmt::format("{} entries, at most 4096", entries));
  return read_values(reader, entries, tensor);
}

expected<tensor_read> read_tensor(frame_reader& reader, const sparse_extent& extent, places_read& places) {
  tensor_read tensor{extent, 0, {}, {}, nullptr};
  if (extent.chunks > 0) {
    if (auto ok = read_chunks(reader, tensor, places); !ok) return ok.failure();
  }
  tensor.tail.resize(extent.tail);
  if (auto ok = reader.floats(tensor.tail, limit_down, "dense numbers"); !ok) return ok.failure();
  return tensor;
}

void tell_chunks(const tensor_read& tensor, std::span<const std::uint16_t> counts, const std::uint16_t* index, frame_sink& sink) {
  std::array<float, chunk_size> values;
  std::size_t at = 0;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    const auto told = std::span(values).first(counts[c]);
    tensor.copy_values(at, told);
    if (!told.empty()) sink.sparse(static_cast<std::int64_t>(tensor.extent.offset + c * chunk_size), {index + at, told.size()}, told);
    at += told.size();
  }
}

class sparse_union_codec final : public codec {
public:
  std::string_view name() const override { return "sparse_union"; }
  float limit() const override { return limit_down; }

  codec_size size(const group_shape& group) const override {
    codec_size size{frame_header_bytes, 0, 0, 0};
    for (const auto& tensor : group.tensors) size.dense += 4 * sparse_extent(tensor).tail;
    return size;
  }
  std::size_t payload_bytes(const group_shape&) const override { return 0; }

  std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const override {
    ensure(value.size() == static_cast<std::size_t>(group.size), "sparse_union codec: the value has not the size of the group");
    auto frame = begin_frame(codec_id::sparse_union, group, static_cast<std::size_t>(group.size) / 8);
    tensor_parts parts;
    for (const auto& tensor : group.tensors) {
      const sparse_extent extent(tensor);
      if (extent.chunks > 0) {
        parts.clear();
        for (std::size_t c = 0; c < extent.chunks; ++c) add_chunk(parts, value.data() + extent.offset + c * chunk_size);
        append_tensor(frame, parts);
      }
      const auto tail = value.subspan(extent.tail_offset(), extent.tail);
      ensure_magnitude(vector_ops::max_magnitude(tail.data(), tail.size()), limit_down);
      append(frame, std::span<const float>(tail));
      std::fill(tail.begin(), tail.end(), 0.0F);
    }
    return frame;
  }

  expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const override {
    frame_reader reader(frame);
    if (auto ok = reader.header(codec_id::sparse_union, group); !ok) return ok;
    places_read places;
    std::vector<tensor_read> tensors;
    for (const auto& tensor : group.tensors) {
      auto part = read_tensor(reader, sparse_extent(tensor), places);
      if (!part) return part.failure();
      tensors.push_back(std::move(*part));
    }
    if (auto ok = reader.end(); !ok) return ok;
    std::size_t chunk = 0, at = 0;
    for (const auto& tensor : tensors) {
      tell_chunks(tensor, std::span(places.counts).subspan(chunk, tensor.extent.chunks), places.index.data() + at, sink);
      chunk += tensor.extent.chunks;
      at += tensor.values;
      if (!tensor.tail.empty()) sink.dense(static_cast<std::int64_t>(tensor.extent.tail_offset()), tensor.tail);
    }
    return {};
  }

private:
  static void add_chunk(tensor_parts& parts, float* value) {
    std::array<std::uint16_t, chunk_size + 16> index;
    std::array<float, chunk_size + 16> found;
    const std::size_t n = vector_ops::non_zero(value, chunk_size, index.data(), found.data());
    ensure_magnitude(vector_ops::max_magnitude(found.data(), n), limit_down);
    add_places(parts, std::span(index).first(n));
    parts.values.insert(parts.values.end(), found.begin(), found.begin() + static_cast<std::ptrdiff_t>(n));
    for (std::size_t i = 0; i < n; ++i) {
      parts.codes.push_back(parts.distinct.add(found[i]));
      value[index[i]] = 0;
    }
  }
};

}  // namespace

std::shared_ptr<const codec> make_sparse_union_codec() { return std::make_shared<sparse_union_codec>(); }

}  // namespace isthmus
