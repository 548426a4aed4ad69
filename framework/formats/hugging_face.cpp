#include "framework/formats/hugging_face.hpp"

#include "framework/checkpoint/safetensors_header.hpp"
#include "framework/core/json.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <set>
#include <utility>

namespace isthmus {

namespace {

using json = nlohmann::json;

constexpr const char* single_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";
constexpr std::uint64_t index_bytes_max = 64 << 20;
constexpr std::size_t shards_max = 512;

std::string in_quotes(const std::string& name) { return "\"" + name.substr(0, 120) + "\""; }

bool is_shard_name(const std::string& name) {
  return name.size() > 12 && name.size() <= 255 && name.ends_with(".safetensors") && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos && name.front() != '.';
}

/// Each tensor of the shards must be in the index, for that shard, and each of the index in its shard.
expected<std::vector<stored_tensor>> open_shards(const std::string& folder, const std::map<std::string, std::string>& index) {
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index) shards.insert(shard);
  std::vector<stored_tensor> all;
  for (const std::string& shard : shards) {
    auto source = open_source(folder, shard);
    if (!source) {
      const bool missing = source.error().code == errc::not_found;
      return missing
                 ? fail(errc::not_found, fmt::format("{}/{}: weight_map names the shard {}, which is not there", folder, index_name, shard))
                 : source.failure();
    }
    auto tensors = open_safetensors(*source);
    if (!tensors) return tensors.failure();
    for (auto& t : *tensors) {
      const auto listed = index.find(t.name);
      if (listed == index.end() || listed->second != shard)
        return fail(errc::malformed, fmt::format("{}/{}: tensor {} is not in weight_map for this shard{}", folder, shard, in_quotes(t.name),
                                                 listed == index.end() ? "" : ", but for " + listed->second));
      all.push_back(std::move(t));
    }
  }
  if (all.size() == index.size()) return all;
  std::set<std::string> found;
  for (const auto& t : all) found.insert(t.name);
  for (const auto& [tensor, shard] : index)
    if (!found.contains(tensor))
      return fail(errc::not_found, fmt::format("{}/{}: weight_map says that tensor {} is in {}, which does not hold it", folder, index_name,
                                               in_quotes(tensor), shard));
  return all;
}

bool is_there(const std::string& folder, const char* name) {
  std::error_code ignored;
  return std::filesystem::symlink_status(std::filesystem::path(folder) / name, ignored).type() > std::filesystem::file_type::not_found;
}

}  // namespace

expected<std::vector<stored_tensor>> open_safetensors(std::shared_ptr<const byte_source> source) {
  const std::string& where = source->where();
  auto front = source->read_bytes(0, std::min<std::uint64_t>(8, source->size()));
  if (!front) return front.failure();
  const auto header_bytes = read_safetensors_header_size(*front, source->size(), where);
  if (!header_bytes) return header_bytes.failure();
  std::string text(*header_bytes, '\0');
  if (auto ok = source->read(8, std::as_writable_bytes(std::span(text))); !ok) return ok.failure();
  const std::uint64_t data_begin = 8 + *header_bytes;
  auto header = parse_safetensors_header(text, source->size() - data_begin, where);
  if (!header) return header.failure();
  std::vector<stored_tensor> tensors;
  tensors.reserve(header->tensors.size());
  for (auto& t : header->tensors)
    tensors.push_back({std::move(t.name), &encoding_of(t.type), std::move(t.shape), source, data_begin + t.begin, t.end - t.begin});
  return tensors;
}

expected<std::map<std::string, std::string>> parse_shard_index(std::string_view text, const std::string& where) {
  auto parsed = parse_json(text, where, 8);
  if (!parsed) return parsed.failure();
  if (!parsed->is_object()) return fail(errc::malformed, where + ": must be an object with weight_map");
  for (const auto& [key, value] : parsed->items())
    if (key != "weight_map" && key != "metadata")
      return fail(errc::malformed, fmt::format("{}: unknown key {}, known are metadata, weight_map", where, in_quotes(key)));
  const auto map = parsed->find("weight_map");
  if (map == parsed->end() || !map->is_object() || map->empty())
    return fail(errc::malformed, where + ": weight_map must be an object that gives each tensor's file");
  std::map<std::string, std::string> index;
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) return fail(errc::malformed, fmt::format("{}: weight_map {}: must be a file name", where, in_quotes(tensor)));
    const std::string name = shard.get<std::string>();
    if (!is_shard_name(name))
      return fail(errc::refused, fmt::format("{}: weight_map {}: {} must be the plain name of a .safetensors file in the same folder",
                                             where, in_quotes(tensor), in_quotes(name)));
    shards.insert(name);
    if (shards.size() > shards_max) return fail(errc::too_large, fmt::format("{}: names more than {} shards", where, shards_max));
    index.emplace(tensor, name);
  }
  return index;
}

expected<hugging_face_weights> open_hugging_face(const std::string& folder) {
  if (is_there(folder, single_name)) {
    auto source = open_source(folder, single_name);
    if (!source) return source.failure();
    auto tensors = open_safetensors(std::move(*source));
    if (!tensors) return tensors.failure();
    return hugging_face_weights{tensor_index(std::move(*tensors)), folder};
  }
  if (!is_there(folder, index_name)) {
    const bool pickle = is_there(folder, "pytorch_model.bin") || is_there(folder, "pytorch_model.bin.index.json");
    return fail(pickle ? errc::unsupported : errc::not_found,
                fmt::format("{}: neither {} nor {} is there{}", folder, single_name, index_name,
                            pickle ? "; pytorch_model.bin is a pickle, which can run code and is not read: save it as safetensors" : ""));
  }
  auto source = open_source(folder, index_name);
  if (!source) return source.failure();
  const auto text = (*source)->read_text(index_bytes_max);
  if (!text) return text.failure();
  const auto index = parse_shard_index(*text, (*source)->where());
  if (!index) return index.failure();
  auto tensors = open_shards(folder, *index);
  if (!tensors) return tensors.failure();
  return hugging_face_weights{tensor_index(std::move(*tensors)), folder};
}

expected<void> write_hugging_face(storage& disk, const std::string& folder, std::span<const tensor_view> tensors,
                                  const shard_options& options) {
  ensure(!folder.empty(), "write_hugging_face: no folder");
  for (const std::string& name : disk.list(folder))
    if (name.starts_with("model") && name.find(".safetensors") != std::string::npos)
      return fail(errc::refused,
                  fmt::format("{}: holds {} already: write into another folder, or remove the old weights first", folder, name));
  if (auto ok = disk.make_folders(folder); !ok) return ok;

  std::vector<std::span<const tensor_view>> shards;
  std::uint64_t total = 0, in_shard = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::uint64_t bytes = tensors[i].bytes.size();
    if (i > begin && bytes > options.shard_bytes_max - std::min(in_shard, options.shard_bytes_max)) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      in_shard = 0;
    }
    in_shard += bytes;
    total += bytes;
  }
  shards.push_back(tensors.subspan(begin));

  json weight_map = json::object();
  for (std::size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shards.size() == 1 ? single_name : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    auto written = write_safetensors(disk, folder + "/" + name, shards[s], options.metadata);
    if (!written) return written.failure();
    for (const auto& t : shards[s]) {
      ensure(!weight_map.contains(t.name), "write_hugging_face: two tensors have one name");
      weight_map[t.name] = name;
    }
  }
  if (shards.size() > 1) {
    const std::string index = json{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}}.dump(2) + "\n";
    if (auto ok = disk.write_synced(folder + "/" + index_name, std::as_bytes(std::span(index))); !ok) return ok;
  }
  return disk.sync_folder(folder);
}

}  // namespace isthmus
