#include "framework/codecs/codec.hpp"

#include "framework/codecs/frame.hpp"
#include "framework/codecs/make_codec.hpp"
#include "framework/core/probe.hpp"

#include <algorithm>

namespace isthmus {

namespace {

class add_sink final : public frame_sink {
public:
  explicit add_sink(std::span<float> sum) : sum_(sum) {}
  void dense(std::int64_t offset, std::span<const float> values) override {
    float* __restrict to = sum_.data() + offset;
    const float* __restrict from = values.data();
    for (std::size_t i = 0; i < values.size(); ++i) to[i] += from[i];
  }
  void sparse(std::int64_t base, std::span<const std::uint16_t> index, std::span<const float> values) override {
    float* to = sum_.data() + base;
    for (std::size_t i = 0; i < index.size(); ++i) to[index[i]] += values[i];
  }

private:
  std::span<float> sum_;
};

class mass_sink final : public frame_sink {
public:
  explicit mass_sink(std::uint64_t key) : key_(key) {}
  void dense(std::int64_t offset, std::span<const float> values) override {
    const auto first = static_cast<std::uint64_t>(offset);
    const std::size_t head = std::min<std::size_t>((64 - first % 64) % 64, values.size());
    for (std::size_t i = 0; i < head; ++i) add(first + i, values[i]);
    if (head < values.size()) total_ += probe(values.subspan(head), key_, first + head);
  }
  void sparse(std::int64_t base, std::span<const std::uint16_t> index, std::span<const float> values) override {
    for (std::size_t i = 0; i < index.size(); ++i) add(static_cast<std::uint64_t>(base) + index[i], values[i]);
  }
  double total() const { return total_; }

private:
  void add(std::uint64_t i, float value) {
    if (i / 64 != block_) {
      block_ = i / 64;
      signs_ = probe_signs(key_, block_);
    }
    const double sign = 1.0 - 2.0 * static_cast<double>(signs_ >> (i % 64) & 1);
    total_ += sign * static_cast<double>(value);
  }
  std::uint64_t key_, block_ = ~std::uint64_t{0}, signs_ = 0;
  double total_ = 0;
};

}  // namespace

expected<void> codec::add_to(const group_shape& group, std::span<const std::byte> frame, std::span<float> sum) const {
  ensure(sum.size() == static_cast<std::size_t>(group.size), "codec::add_to: the sum has not the size of the group");
  add_sink sink(sum);
  return decode(group, frame, sink);
}

expected<double> codec::mass(const group_shape& group, std::span<const std::byte> frame, std::uint64_t key) const {
  mass_sink sink(key);
  if (auto ok = decode(group, frame, sink); !ok) return ok.failure();
  return sink.total();
}

expected<codec_pair> make_codec_pair(const std::string& name, const own_codecs& own) {
  std::string known = "none, int8, sparse_loco";
  for (const auto& [other, pair] : own) {
    ensure(other.starts_with("own."), "make_codec_pair: the name of an own codec begins with \"own.\"");
    ensure(pair.up && pair.down, "make_codec_pair: an own codec needs a way up and a way down");
    known += ", " + other;
  }
  if (name == "none") return codec_pair{make_none_codec(limit_up), make_none_codec(limit_down), false};
  if (name == "int8") return codec_pair{make_int8_codec(limit_up), make_int8_codec(limit_down), true};
  if (name == "sparse_loco") return codec_pair{make_sparse_loco_codec(), make_sparse_union_codec(), false};
  if (const auto found = own.find(name); found != own.end()) return found->second;
  return fail(errc::unsupported, "codec \"" + name + "\" is unknown; the codecs are " + known);
}

}  // namespace isthmus
