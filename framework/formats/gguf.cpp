#include "framework/formats/gguf.hpp"

#include "framework/core/checked.hpp"
#include "framework/formats/gguf_cursor.hpp"
#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

namespace isthmus {

namespace {

constexpr std::uint64_t front_bytes_max = 256 << 20;  // metadata and tensor infos
constexpr std::uint64_t keys_max = 65'536, tensors_max = 1 << 20;
constexpr std::uint64_t key_bytes_max = 65'535, name_bytes_max = 256, text_bytes_max = 16 << 20;
constexpr std::uint64_t alignment_max = 1 << 20;
constexpr std::uint32_t rank_max = 8;  // the format says 4 today
constexpr int arrays_deep_max = 4;

enum class value_type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

std::string in_quotes(std::string_view name) { return "\"" + std::string(name.substr(0, 120)) + "\""; }

class front_reader {
public:
  explicit front_reader(std::shared_ptr<const byte_source> source) : source_(std::move(source)), cursor_(*source_, front_bytes_max) {}

  expected<gguf_file> read() {
    file_.where = source_->where();
    if (auto ok = read_head(); !ok) return ok.failure();
    for (std::uint64_t i = 0; i < keys_; ++i)
      if (auto ok = read_pair(); !ok) return ok.failure();
    if (auto ok = check_layout(); !ok) return ok.failure();
    for (std::uint64_t i = 0; i < tensors_count_; ++i)
      if (auto ok = read_tensor(); !ok) return ok.failure();
    if (auto ok = place_tensors(); !ok) return ok.failure();
    file_.tensors = tensor_index(std::move(tensors_));
    return std::move(file_);
  }

private:
  expected<void> read_head() {
    const auto magic = cursor_.number<std::uint32_t>("magic");
    if (!magic) return magic.failure();
    if (*magic != 0x46554747U) return fail(errc::malformed, file_.where + ": byte 0: does not begin with \"GGUF\"");
    const auto version = cursor_.number<std::uint32_t>("version");
    if (!version) return version.failure();
    if (*version != 2 && *version != 3) {
      const bool swapped = *version != 0 && (*version & 0xffffU) == 0;
      return fail(errc::unsupported, fmt::format("{}: byte 4: {}, only versions 2 and 3 in little endian are read", file_.where,
                                                 swapped ? "big-endian file" : fmt::format("version {}", *version)));
    }
    file_.version = *version;
    const auto tensors = cursor_.number<std::uint64_t>("tensor count"), keys = cursor_.number<std::uint64_t>("key count");
    if (!tensors) return tensors.failure();
    if (!keys) return keys.failure();
    if (*tensors > tensors_max) return cursor_.bad(errc::too_large, fmt::format("{} tensors, at most {} allowed", *tensors, tensors_max));
    if (*keys > keys_max) return cursor_.bad(errc::too_large, fmt::format("{} keys, at most {} allowed", *keys, keys_max));
    tensors_count_ = *tensors;
    keys_ = *keys;
    return {};
  }

  expected<void> read_pair() {
    auto key = cursor_.text("key", key_bytes_max);
    if (!key) return key.failure();
    if (key->empty() || !is_utf8(*key)) return cursor_.bad(errc::malformed, "a key must be UTF-8 text and not empty");
    if (file_.metadata.contains(*key)) return cursor_.bad(errc::malformed, "key " + in_quotes(*key) + " stands twice");
    const auto type = cursor_.number<std::uint32_t>("value type");
    if (!type) return type.failure();
    auto value = read_value(*type, 0);
    if (!value) return fail(value.error().code, value.error().message + ", in the value of " + in_quotes(*key));
    file_.metadata.emplace(std::move(*key), std::move(*value));
    return {};
  }

  /// Wide is what numbers of type T become.
  template <class T, class Wide>
  expected<gguf_value> scalar() {
    const auto value = cursor_.number<T>("value");
    if (!value) return value.failure();
    return gguf_value{static_cast<Wide>(*value)};
  }
  template <class T, class Wide>
  expected<gguf_value> array(std::uint64_t count) {
    std::vector<Wide> values;
    if (auto ok = cursor_.numbers<T>("array", count, values); !ok) return ok.failure();
    return gguf_value{std::move(values)};
  }

  expected<gguf_value> read_value(std::uint32_t type, int depth) {
    switch (static_cast<value_type>(type)) {
      case value_type::u8: return scalar<std::uint8_t, std::uint64_t>();
      case value_type::u16: return scalar<std::uint16_t, std::uint64_t>();
      case value_type::u32: return scalar<std::uint32_t, std::uint64_t>();
      case value_type::u64: return scalar<std::uint64_t, std::uint64_t>();
      case value_type::i8: return scalar<std::int8_t, std::int64_t>();
      case value_type::i16: return scalar<std::int16_t, std::int64_t>();
      case value_type::i32: return scalar<std::int32_t, std::int64_t>();
      case value_type::i64: return scalar<std::int64_t, std::int64_t>();
      case value_type::f32: return scalar<float, double>();
      case value_type::f64: return scalar<double, double>();
      case value_type::boolean: {
        const auto value = cursor_.number<std::uint8_t>("bool");
        if (!value) return value.failure();
        if (*value > 1) return cursor_.bad(errc::malformed, fmt::format("a bool is {}, only 0 and 1 are allowed", *value));
        return gguf_value{*value == 1};
      }
      case value_type::text: {
        auto value = cursor_.text("string", text_bytes_max);
        if (!value) return value.failure();
        return gguf_value{std::move(*value)};
      }
      case value_type::array: return read_array(depth + 1);
    }
    return cursor_.bad(errc::malformed, fmt::format("value type {}, known are 0 to 12", type));
  }

  expected<gguf_value> read_array(int depth) {
    if (depth > arrays_deep_max) return cursor_.bad(errc::malformed, fmt::format("arrays nested deeper than {} levels", arrays_deep_max));
    const auto type = cursor_.number<std::uint32_t>("array type");
    if (!type) return type.failure();
    const auto count = cursor_.number<std::uint64_t>("array length");
    if (!count) return count.failure();
    switch (static_cast<value_type>(*type)) {
      case value_type::u8: return array<std::uint8_t, std::uint64_t>(*count);
      case value_type::u16: return array<std::uint16_t, std::uint64_t>(*count);
      case value_type::u32: return array<std::uint32_t, std::uint64_t>(*count);
      case value_type::u64: return array<std::uint64_t, std::uint64_t>(*count);
      case value_type::i8: return array<std::int8_t, std::int64_t>(*count);
      case value_type::i16: return array<std::int16_t, std::int64_t>(*count);
      case value_type::i32: return array<std::int32_t, std::int64_t>(*count);
      case value_type::i64: return array<std::int64_t, std::int64_t>(*count);
      case value_type::f32: return array<float, double>(*count);
      case value_type::f64: return array<double, double>(*count);
      case value_type::boolean: {
        auto values = array<std::uint8_t, std::uint64_t>(*count);
        if (values)
          for (const std::uint64_t v : std::get<std::vector<std::uint64_t>>(values->data))
            if (v > 1) return cursor_.bad(errc::malformed, fmt::format("a bool is {}, only 0 and 1 are allowed", v));
        return values;
      }
      case value_type::text: return read_texts(*count);
      case value_type::array: return read_arrays(*count, depth);
    }
    return cursor_.bad(errc::malformed, fmt::format("array of type {}, known are 0 to 12", *type));
  }

  // These grow with what is really there: a count alone reserves nothing.
  expected<gguf_value> read_texts(std::uint64_t count) {
    if (count > cursor_.left() / 8) return cursor_.past_the_end("array of strings", count, 8);
    std::vector<std::string> values;
    for (std::uint64_t i = 0; i < count; ++i) {
      auto value = cursor_.text("string", text_bytes_max);
      if (!value) return value.failure();
      values.push_back(std::move(*value));
    }
    return gguf_value{std::move(values)};
  }
  expected<gguf_value> read_arrays(std::uint64_t count, int depth) {
    if (count > cursor_.left() / 12) return cursor_.past_the_end("array of arrays", count, 12);
    gguf_value::list values;
    for (std::uint64_t i = 0; i < count; ++i) {
      auto value = read_array(depth + 1);
      if (!value) return value.failure();
      values.push_back(std::move(*value));
    }
    return gguf_value{std::move(values)};
  }

  expected<void> check_layout() {
    if (file_.find("general.alignment") != nullptr) {
      const auto alignment = file_.whole("general.alignment");
      if (!alignment) return alignment.failure();
      const auto value = static_cast<std::uint64_t>(*alignment);
      if (value < 8 || value > alignment_max || !std::has_single_bit(value))
        return fail(errc::out_of_range,
                    fmt::format("{}: general.alignment is {}, a power of two from 8 to {} is allowed", file_.where, value, alignment_max));
      file_.alignment = value;
    }
    if (file_.find("split.count") != nullptr) {
      const auto parts = file_.whole("split.count");
      if (!parts) return parts.failure();
      if (*parts > 1)
        return fail(errc::unsupported,
                    fmt::format("{}: is one of {} parts (split.count): join them into one file first (llama-gguf-split --merge)",
                                file_.where, *parts));
    }
    return {};
  }

  expected<void> read_tensor() {
    auto name = cursor_.text("tensor name", name_bytes_max);
    if (!name) return name.failure();
    if (name->empty() || !is_utf8(*name)) return cursor_.bad(errc::malformed, "a tensor's name must be UTF-8 text and not empty");
    const auto bad = [&](errc code, const std::string& what) { return cursor_.bad(code, "tensor " + in_quotes(*name) + ": " + what); };
    const auto rank = cursor_.number<std::uint32_t>("number of dimensions");
    if (!rank) return rank.failure();
    if (*rank > rank_max) return bad(errc::malformed, fmt::format("{} dimensions, at most {} allowed", *rank, rank_max));
    std::vector<std::uint64_t> extents;
    if (auto ok = cursor_.numbers<std::uint64_t>("dimensions", *rank, extents); !ok) return ok;
    const auto type = cursor_.number<std::uint32_t>("tensor type");
    if (!type) return type.failure();
    const auto offset = cursor_.number<std::uint64_t>("tensor offset");
    if (!offset) return offset.failure();

    const tensor_encoding* encoding = ggml_encoding(*type);
    if (encoding == nullptr)
      return bad(errc::unsupported, fmt::format("is {}, only {} are read", ggml_type_name(*type), ggml_encodings_known()));
    std::uint64_t count = 1;
    for (const std::uint64_t extent : extents) {
      if (extent == 0) return bad(errc::malformed, "a dimension is 0");
      const auto product = checked_product(count, extent);
      if (!product || *product > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / 8)
        return bad(errc::out_of_range, "the product of its dimensions overflows 60 bits");
      count = *product;
    }
    const auto block = static_cast<std::uint64_t>(encoding->block);
    if ((extents.empty() ? 1 : extents[0]) % block != 0)
      return bad(errc::malformed, fmt::format("its rows of {} numbers are no multiple of the {} of a block of {}",
                                              extents.empty() ? 1 : extents[0], block, encoding->name));
    if (*offset % file_.alignment != 0)
      return bad(errc::malformed, fmt::format("its offset {} is no multiple of the alignment {}", *offset, file_.alignment));
    const std::vector<std::int64_t> shape(extents.rbegin(), extents.rend());
    tensors_.push_back(
        {std::move(*name), encoding, shape, source_, *offset, count / block * static_cast<std::uint64_t>(encoding->block_bytes)});
    return {};
  }

  /// Offsets count from the first multiple of the alignment behind the infos. Between tensors lies padding and nothing else.
  expected<void> place_tensors() {
    const auto aligned = [&](std::uint64_t at) { return (at + file_.alignment - 1) / file_.alignment * file_.alignment; };
    const std::uint64_t begin = aligned(cursor_.at()), size = source_->size();
    std::sort(tensors_.begin(), tensors_.end(),
              [](const stored_tensor& a, const stored_tensor& b) { return std::tie(a.offset, a.name) < std::tie(b.offset, b.name); });
    std::uint64_t at = 0;  // of the data
    for (stored_tensor& t : tensors_) {
      const auto bad = [&](errc code, const std::string& what) {
        return fail(code, fmt::format("{}: tensor {}: {}", file_.where, in_quotes(t.name), what));
      };
      if (t.offset != aligned(at))
        return bad(errc::malformed, fmt::format("begins at byte {} of the data, expected {}: {}", t.offset, aligned(at),
                                                t.offset < at ? "it overlaps another tensor" : "there is a hole before it"));
      if (begin > size || t.offset > size - begin || t.bytes > size - begin - t.offset)
        return bad(errc::truncated, fmt::format("its {} bytes at {} go past the end, the file has {} bytes of data", t.bytes, t.offset,
                                                size - std::min(begin, size)));
      at = t.offset + t.bytes;
      t.offset += begin;
    }
    if (size > aligned(begin + at))
      return fail(errc::malformed, fmt::format("{}: byte {}: {} bytes behind the last tensor", file_.where, begin + at, size - begin - at));
    std::sort(tensors_.begin(), tensors_.end(), [](const stored_tensor& a, const stored_tensor& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < tensors_.size(); ++i)
      if (tensors_[i - 1].name == tensors_[i].name)
        return fail(errc::malformed, fmt::format("{}: tensor {} stands twice", file_.where, in_quotes(tensors_[i].name)));
    return {};
  }

  std::shared_ptr<const byte_source> source_;
  gguf_cursor cursor_;
  gguf_file file_;
  std::vector<stored_tensor> tensors_;
  std::uint64_t tensors_count_ = 0, keys_ = 0;
};

/// The value of a key as one of its types, or why not.
template <class T>
expected<T> value_as(const gguf_file& file, std::string_view key, const char* wanted) {
  const gguf_value* value = file.find(key);
  if (value == nullptr) return fail(errc::not_found, fmt::format("{}: no key {}", file.where, in_quotes(key)));
  if (const T* held = std::get_if<T>(&value->data)) return *held;
  return fail(errc::malformed, fmt::format("{}: {} must be {}", file.where, in_quotes(key), wanted));
}

}  // namespace

const gguf_value* gguf_file::find(std::string_view key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

expected<std::int64_t> gguf_file::whole(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value != nullptr && std::holds_alternative<std::uint64_t>(value->data)) {
    const auto number = std::get<std::uint64_t>(value->data);
    if (number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return static_cast<std::int64_t>(number);
    return fail(errc::out_of_range, fmt::format("{}: {} is {}, 0 to 2^63 - 1 is allowed", where, in_quotes(key), number));
  }
  const auto number = value_as<std::int64_t>(*this, key, "a whole number");
  if (number && *number < 0)
    return fail(errc::out_of_range, fmt::format("{}: {} is {}, 0 to 2^63 - 1 is allowed", where, in_quotes(key), *number));
  return number;
}

expected<double> gguf_file::number(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value != nullptr && std::holds_alternative<std::uint64_t>(value->data))
    return static_cast<double>(std::get<std::uint64_t>(value->data));
  if (value != nullptr && std::holds_alternative<std::int64_t>(value->data))
    return static_cast<double>(std::get<std::int64_t>(value->data));
  return value_as<double>(*this, key, "a number");
}

expected<bool> gguf_file::flag(std::string_view key) const { return value_as<bool>(*this, key, "a bool"); }
expected<std::string> gguf_file::text(std::string_view key) const { return value_as<std::string>(*this, key, "a string"); }

expected<gguf_file> open_gguf(std::shared_ptr<const byte_source> source) { return front_reader(std::move(source)).read(); }

}  // namespace isthmus
