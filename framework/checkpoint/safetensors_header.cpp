#include "framework/checkpoint/safetensors_header.hpp"

#include "framework/core/checked.hpp"
#include "framework/core/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

namespace isthmus {

namespace {

using json = nlohmann::json;

constexpr std::size_t rank_max = 32;

struct dtype_entry {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<dtype_entry, 15> dtypes{{{"BOOL", 1},
                                              {"U8", 1},
                                              {"I8", 1},
                                              {"F8_E5M2", 1},
                                              {"F8_E4M3", 1},
                                              {"I16", 2},
                                              {"U16", 2},
                                              {"F16", 2},
                                              {"BF16", 2},
                                              {"I32", 4},
                                              {"U32", 4},
                                              {"F32", 4},
                                              {"F64", 8},
                                              {"I64", 8},
                                              {"U64", 8}}};

std::optional<dtype> find_dtype(std::string_view name) {
  for (std::size_t i = 0; i < dtypes.size(); ++i)
    if (dtypes[i].name == name) return static_cast<dtype>(i);
  return std::nullopt;
}

std::uint64_t little_endian_u64(std::span<const std::byte> eight) {
  std::uint64_t value = 0;
  for (std::size_t i = 8; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(eight[i]);
  return value;
}

std::string quoted(const std::string& name) { return "\"" + name.substr(0, 120) + "\""; }

class header_reader {
public:
  header_reader(std::uint64_t data_bytes, const std::string& where) : data_bytes_(data_bytes), where_(where) {}

  expected<safetensors_header> read(std::string_view text) {
    if (text.front() != '{') return fail(errc::malformed, where_ + ": byte 8: the header must begin with '{'");
    auto parsed = parse_json(text, where_ + ": header, from byte 8", 3);
    if (!parsed) return parsed.failure();
    for (const auto& [name, value] : parsed->items()) {
      auto ok = name == "__metadata__" ? read_metadata(value) : read_tensor(name, value);
      if (!ok) return ok.failure();
    }
    if (auto ok = place_tensors(8 + text.size()); !ok) return ok.failure();
    return std::move(header_);
  }

private:
  expected<void> read_metadata(const json& value) {
    if (!value.is_object()) return fail(errc::malformed, where_ + ": header: __metadata__ must be an object of strings");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) return fail(errc::malformed, where_ + ": header: __metadata__ " + quoted(key) + " must be a string");
      header_.metadata[key] = text.get<std::string>();
    }
    return {};
  }

  unexpected bad(const std::string& name, const std::string& what, errc code = errc::malformed) const {
    return fail(code, where_ + ": header: tensor " + quoted(name) + ": " + what);
  }

  expected<void> read_tensor(const std::string& name, const json& value) {
    if (name.empty()) return bad(name, "a tensor needs a name");
    if (!value.is_object()) return bad(name, "must be an object with dtype, shape and data_offsets");
    for (const auto& [key, ignored] : value.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets") return bad(name, "unknown key " + quoted(key));
    const auto type_name = value.find("dtype"), shape = value.find("shape"), offsets = value.find("data_offsets");
    if (type_name == value.end() || !type_name->is_string()) return bad(name, "dtype must be a string");
    const auto type = find_dtype(type_name->get_ref<const std::string&>());
    if (!type) {
      std::string allowed;
      for (const auto& entry : dtypes) allowed += (allowed.empty() ? "" : ", ") + std::string(entry.name);
      return bad(name, "unknown dtype " + quoted(type_name->get<std::string>()) + ", known are " + allowed, errc::unsupported);
    }
    if (shape == value.end() || !shape->is_array() || shape->size() > rank_max)
      return bad(name, "shape must be an array of at most " + std::to_string(rank_max) + " extents");
    if (offsets == value.end() || !offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
        !(*offsets)[1].is_number_unsigned())
      return bad(name, "data_offsets must be two whole numbers");
    return read_extents(name, *type, *shape, (*offsets)[0].get<std::uint64_t>(), (*offsets)[1].get<std::uint64_t>());
  }

  expected<void> read_extents(const std::string& name, dtype type, const json& shape, std::uint64_t begin, std::uint64_t end) {
    stored_range t{name, type, {}, begin, end};
    std::uint64_t bytes = dtype_bytes(type);
    for (const auto& extent : shape) {
      if (!extent.is_number_unsigned() ||
          extent.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return bad(name, "an extent of the shape is not a whole number below 2^63");
      const auto product = checked_product(bytes, extent.get<std::uint64_t>());
      if (!product) return bad(name, "the product of its shape overflows 64 bits", errc::out_of_range);
      bytes = *product;
      t.shape.push_back(extent.get<std::int64_t>());
    }
    const std::string span = "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + ")";
    if (begin > end) return bad(name, span + " run backwards");
    if (end > data_bytes_)
      return bad(name, span + " go past the end, the file has " + std::to_string(data_bytes_) + " bytes of data", errc::truncated);
    if (end - begin != bytes)
      return bad(name, span + " hold " + std::to_string(end - begin) + " bytes, shape and dtype need " + std::to_string(bytes));
    header_.tensors.push_back(std::move(t));
    return {};
  }

  /// The ranges must tile the data: no hole, no overlap, nothing behind. A tensor of zero bytes sits anywhere on a boundary.
  expected<void> place_tensors(std::uint64_t data_begin) {
    // Of equal ranges, which have no bytes, by name: the order that the header's objects are read in.
    std::stable_sort(header_.tensors.begin(), header_.tensors.end(),
                     [](const stored_range& a, const stored_range& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    std::uint64_t at = 0;
    for (const stored_range& t : header_.tensors) {
      if (t.begin != at)
        return bad(t.name, "its data begin at byte " + std::to_string(t.begin) + " of the data, expected " + std::to_string(at) +
                               (t.begin < at ? ": it overlaps another tensor" : ": there is a hole before it"));
      at = t.end;
    }
    if (at != data_bytes_)
      return fail(errc::malformed, where_ + ": byte " + std::to_string(data_begin + at) + ": " + std::to_string(data_bytes_ - at) +
                                       " bytes behind the last tensor");
    return {};
  }

  std::uint64_t data_bytes_;
  const std::string& where_;
  safetensors_header header_;
};

}  // namespace

std::string_view dtype_name(dtype type) { return dtypes.at(static_cast<std::size_t>(type)).name; }
std::size_t dtype_bytes(dtype type) { return dtypes.at(static_cast<std::size_t>(type)).bytes; }

expected<std::uint64_t> read_safetensors_header_size(std::span<const std::byte> front, std::uint64_t file_bytes, const std::string& where) {
  if (file_bytes < 8 || front.size() < 8)
    return fail(errc::truncated, where + ": " + std::to_string(file_bytes) + " bytes, a safetensors file has at least 8");
  const std::uint64_t size = little_endian_u64(front.first(8));
  if (size == 0) return fail(errc::malformed, where + ": byte 0: header size is 0");
  if (size > safetensors_header_bytes_max)
    return fail(errc::too_large, where + ": byte 0: header size " + std::to_string(size) + ", at most " +
                                     std::to_string(safetensors_header_bytes_max) + " allowed");
  if (size > file_bytes - 8)
    return fail(errc::truncated, where + ": byte 0: header size " + std::to_string(size) + " goes past the end, the file has " +
                                     std::to_string(file_bytes) + " bytes");
  return size;
}

expected<safetensors_header> parse_safetensors_header(std::string_view text, std::uint64_t data_bytes, const std::string& where) {
  ensure(!text.empty(), "parse_safetensors_header: no header");
  return header_reader(data_bytes, where).read(text);
}

}  // namespace isthmus
