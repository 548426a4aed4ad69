// A codec of your own: numbers cross a link as bf16, 16 bits each, and a recipe names it "own.bf16". Then its tests: what it drops stays in
// the residual, strangers' bytes are refused, and sites that use it train to the same weights, even when one is killed.
// docs/custom_codec.md explains it from the beginning.
#define BOOST_TEST_MODULE custom_codec
#include "actors/testing/boost_test.hpp"
#include "framework/codecs/codec.hpp"
#include "framework/codecs/frame.hpp"
#include "framework/codecs/sparse_parts.hpp"

#include <cmath>
#include <cstring>
#include <limits>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

constexpr auto bf16_id = codec_id::first_own;

/// A header, then the numbers of each tensor as bf16, little endian, round to nearest even.
class bf16_codec final : public codec {
public:
  explicit bf16_codec(float limit) : limit_(limit) {}
  std::string_view name() const override { return "own.bf16"; }
  float limit() const override { return limit_; }

  codec_size size(const group_shape& group) const override {
    codec_size size{.header = frame_header_bytes};
    for (const auto& tensor : group.tensors) size.dense += 2 * static_cast<std::size_t>(tensor.count);
    return size;
  }

  std::vector<std::byte> encode(const group_shape& group, std::span<float> value) const override {
    ensure(value.size() == static_cast<std::size_t>(group.size), "bf16 codec: the value has not the size of the group");
    auto frame = begin_frame(bf16_id, group, size(group).payload());
    for (const auto& tensor : group.tensors)
      for (float& x : value.subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.count))) {
        ensure_magnitude(magnitude(x), limit_);
        const std::uint16_t sent = to_bf16(x);
        append(frame, sent);
        x -= from_bf16(sent);  // what the frame does not say is the next residual
      }
    return frame;
  }

  expected<void> decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const override {
    frame_reader reader(frame);
    if (auto ok = reader.header(bf16_id, group); !ok) return ok;
    const auto bytes = reader.take(size(group).dense, "numbers");
    if (!bytes) return bytes.failure();
    if (auto ok = reader.end(); !ok) return ok;
    std::vector<float> numbers(bytes->size() / 2);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      std::uint16_t half = 0;
      std::memcpy(&half, bytes->data() + 2 * i, 2);
      numbers[i] = from_bf16(half);
      if (const auto bits = magnitude(numbers[i]); bits > magnitude(limit_))
        return reader.bad(judge_magnitude(bits, limit_), "numbers", "a magnitude above the limit");
    }
    std::span<const float> rest = numbers;  // all of it is good: now the sink may hear it
    for (const auto& tensor : group.tensors) {
      sink.dense(tensor.offset, rest.first(static_cast<std::size_t>(tensor.count)));
      rest = rest.subspan(static_cast<std::size_t>(tensor.count));
    }
    return {};
  }

private:
  float limit_;
};

/// Up for contributions, down for their sum. Down is lossy, too, so the home keeps a residual.
own_codecs mine() { return {{"own.bf16", {std::make_shared<bf16_codec>(limit_up), std::make_shared<bf16_codec>(limit_down), true}}}; }

/// Two tensors, with a gap between them that is never sent.
group_shape small_group() {
  group_shape group;
  group.size = 12;
  group.tensors = {{0, 5}, {8, 4}};
  return group;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_sent_and_what_stays_add_up) {
  const auto group = small_group();
  const bf16_codec codec(limit_up);
  std::vector<float> value(12), before(12), sum(12);
  for (std::size_t i = 0; i < 12; ++i) before[i] = value[i] = std::sin(static_cast<float>(i + 1)) * 100;
  const auto frame = codec.encode(group, value);
  BOOST_TEST(frame.size() == frame_header_bytes + 18);
  BOOST_TEST_REQUIRE(codec.add_to(group, frame, sum).has_value());
  for (std::size_t i = 0; i < 12; ++i) BOOST_TEST(sum[i] + value[i] == before[i]);  // exactly: the difference is a float
  for (const std::size_t gap : {5, 6, 7}) BOOST_TEST(value[gap] == before[gap]);
  for (const std::size_t sent : {0, 1, 2, 3, 4, 8, 9, 10, 11}) BOOST_TEST(std::abs(value[sent]) <= std::abs(before[sent]) / 256);
}

BOOST_AUTO_TEST_CASE(strangers_bytes_are_refused_and_nothing_is_added) {
  const auto group = small_group();
  const bf16_codec codec(limit_up);
  std::vector<float> value(12, 1.0F), sum(12);
  const auto good = codec.encode(group, value);
  const auto refused_with = [&](std::vector<std::byte> frame) {
    const auto added = codec.add_to(group, frame, sum);
    BOOST_TEST(sum == std::vector<float>(12), boost::test_tools::per_element());
    return added ? errc::ok : added.error().code;
  };
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
    BOOST_TEST((refused_with({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(bytes)}) == errc::truncated));
  auto longer = good;
  longer.push_back({});
  BOOST_TEST((refused_with(longer) == errc::malformed));
  auto infinite = good;
  infinite[infinite.size() - 1] = std::byte{0x7f}, infinite[infinite.size() - 2] = std::byte{0x80};
  BOOST_TEST((refused_with(infinite) == errc::not_finite));
  auto large = good;
  large[large.size() - 1] = std::byte{0x7f}, large[large.size() - 2] = std::byte{0};  // 2^127
  BOOST_TEST((refused_with(large) == errc::out_of_range));
  auto other = value;
  BOOST_TEST((refused_with(make_codec_pair("none")->up->encode(group, other)) == errc::unsupported));
  value[3] = std::numeric_limits<float>::quiet_NaN();
  BOOST_CHECK_THROW(static_cast<void>(codec.encode(group, value)), contract_error);
}

BOOST_AUTO_TEST_CASE(sites_train_with_it_whatever_happens) {
  over_seeds({1, 5}, {.sites = 3, .overrides = {"round.codec=own.bf16"}, .codecs = mine()}, [](fault_cluster& cluster) {
    cluster.kill(site{1}, at(1s), back_after(500ms));
    cluster.tear_next_frame(site{0}, at(1500ms));
    expect_good_end(cluster);
    BOOST_TEST(cluster.losses(0).back() < cluster.losses(0).front());
  });
}

BOOST_AUTO_TEST_CASE(a_program_without_it_says_so) {
  fault_cluster cluster({.sites = 1, .overrides = {"round.codec=own.bf16"}});
  cluster.run_for(1s);
  BOOST_TEST(cluster.exit_reason(0).find("codec \"own.bf16\" is unknown") != std::string::npos, cluster.exit_reason(0));
}
