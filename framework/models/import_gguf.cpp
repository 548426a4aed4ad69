#include "framework/formats/byte_source.hpp"
#include "framework/formats/gguf_model.hpp"
#include "framework/models/import.hpp"

namespace isthmus {

expected<imported_model> import_gguf(const gguf_file& file) {
  const auto theirs = read_gguf_model(file);
  if (!theirs) return theirs.failure();
  return import_checkpoint(theirs->config, {theirs->tensors, file.where}, file.where);
}

expected<imported_model> import_gguf(const std::string& path) {
  auto source = open_source(path);
  if (!source) return source.failure();
  const auto file = open_gguf(std::move(*source));
  if (!file) return file.failure();
  return import_gguf(*file);
}

}  // namespace isthmus
