#include "framework/codecs/frame.hpp"
#include "framework/codecs/make_codec.hpp"
#include "framework/codecs/vector_ops.hpp"

#include <algorithm>
#include <array>

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
    if (auto ok = read(group, frame, nullptr); !ok) return ok;
    return read(group, frame, &sink);
  }

private:
  expected<void> read(const group_shape& group, std::span<const std::byte> frame, frame_sink* sink) const {
    frame_reader reader(frame);
    if (auto ok = reader.header(codec_id::none, group); !ok) return ok;
    std::array<float, chunk_size> part;
    for (const auto& tensor : group.tensors) {
      for (std::int64_t done = 0; done < tensor.count;) {
        const auto n = std::min<std::int64_t>(tensor.count - done, chunk_size);
        const auto values = std::span(part).first(static_cast<std::size_t>(n));
        if (auto ok = reader.floats(values, limit_, "value"); !ok) return ok;
        if (sink != nullptr) sink->dense(tensor.offset + done, values);
        done += n;
      }
    }
    return reader.end();
  }

  float limit_;
};

}  // namespace

std::shared_ptr<const codec> make_none_codec(float limit) { return std::make_shared<none_codec>(limit); }

}  // namespace isthmus
