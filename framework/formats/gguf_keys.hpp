#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/gguf.hpp"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>

namespace isthmus {

/// Takes typed values out of a GGUF file's metadata and remembers which keys were asked for, as hf_keys does for config.json: the first
/// fault is kept and answered at the end; after it, values are the lowest allowed ones. Names are without the architecture: "block_count".
class gguf_keys {
public:
  /// Borrows the file.
  gguf_keys(const gguf_file& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}

  bool has(const std::string& name) const { return file_.find(prefix_ + name) != nullptr; }
  std::int64_t whole(const std::string& name, std::int64_t low, std::int64_t high);
  std::int64_t whole(const std::string& name, std::int64_t low, std::int64_t high, std::int64_t otherwise);
  double number(const std::string& name, double low, double high);
  double number(const std::string& name, double low, double high, double otherwise);
  std::string text(const std::string& name, const std::string& otherwise);
  /// A fault unless the flag, if it is there, is this one.
  void only(const std::string& name, bool allowed);
  /// These are known to be without effect on the numbers.
  void ignore(std::initializer_list<const char*> names);
  /// A fault unless `holds`.
  void must(bool holds, errc code, const std::string& name, const std::string& what);

  /// The first fault; else a key of the architecture that nobody asked for is one.
  expected<void> finish();
  bool failed() const { return fault_.has_value(); }

private:
  void keep(const error& e) {
    if (!fault_) fault_ = e;
  }

  const gguf_file& file_;
  std::string prefix_;
  std::set<std::string, std::less<>> known_;
  std::optional<error> fault_;
};

}  // namespace isthmus
