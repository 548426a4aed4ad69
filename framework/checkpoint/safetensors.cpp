#include "framework/checkpoint/safetensors.hpp"

#include "framework/checkpoint/safetensors_header.hpp"
#include "framework/core/checked.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

using json = nlohmann::json;

std::string quoted(const std::string& name) { return "\"" + name.substr(0, 120) + "\""; }

// ---- writing

std::uint64_t checked_bytes(const tensor_view& t) {
  std::uint64_t bytes = dtype_bytes(t.type);
  for (const std::int64_t extent : t.shape) {
    ensure(extent >= 0, "write_safetensors: an extent is negative");
    const auto product = checked_product(bytes, static_cast<std::uint64_t>(extent));
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
  ensure(text.size() <= safetensors_header_bytes_max, "write_safetensors: the header is too large");
  std::string size(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  return size + text;
}

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
  const std::span<const std::byte> all(*file.bytes);
  const auto header_bytes = read_safetensors_header_size(all, all.size(), where);
  if (!header_bytes) return header_bytes.failure();
  const auto data = all.subspan(8 + *header_bytes);
  auto header = parse_safetensors_header({reinterpret_cast<const char*>(all.data()) + 8, *header_bytes}, data.size(), where);
  if (!header) return header.failure();
  for (auto& t : header->tensors)
    file.tensors.push_back({std::move(t.name), t.type, std::move(t.shape), data.subspan(t.begin, t.end - t.begin)});
  file.metadata = std::move(header->metadata);
  return file;
}

expected<tensor_file> read_safetensors(const storage& disk, const std::string& path, std::size_t bytes_max) {
  auto bytes = disk.read(path, bytes_max);
  if (!bytes) return bytes.failure();
  return parse_safetensors(std::move(*bytes), path);
}

}  // namespace isthmus
