#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/byte_source.hpp"
#include "framework/formats/encoding.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// A named array that still lies in its file, whose bytes are read when they are asked for. A value: copies share the source.
struct stored_tensor {
  std::string name;
  const tensor_encoding* encoding = nullptr;  // never null in a list that a reader gives
  std::vector<std::int64_t> shape;            // row-major; empty: a scalar; an extent may be 0
  std::shared_ptr<const byte_source> source;
  std::uint64_t offset = 0;  // in the source
  std::uint64_t bytes = 0;   // of count() numbers in that encoding, inside the source

  /// The product of the shape, below 2^63.
  std::int64_t count() const;
  /// As they lie in the file. Errors: as byte_source::read.
  expected<std::vector<std::byte>> read() const;
  /// The numbers [begin, begin + out.size()) of the flat array as fp32; both ends must be multiples of the encoding's block and lie
  /// inside (contract_error). Reads in pieces of at most 1 MiB. Errors: unsupported (no fp32 from this encoding), and as
  /// byte_source::read; out is then partly written.
  expected<void> read_floats(std::int64_t begin, std::span<float> out) const;
  /// All of them; out: [count()] (contract_error otherwise).
  expected<void> read_floats(std::span<float> out) const;
  /// As read_floats, of weights: a NaN or an infinity is not_finite, told with its place in the tensor.
  expected<void> read_finite(std::int64_t begin, std::span<float> out) const;

private:
  expected<void> read_pieces(std::int64_t begin, std::span<float> out, bool finite) const;
  /// numbers: from place `begin` of the flat array on; one of them is not finite.
  unexpected not_finite(std::int64_t begin, std::span<const float> numbers) const;
};

/// "[2, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

/// The tensors of one checkpoint, by name.
class tensor_index {
public:
  tensor_index() = default;
  /// Names must be unique (contract_error): readers have checked that.
  explicit tensor_index(std::vector<stored_tensor> tensors);

  const std::vector<stored_tensor>& all() const { return tensors_; }  // by name, ascending bytes
  std::size_t size() const { return tensors_.size(); }
  /// Null when there is none of that name.
  const stored_tensor* find(std::string_view name) const;
  /// The tensor, if it has this shape. Errors: not_found, unsupported (another shape, or no fp32 from its encoding).
  expected<const stored_tensor*> expect(std::string_view name, std::span<const std::int64_t> shape, const std::string& where) const;

private:
  std::vector<stored_tensor> tensors_;
};

}  // namespace isthmus
