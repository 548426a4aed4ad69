#include "framework/codecs/frame.hpp"
#include "framework/codecs/make_codec.hpp"
#include "framework/codecs/vector_ops.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace isthmus {

namespace {

std::size_t blocks_of(std::size_t count) { return (count + int8_block - 1) / int8_block; }

class int8_codec final : public codec {
public:
  explicit int8_codec(float limit) : limit_(limit) {}
  std::string_view name() const override { return "int8"; }
  float limit() const override { return limit_; }

  codec_size size(const group_shape& group) const override {
    codec_size size{frame_header_bytes, 0, 0, 0};
    for (const auto& tensor : group.tensors) {
      size.tables += 4 * blocks_of(static_cast<std::size_t>(tensor.count));
      size.dense += static_cast<std::size_t>(tensor.count);
    }
    return size;
  }

  std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const override {
    ensure(value.size() == static_cast<std::size_t>(group.size), "int8 codec: the value has not the size of the group");
    const std::size_t payload = size(group).payload();
    auto frame = begin_frame(codec_id::int8, group, payload);
    frame.resize(frame_header_bytes + payload);
    std::byte* to = frame.data() + frame_header_bytes;
    for (const auto& tensor : group.tensors) {
      const auto count = static_cast<std::size_t>(tensor.count);
      auto* q = reinterpret_cast<std::int8_t*>(to + 4 * blocks_of(count));
      for (std::size_t at = 0; at < count; at += int8_block) {
        float scale = 0;
        const std::size_t n = std::min(int8_block, count - at);
        ensure_magnitude(vector_ops::int8_encode(value.data() + tensor.offset + at, n, magnitude(limit_), q + at, &scale), limit_);
        std::memcpy(to + 4 * (at / int8_block), &scale, 4);
      }
      to += 4 * blocks_of(count) + count;
    }
    return frame;
  }

  expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const override {
    frame_reader reader(frame);
    if (auto ok = reader.header(codec_id::int8, group); !ok) return ok;
    for (const auto& tensor : group.tensors) {
      if (auto ok = check_tensor(reader, static_cast<std::size_t>(tensor.count)); !ok) return ok;
    }
    if (auto ok = reader.end(); !ok) return ok;
    const std::byte* from = frame.data() + frame_header_bytes;
    for (const auto& tensor : group.tensors) from = tell_tensor(from, tensor, sink);
    return {};
  }

private:
  expected<void> check_tensor(frame_reader& reader, std::size_t count) const {
    std::array<float, chunk_size> scales;
    for (std::size_t left = blocks_of(count); left > 0;) {
      const auto part = std::span(scales).first(std::min(left, scales.size()));
      if (auto ok = reader.floats(part, limit_ / 127.0F, "scale"); !ok) return ok;
      if (std::any_of(part.begin(), part.end(), [](float scale) { return std::signbit(scale); })) {
        return reader.bad(errc::out_of_range, "scale", "negative, allowed are 0 and above");
      }
      left -= part.size();
    }
    const auto q = reader.take(count, "numbers");
    if (!q) return q.failure();
    std::byte found{0};
    for (const std::byte b : *q) found |= static_cast<std::byte>(b == std::byte{0x80});
    if (found != std::byte{0}) return reader.bad(errc::out_of_range, "numbers", "-128, allowed are -127 to 127");
    return {};
  }

  static const std::byte* tell_tensor(const std::byte* from, const group_shape::extent& tensor, frame_sink& sink) {
    std::array<float, chunk_size> values;
    const auto count = static_cast<std::size_t>(tensor.count);
    const auto* q = reinterpret_cast<const std::int8_t*>(from + 4 * blocks_of(count));
    for (std::size_t at = 0; at < count; at += chunk_size) {
      const std::size_t n = std::min(chunk_size, count - at);
      for (std::size_t i = 0; i < n; i += int8_block) {
        float scale = 0;
        std::memcpy(&scale, from + 4 * ((at + i) / int8_block), 4);
        vector_ops::int8_decode(q + at + i, std::min(int8_block, n - i), scale, values.data() + i);
      }
      sink.dense(tensor.offset + static_cast<std::int64_t>(at), std::span(values).first(n));
    }
    return from + 4 * blocks_of(count) + count;
  }

  float limit_;
};

}  // namespace

std::shared_ptr<const codec> make_int8_codec(float limit) { return std::make_shared<int8_codec>(limit); }

}  // namespace isthmus
