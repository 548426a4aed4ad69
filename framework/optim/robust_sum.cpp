#include "framework/optim/robust_sum.hpp"

#include "framework/core/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace isthmus {

namespace {

constexpr int centre_steps = 3;
constexpr std::size_t block_size = 4096;

float shrink(double limit, double length) { return length <= limit ? 1.0F : static_cast<float>(limit / length); }

float sum_of_weights(std::span<const weighed> parts) {
  float all = 0;
  for (const weighed& p : parts) all += p.weight;
  return all;
}

void add_clipped(std::span<weighed> parts, std::span<float> sum) {
  std::vector<double> lengths;
  for (const weighed& p : parts) lengths.push_back(std::sqrt(p.size.squares) / static_cast<double>(p.weight));
  auto sorted = lengths;
  const double limit = lower_median(sorted);
  std::ranges::fill(sum, 0.0F);
  for (std::size_t k = 0; k < parts.size(); ++k) {
    const float c = shrink(limit, lengths[k]);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += c * parts[k].value[i];
    parts[k].clipped = (1.0 - static_cast<double>(c)) * parts[k].size.probe;
  }
}

/// |value / weight - v|, in sixteen fp64 lanes.
double distance(const weighed& p, std::span<const float> v) {
  std::array<double, 16> lanes{};
  const float scale = 1.0F / p.weight;
  std::size_t i = 0;
  for (; i + 16 <= v.size(); i += 16)
    for (std::size_t l = 0; l < 16; ++l) {
      const double d = static_cast<double>(p.value[i + l] * scale - v[i + l]);
      lanes[l] += d * d;
    }
  for (std::size_t l = 0; i < v.size(); ++i, ++l) {
    const double d = static_cast<double>(p.value[i] * scale - v[i]);
    lanes[l] += d * d;
  }
  return std::sqrt(add_lanes(lanes));
}

void add_centred(std::span<weighed> parts, std::span<const float> centre, std::span<float> sum, std::uint64_t key) {
  const float all = sum_of_weights(parts);
  std::vector<float> v(sum.size());
  std::ranges::copy(centre, v.begin());
  for (int step = 0; step < centre_steps; ++step) {
    std::vector<double> lengths;
    for (const weighed& p : parts) lengths.push_back(distance(p, v));
    auto sorted = lengths;
    const double limit = lower_median(sorted), before = probe(v, key);
    std::ranges::fill(sum, 0.0F);
    for (std::size_t k = 0; k < parts.size(); ++k) {
      weighed& p = parts[k];
      const float c = shrink(limit, lengths[k]);
      for (std::size_t i = 0; i < sum.size(); ++i) {
        const float from = p.weight * v[i];
        sum[i] += from + c * (p.value[i] - from);
      }
      p.clipped = (1.0 - static_cast<double>(c)) * (p.size.probe - static_cast<double>(p.weight) * before);
    }
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = sum[i] / all;
  }
}

/// What is left of each part, block after block.
void add_trimmed(std::size_t trimmed, std::span<weighed> parts, std::span<float> sum, std::uint64_t key) {
  const std::size_t n = parts.size(), left = n - 2 * trimmed;
  const float all = sum_of_weights(parts), share = all / static_cast<float>(left);
  std::vector<running_probe> used(n, running_probe(key));
  std::vector<std::vector<float>> block(n, std::vector<float>(block_size));
  std::vector<std::size_t> order(n);
  for (std::size_t begin = 0; begin < sum.size(); begin += block_size) {
    const std::size_t size = std::min(block_size, sum.size() - begin);
    for (std::size_t k = 0; k < n; ++k)
      for (std::size_t i = 0; i < size; ++i) block[k][i] = share * (parts[k].value[begin + i] / parts[k].weight);
    for (std::size_t i = 0; i < size; ++i) {
      for (std::size_t k = 0; k < n; ++k) {  // insertion: n is small
        std::size_t at = k;
        for (; at > 0 && block[order[at - 1]][i] > block[k][i]; --at) order[at] = order[at - 1];
        order[at] = k;
      }
      for (std::size_t k = 0; k < trimmed; ++k) block[order[k]][i] = block[order[n - 1 - k]][i] = 0;
      float total = 0;
      for (std::size_t k = 0; k < n; ++k) total += block[k][i];
      sum[begin + i] = total;
    }
    for (std::size_t k = 0; k < n; ++k) used[k].add(std::span(block[k]).first(size), begin);
  }
  for (std::size_t k = 0; k < n; ++k) parts[k].clipped = parts[k].size.probe - used[k].total();
}

}  // namespace

double lower_median(std::span<double> values) {
  ensure(!values.empty(), "lower_median: of nothing");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double dot(std::span<const float> a, std::span<const float> b) {
  ensure(a.size() == b.size(), "dot: sizes differ");
  std::array<double, 16> lanes{};
  std::size_t i = 0;
  for (; i + 16 <= a.size(); i += 16)
    for (std::size_t l = 0; l < 16; ++l) lanes[l] += static_cast<double>(a[i + l]) * static_cast<double>(b[i + l]);
  for (std::size_t l = 0; i < a.size(); ++i, ++l) lanes[l] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return add_lanes(lanes);
}

void robust_sum(aggregate_kind kind, std::size_t trimmed, std::span<weighed> parts, std::span<const float> centre, std::span<float> sum,
                std::uint64_t key) {
  ensure(!parts.empty() && (centre.empty() || centre.size() == sum.size()), "robust_sum: nothing to add, or a centre of another size");
  for (const weighed& p : parts)
    ensure(p.value.size() == sum.size() && p.weight > 0, "robust_sum: a part has not the sum's size, or no weight");
  switch (kind) {
    case aggregate_kind::clip_to_median: return add_clipped(parts, sum);
    case aggregate_kind::centred_clipping: return add_centred(parts, centre, sum, key);
    case aggregate_kind::trimmed_mean: return add_trimmed(std::min(trimmed, (parts.size() - 1) / 2), parts, sum, key);
    case aggregate_kind::mean: break;
  }
  std::ranges::fill(sum, 0.0F);
  for (weighed& p : parts) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += p.value[i];
    p.clipped = 0;
  }
}

}  // namespace isthmus
