#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <vector>

namespace isthmus {

/// How positions turn the columns of a head: pair i of `width` / 2 turns by position * theta^(-2i / width). Su et al. 2021,
/// arXiv:2104.09864. With factor > 1 as Llama 3 scales it: pairs whose wavelength exceeds original_context / low are slowed by the
/// factor, those below original_context / high are not, those between are blended.
struct rotary_rule {
  double theta = 10000;
  std::int64_t width = 64;  // even
  double factor = 1, low = 1, high = 4;
  std::int64_t original_context = 8192;
  auto operator<=>(const rotary_rule&) const = default;

  /// Angle of pair i at position 1, in radians.
  double turn(std::int64_t pair) const;
};

/// Cosines and sines of the positions seen so far, shared by the layers that follow the same rule.
template <class Real>
class rotary_tables {
public:
  struct angles {
    const Real *cosine, *sine;  // [length, width / 2]
  };
  /// Of positions first ... first + length - 1; valid until the next call.
  angles of(const rotary_rule& rule, std::int64_t first, std::int64_t length);

private:
  struct table {
    std::vector<Real> cosine, sine;
  };
  std::map<rotary_rule, table> tables_;
};

}  // namespace isthmus
