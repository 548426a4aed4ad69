#include "framework/data/token_shard.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

std::uint64_t token_section::size() const {
  return std::visit([](const auto& t) { return static_cast<std::uint64_t>(t.size()); }, tokens);
}

void token_section::copy(std::uint64_t begin, std::span<token_id> out) const {
  ensure(begin <= size() && out.size() <= size() - begin, "token_section: copy past the end");
  std::visit([&](const auto& t) { std::copy_n(t.begin() + static_cast<std::ptrdiff_t>(begin), out.size(), out.begin()); }, tokens);
}

std::optional<token_id> end_of_documents(const token_section& section) {
  std::optional<token_id> known;
  for (const std::uint64_t end : section.document_ends) {
    token_id id = 0;
    section.copy(end - 1, {&id, 1});
    if (known && *known != id) return std::nullopt;
    known = id;
  }
  return known;
}

}  // namespace isthmus
