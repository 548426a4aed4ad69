#include "framework/codecs/frame.hpp"
#include "framework/codecs/make_codec.hpp"
#include "framework/codecs/vector_ops.hpp"

#include <algorithm>

namespace isthmus {

namespace {

class none_codec final : public codec {
public:
  explicit none_codec(float limit) : limit_(limit) {}
  std::string_view name() const override { return "none"; }
  float limit() const override { return limit_; }

  codec_size size(const group_shape& group) const override {
    codec_size size{frame_header_bytes, 0, 0, 0};
    for (const auto& tensor : group.tensors) size.dense += 4 * static_cast<std::size_t>(tensor.count);
    return size;
  }

  std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const override {
    ensure(value.size() == static_cast<std::size_t>(group.size), "none codec: the value has not the size of the group");
    auto frame = begin_frame(codec_id::none, group, size(group).payload());
    for (const auto& tensor : group.tensors) {
      for (std::int64_t done = 0; done < tensor.count; done += chunk_size) {  // in parts that stay in cache
        const auto n = std::min<std::int64_t>(tensor.count - done, chunk_size);
        const auto part = value.subspan(static_cast<std::size_t>(tensor.offset + done), static_cast<std::size_t>(n));
        ensure_magnitude(vector_ops::max_magnitude(part.data(), part.size()), limit_);
        append(frame, std::span<const float>(part));
        std::fill(part.begin(), part.end(), 0.0F);
      }
    }
    return frame;
  }

  expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const override {
    frame_reader reader(frame);
    if (auto ok = reader.header(codec_id::none, group); !ok) return ok;
    const auto bytes = reader.take(size(group).dense, "numbers");
    if (!bytes) return bytes.failure();
    if (auto ok = reader.end(); !ok) return ok;
    std::vector<float> copy;
    auto values = as_floats(*bytes, copy);
    const std::uint32_t largest = vector_ops::max_magnitude(values.data(), values.size());
    if (largest > magnitude(limit_)) return reader.bad(judge_magnitude(largest, limit_), "numbers", "a magnitude above the limit");
    for (const auto& tensor : group.tensors) {
      const auto count = static_cast<std::size_t>(tensor.count);
      sink.dense(tensor.offset, values.first(count));
      values = values.subspan(count);
    }
    return {};
  }

private:
  float limit_;
};

}  // namespace

std::shared_ptr<const codec> make_none_codec(float limit) { return std::make_shared<none_codec>(limit); }

}  // namespace isthmus
