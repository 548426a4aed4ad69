#include "framework/formats/stored_tensor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace isthmus {

namespace {

constexpr std::int64_t piece_bytes = 1 << 20;

/// Whether one of them is NaN or infinite, which have all bits of the exponent: without branches, so that compilers make vectors of it.
bool any_not_finite(std::span<const float> numbers) {
  constexpr std::uint32_t exponent = 0x7f800000U;
  std::uint32_t found = 0;
  for (const float number : numbers) found |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(number) & exponent) == exponent);
  return found != 0;
}

/// Where the number of that place in the flat array stands: "[1, 3]".
std::string place_text(std::span<const std::int64_t> shape, std::int64_t flat) {
  std::vector<std::int64_t> place(shape.begin(), shape.end());
  for (std::size_t i = shape.size(); i-- > 0; flat /= shape[i]) place[i] = flat % shape[i];
  return shape_text(place);
}

bool by_name(const stored_tensor& a, const stored_tensor& b) { return a.name < b.name; }

}  // namespace

std::int64_t stored_tensor::count() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

expected<std::vector<std::byte>> stored_tensor::read() const { return source->read_bytes(offset, bytes); }

expected<void> stored_tensor::read_floats(std::int64_t begin, std::span<float> out) const { return read_pieces(begin, out, false); }

expected<void> stored_tensor::read_finite(std::int64_t begin, std::span<float> out) const { return read_pieces(begin, out, true); }

expected<void> stored_tensor::read_pieces(std::int64_t begin, std::span<float> out, bool finite) const {
  const std::int64_t count_wanted = std::ssize(out), block = encoding->block, block_bytes = encoding->block_bytes;
  ensure(begin >= 0 && begin <= count() && count_wanted <= count() - begin, "stored_tensor: a range outside the tensor");
  ensure(begin % block == 0 && count_wanted % block == 0, "stored_tensor: a range that cuts a block");
  if (encoding->decode == nullptr)
    return fail(errc::unsupported,
                fmt::format("{}: tensor \"{}\" is {}, from which there are no fp32 numbers", source->where(), name, encoding->name));
  const std::int64_t piece_blocks = piece_bytes / block_bytes, blocks = count_wanted / block;
  std::vector<std::byte> piece(static_cast<std::size_t>(std::min(piece_blocks, blocks) * block_bytes));
  for (std::int64_t done = 0; done < blocks;) {
    const std::int64_t n = std::min(piece_blocks, blocks - done);
    const std::span<std::byte> part(piece.data(), static_cast<std::size_t>(n * block_bytes));
    if (auto ok = source->read(offset + static_cast<std::uint64_t>((begin / block + done) * block_bytes), part); !ok) return ok;
    const auto numbers = out.subspan(static_cast<std::size_t>(done * block), static_cast<std::size_t>(n * block));
    encoding->decode(part.data(), n, numbers.data());
    if (finite && any_not_finite(numbers)) return not_finite(begin + done * block, numbers);
    done += n;
  }
  return {};
}

unexpected stored_tensor::not_finite(std::int64_t begin, std::span<const float> numbers) const {
  const auto first = std::ranges::find_if_not(numbers, [](float number) { return std::isfinite(number); });
  return fail(errc::not_finite, fmt::format("{}: tensor \"{}\" holds {} at {}, and weights must be finite numbers: the file is damaged, or "
                                            "its training diverged before it was written; get it anew, or take an earlier checkpoint",
                                            source->where(), name, *first, place_text(shape, begin + (first - numbers.begin()))));
}

expected<void> stored_tensor::read_floats(std::span<float> out) const {
  ensure(std::ssize(out) == count(), "stored_tensor: an array of another size");
  return read_floats(0, out);
}

std::string shape_text(std::span<const std::int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

tensor_index::tensor_index(std::vector<stored_tensor> tensors) : tensors_(std::move(tensors)) {
  std::sort(tensors_.begin(), tensors_.end(), by_name);
  for (std::size_t i = 1; i < tensors_.size(); ++i) ensure(tensors_[i - 1].name < tensors_[i].name, "tensor_index: one name twice");
}

const stored_tensor* tensor_index::find(std::string_view name) const {
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                      [](const stored_tensor& t, std::string_view wanted) { return t.name < wanted; });
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

expected<const stored_tensor*> tensor_index::expect(std::string_view name, std::span<const std::int64_t> shape,
                                                    const std::string& where) const {
  const stored_tensor* t = find(name);
  if (t == nullptr) return fail(errc::not_found, fmt::format("{}: no tensor \"{}\", which the configuration asks for", where, name));
  if (!std::ranges::equal(t->shape, shape))
    return fail(errc::unsupported, fmt::format("{}: tensor \"{}\" is {}, the configuration asks for {}", where, name, shape_text(t->shape),
                                               shape_text(shape)));
  if (t->encoding->decode == nullptr)
    return fail(errc::unsupported,
                fmt::format("{}: tensor \"{}\" is {}, from which there are no fp32 numbers", where, name, t->encoding->name));
  return t;
}

}  // namespace isthmus
