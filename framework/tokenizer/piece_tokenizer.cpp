#include "framework/tokenizer/piece_tokenizer.hpp"

#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <queue>

namespace isthmus {

namespace {

constexpr std::string_view blank = "\u2581";

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const bool here = text.substr(at, from.size()) == from;
    out += here ? to : text.substr(at, 1);
    at += here ? from.size() : 1;
  }
  return out;
}

int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/// A part of the text that is one piece so far; parts that were joined into their left neighbour are empty.
struct part {
  std::int64_t previous = -1, next = -1;  // -1: none
  std::size_t begin = 0, size = 0;        // in bytes
};

/// Two neighbours that could be one; out of date when their sizes no longer add up.
struct join {
  float score = 0;
  std::int64_t left = 0, right = 0;
  std::size_t size = 0;
  bool operator<(const join& o) const { return score != o.score ? score < o.score : left > o.left; }
};

}  // namespace

int byte_of_piece(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return -1;
  const int high = hex_digit(name[3]), low = hex_digit(name[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

std::string with_blanks(std::string_view piece) { return replaced(piece, blank, " "); }
std::string without_blanks(std::string_view text) { return replaced(text, " ", blank); }

expected<piece_tokenizer> piece_tokenizer::make(piece_model model, const std::string& where) {
  ensure(model.scores.size() == model.pieces.size() && model.kinds.size() == model.pieces.size(),
         "piece_tokenizer: lists of other lengths");
  piece_tokenizer out;
  out.byte_ids_.assign(256, -1);
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const std::string& piece = model.pieces[i];
    const auto id = static_cast<token_id>(i);
    std::string bytes;
    if (const int byte = byte_of_piece(piece); model.kinds[i] == piece_kind::byte && byte >= 0) {
      out.byte_ids_[static_cast<std::size_t>(byte)] = id;
      bytes = static_cast<char>(byte);
    } else if (model.kinds[i] != piece_kind::control && model.kinds[i] != piece_kind::unknown) {
      bytes = with_blanks(piece);
      out.longest_ = std::max(out.longest_, piece.size());
      if (!piece.empty() && !out.ids_.emplace(piece, id).second)
        return fail(errc::malformed, fmt::format("{}: piece {} stands twice: \"{}\"", where, i, piece.substr(0, 80)));
    }
    out.bytes_.push_back(std::move(bytes));
  }
  for (std::size_t byte = 0; byte < 256; ++byte)
    if (out.byte_ids_[byte] < 0)
      return fail(errc::malformed,
                  fmt::format("{}: no piece <0x{:02X}>: vocabularies without a piece for each byte are not read", where, byte));
  out.model_ = std::move(model);
  return out;
}

std::string_view piece_tokenizer::bytes(token_id id) const {
  ensure(id >= 0 && id < vocabulary(), "piece_tokenizer: id out of range");
  return bytes_[static_cast<std::size_t>(id)];
}

token_id piece_tokenizer::find(std::string_view text) const {
  if (text.size() > longest_) return -1;
  const auto found = ids_.find(text);
  return found == ids_.end() ? -1 : found->second;
}

void piece_tokenizer::encode(std::string_view plain, std::vector<token_id>& out) const {
  const std::string text = without_blanks(plain);
  std::vector<part> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = decode_utf8(text, at).bytes;
    const std::int64_t here = std::ssize(parts);
    parts.push_back({here - 1, at + size < text.size() ? here + 1 : -1, at, size});
    at += size;
  }
  const auto part_at = [&](std::int64_t i) -> part& { return parts[static_cast<std::size_t>(i)]; };
  std::priority_queue<join> queue;
  const auto consider = [&](std::int64_t left, std::int64_t right) {
    if (left < 0 || right < 0) return;
    const std::size_t size = part_at(left).size + part_at(right).size;
    const token_id id = find(std::string_view(text).substr(part_at(left).begin, size));
    if (id >= 0) queue.push({model_.scores[static_cast<std::size_t>(id)], left, right, size});
  };
  for (std::int64_t i = 1; i < std::ssize(parts); ++i) consider(i - 1, i);
  while (!queue.empty()) {
    const join best = queue.top();
    queue.pop();
    part &left = part_at(best.left), &right = part_at(best.right);
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    left.size = best.size;
    left.next = right.next;
    right.size = 0;
    if (left.next >= 0) part_at(left.next).previous = best.left;
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
  for (const part& p : parts) {
    if (p.size == 0) continue;
    const std::string_view piece = std::string_view(text).substr(p.begin, p.size);
    if (const token_id id = find(piece); id >= 0)
      out.push_back(id);
    else
      for (const char c : piece) out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  }
}

}  // namespace isthmus
