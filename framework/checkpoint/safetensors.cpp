#include "framework/checkpoint/safetensors.hpp"

#include "framework/core/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

namespace isthmus {

namespace {

using json = nlohmann::json;

constexpr std::uint64_t header_bytes_max = 100'000'000;  // as in the reference implementation
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

/// a * b, or nothing when it does not fit.
std::optional<std::uint64_t> times(std::uint64_t a, std::uint64_t b) {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) return std::nullopt;
  return a * b;
}

std::uint64_t little_endian_u64(std::span<const std::byte> eight) {
  std::uint64_t value = 0;
  for (std::size_t i = 8; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(eight[i]);
  return value;
}

std::string quoted(const std::string& name) { return "\"" + name.substr(0, 120) + "\""; }

// ---- writing

std::uint64_t checked_bytes(const tensor_view& t) {
  std::uint64_t bytes = dtype_bytes(t.type);
  for (const std::int64_t extent : t.shape) {
    ensure(extent >= 0, "write_safetensors: an extent is negative");
    const auto product = times(bytes, static_cast<std::uint64_t>(extent));
    ensure(product.has_value(), "write_safetensors: a shape overflows");
    bytes = *product;
  }
  ensure(bytes == t.bytes.size(), "write_safetensors: a tensor's bytes do not match its shape");
  ensure(!t.name.empty() && t.name != "__metadata__", "write_safetensors: a tensor's name is empty or reserved");
  return bytes;
}

/// The u64 size and the JSON header, padded with blanks so that the data begins at a multiple of 8.
std::string header_of(std::span<const tensor_view* const> tensors, const tensor_metadata& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const tensor_view* t : tensors) {
    const std::uint64_t bytes = checked_bytes(*t);
    ensure(!header.contains(t->name), "write_safetensors: two tensors have one name");
    header[t->name] = {{"dtype", dtype_name(t->type)}, {"shape", t->shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  ensure(text.size() <= header_bytes_max, "write_safetensors: the header is too large");
  std::string size(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  return size + text;
}

// ---- reading

class header_reader {
public:
  header_reader(std::span<const std::byte> file, const std::string& where) : file_(file), where_(where) {}

  expected<void> read() {
    if (auto ok = read_size(); !ok) return ok;
    const auto head = file_.subspan(8, header_bytes_);
    const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
    if (text.front() != '{') return fail(errc::malformed, where_ + ": byte 8: the header must begin with '{'");
    auto parsed = parse_json(text, where_ + ": header, from byte 8", 3);
    if (!parsed) return parsed.failure();
    for (const auto& [name, value] : parsed->items()) {
      auto ok = name == "__metadata__" ? read_metadata(value) : read_tensor(name, value);
      if (!ok) return ok;
    }
    return place_tensors();
  }

  std::vector<tensor_view> tensors;
  tensor_metadata metadata;

private:
  struct range {
    std::uint64_t begin, end;
    std::size_t index;
  };

  expected<void> read_size() {
    if (file_.size() < 8)
      return fail(errc::truncated, where_ + ": " + std::to_string(file_.size()) + " bytes, a safetensors file has at least 8");
    header_bytes_ = little_endian_u64(file_.first(8));
    if (header_bytes_ == 0) return fail(errc::malformed, where_ + ": byte 0: header size is 0");
    if (header_bytes_ > header_bytes_max)
      return fail(errc::too_large, where_ + ": byte 0: header size " + std::to_string(header_bytes_) + ", at most " +
                                       std::to_string(header_bytes_max) + " allowed");
    if (header_bytes_ > file_.size() - 8)
      return fail(errc::truncated, where_ + ": byte 0: header size " + std::to_string(header_bytes_) + " goes past the end, the file has " +
                                       std::to_string(file_.size()) + " bytes");
    return {};
  }

  expected<void> read_metadata(const json& value) {
    if (!value.is_object()) return fail(errc::malformed, where_ + ": header: __metadata__ must be an object of strings");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) return fail(errc::malformed, where_ + ": header: __metadata__ " + quoted(key) + " must be a string");
      metadata[key] = text.get<std::string>();
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
    tensor_view t{name, type, {}, {}};
    std::uint64_t bytes = dtype_bytes(type);
    for (const auto& extent : shape) {
      if (!extent.is_number_unsigned() ||
          extent.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return bad(name, "an extent of the shape is not a whole number below 2^63");
      const auto product = times(bytes, extent.get<std::uint64_t>());
      if (!product) return bad(name, "the product of its shape overflows 64 bits", errc::out_of_range);
      bytes = *product;
      t.shape.push_back(extent.get<std::int64_t>());
    }
    const std::uint64_t data_bytes = file_.size() - 8 - header_bytes_;
    const std::string span = "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + ")";
    if (begin > end) return bad(name, span + " run backwards");
    if (end > data_bytes)
      return bad(name, span + " go past the end, the file has " + std::to_string(data_bytes) + " bytes of data", errc::truncated);
    if (end - begin != bytes)
      return bad(name, span + " hold " + std::to_string(end - begin) + " bytes, shape and dtype need " + std::to_string(bytes));
    ranges_.push_back({begin, end, tensors.size()});
    tensors.push_back(std::move(t));
    return {};
  }

  /// The ranges must tile the data: no hole, no overlap, nothing behind. A tensor of zero bytes sits anywhere on a boundary.
  expected<void> place_tensors() {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const range& a, const range& b) { return std::tie(a.begin, a.end, a.index) < std::tie(b.begin, b.end, b.index); });
    const std::uint64_t data_begin = 8 + header_bytes_;
    std::uint64_t at = 0;
    std::vector<tensor_view> ordered;
    ordered.reserve(tensors.size());
    for (const auto& r : ranges_) {
      auto& t = tensors[r.index];
      if (r.begin != at)
        return bad(t.name, "its data begin at byte " + std::to_string(r.begin) + " of the data, expected " + std::to_string(at) +
                               (r.begin < at ? ": it overlaps another tensor" : ": there is a hole before it"));
      t.bytes = file_.subspan(data_begin + r.begin, r.end - r.begin);
      ordered.push_back(std::move(t));
      at = r.end;
    }
    if (const std::uint64_t data_bytes = file_.size() - data_begin; at != data_bytes)
      return fail(errc::malformed, where_ + ": byte " + std::to_string(data_begin + at) + ": " + std::to_string(data_bytes - at) +
                                       " bytes behind the last tensor");
    tensors = std::move(ordered);
    return {};
  }

  std::span<const std::byte> file_;
  const std::string& where_;
  std::uint64_t header_bytes_ = 0;
  std::vector<range> ranges_;
};

template <class T>
expected<void> copy_numbers(const tensor_file& file, std::string_view name, dtype type, std::span<T> out) {
  const tensor_view* t = file.find(name);
  if (t == nullptr) return fail(errc::not_found, file.where + ": no tensor " + quoted(std::string(name)));
  if (t->type != type)
    return fail(errc::unsupported, file.where + ": tensor " + quoted(t->name) + " is " + std::string(dtype_name(t->type)) + ", expected " +
                                       std::string(dtype_name(type)));
  if (t->bytes.size() != out.size_bytes())
    return fail(errc::out_of_range, file.where + ": tensor " + quoted(t->name) + " has " + std::to_string(t->bytes.size() / sizeof(T)) +
                                        " numbers, expected " + std::to_string(out.size()));
  if (!out.empty()) std::memcpy(out.data(), t->bytes.data(), out.size_bytes());
  return {};
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

}  // namespace

std::string_view dtype_name(dtype type) { return dtypes.at(static_cast<std::size_t>(type)).name; }
std::size_t dtype_bytes(dtype type) { return dtypes.at(static_cast<std::size_t>(type)).bytes; }

tensor_view view_of(std::string name, std::span<const float> values) {
  return {std::move(name), dtype::f32, {static_cast<std::int64_t>(values.size())}, std::as_bytes(values)};
}

tensor_view view_of(std::string name, std::span<const std::uint64_t> values) {
  return {std::move(name), dtype::u64, {static_cast<std::int64_t>(values.size())}, std::as_bytes(values)};
}

std::vector<tensor_view> views_of(const parameter_layout& layout, std::span<const float> flat) {
  ensure(static_cast<std::int64_t>(flat.size()) == layout.size, "views_of: the array is not of the layout's size");
  std::vector<tensor_view> views;
  views.reserve(layout.slots.size());
  for (const auto& slot : layout.slots)
    views.push_back({slot.name, dtype::f32, slot.shape,
                     std::as_bytes(flat.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count)))});
  return views;
}

expected<file_digest> write_safetensors(storage& disk, const std::string& path, std::span<const tensor_view> tensors,
                                        const tensor_metadata& metadata) {
  std::vector<const tensor_view*> order;
  for (const auto& t : tensors) order.push_back(&t);
  // Widest items first, so that every tensor is aligned to its own items.
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return dtype_bytes(a->type) > dtype_bytes(b->type); });
  const std::string header = header_of(order, metadata);

  if (auto ok = disk.remove(path); !ok) return ok.failure();
  auto file = disk.open_append(path);
  if (!file) return file.failure();
  file_digest digest;
  hash_stream hash;
  const auto write = [&](std::span<const std::byte> bytes) {
    hash.add(bytes);
    digest.bytes += bytes.size();
    return (*file)->append(bytes);
  };
  if (auto ok = write(std::as_bytes(std::span(header))); !ok) return ok.failure();
  for (const tensor_view* t : order)
    if (auto ok = write(t->bytes); !ok) return ok.failure();
  if (auto ok = (*file)->sync(); !ok) return ok.failure();
  digest.hash = hash.digest();
  return digest;
}

const tensor_view* tensor_file::find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const tensor_view& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

expected<void> tensor_file::copy_to(std::string_view name, std::span<float> out) const {
  return copy_numbers(*this, name, dtype::f32, out);
}

expected<void> tensor_file::copy_to(std::string_view name, std::span<std::uint64_t> out) const {
  return copy_numbers(*this, name, dtype::u64, out);
}

expected<void> tensor_file::copy_to(const parameter_layout& layout, std::span<float> flat) const {
  ensure(static_cast<std::int64_t>(flat.size()) == layout.size, "tensor_file::copy_to: the array is not of the layout's size");
  std::map<std::string_view, const tensor_view*> by_name;
  for (const auto& t : tensors) by_name[t.name] = &t;
  std::vector<std::pair<const tensor_slot*, const tensor_view*>> matched;  // copied only once all fits
  for (const auto& slot : layout.slots) {
    const auto found = by_name.find(slot.name);
    if (found == by_name.end()) return fail(errc::not_found, where + ": no tensor " + quoted(slot.name) + ", which the model has");
    const tensor_view& t = *found->second;
    if (t.type != dtype::f32 || t.shape != slot.shape)
      return fail(errc::unsupported, where + ": tensor " + quoted(slot.name) + " is " + std::string(dtype_name(t.type)) + " " +
                                         shape_text(t.shape) + ", the model has F32 " + shape_text(slot.shape));
    matched.emplace_back(&slot, &t);
    by_name.erase(found);
  }
  if (!by_name.empty())
    return fail(errc::unsupported, where + ": tensor " + quoted(std::string(by_name.begin()->first)) + " is none of the model's");
  for (const auto& [slot, t] : matched) std::memcpy(flat.data() + slot->offset, t->bytes.data(), t->bytes.size());
  return {};
}

expected<tensor_file> parse_safetensors(std::vector<std::byte> bytes, const std::string& where) {
  tensor_file file;
  file.bytes = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  file.where = where;
  header_reader reader(*file.bytes, where);
  if (auto ok = reader.read(); !ok) return ok.failure();
  file.tensors = std::move(reader.tensors);
  file.metadata = std::move(reader.metadata);
  return file;
}

expected<tensor_file> read_safetensors(const storage& disk, const std::string& path, std::size_t bytes_max) {
  auto bytes = disk.read(path, bytes_max);
  if (!bytes) return bytes.failure();
  return parse_safetensors(std::move(*bytes), path);
}

}  // namespace isthmus
