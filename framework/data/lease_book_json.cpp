#include "framework/data/lease_book.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace isthmus {

namespace {

using nlohmann::json;

constexpr std::uint64_t position_max = std::uint64_t{1} << 62;

json ranges_to_json(const range_set& ranges) {
  json out = json::array();
  for (const auto& [begin, end] : ranges.ranges()) out.push_back({begin, end});
  return out;
}

}  // namespace

std::string lease_book::to_json() const {
  json outstanding = json::array(), partial = json::array(), missed = json::array();
  for (const auto& e : outstanding_) outstanding.push_back({e.begin, e.end, e.step});
  for (const auto& p : partial_) partial.push_back({{"begin", p.range.begin}, {"end", p.range.end}, {"missed", p.missed}});
  for (group_id g = 0; g < missed_.size(); ++g)
    for (const auto& [begin, end] : missed_[g].ranges()) missed.push_back({begin, end, g});
  const json out{{"shard", shard_},
                 {"samples", samples_},
                 {"next", next_},
                 {"last_step", last_step_},
                 {"watermarks", watermarks_},
                 {"outstanding", outstanding},
                 {"missed", missed},
                 {"waiting", ranges_to_json(waiting_)},
                 {"committed", ranges_to_json(committed_)},
                 {"written_off", ranges_to_json(written_off_)},
                 {"partial", partial},
                 {"assigned", totals_.assigned},
                 {"returned", totals_.returned}};
  return out.dump();
}

/// Reads a lease book's state; the first problem is kept and ends the reading.
class lease_book_reader {
public:
  lease_book_reader(const json& root, const std::string& where) : root_(root), where_(where) {}

  expected<lease_book> read() {
    lease_book book(static_cast<std::uint32_t>(number(root_, "shard", 0xffffffffU)),
                    std::max<std::uint64_t>(number(root_, "samples", position_max), 1), 1);
    if (book.samples_ == 0 || number(root_, "samples", position_max) == 0) problem("samples", "at least 1 is expected");
    book.next_ = number(root_, "next", position_max);
    book.last_step_ = number(root_, "last_step", position_max);
    book.watermarks_ = numbers(root_, "watermarks", position_max);
    if (book.watermarks_.empty()) problem("watermarks", "at least one group is expected");
    for (const auto& e : rows("outstanding", 3)) {
      book.outstanding_.push_back({e[0], e[1], e[2]});
      book.totals_.outstanding += e[1] - e[0];
    }
    book.missed_.resize(book.watermarks_.size());
    for (const auto& e : rows("missed", 3)) {
      if (e[2] < book.missed_.size())
        book.missed_[e[2]].add(e[0], e[1]);
      else
        problem("missed", fmt::format("group {} where there are {}", e[2], book.missed_.size()));
    }
    book.waiting_ = ranges("waiting");
    book.committed_ = ranges("committed");
    book.written_off_ = ranges("written_off");
    read_partial(book);
    book.totals_.assigned = number(root_, "assigned", position_max);
    book.totals_.returned = number(root_, "returned", position_max);
    book.totals_.committed = book.committed_.size();
    book.totals_.written_off = book.written_off_.size();
    if (error_.empty() && !book.balanced()) problem("assigned", "the positions do not balance");
    if (error_.empty()) return book;
    return fail(errc::malformed, where_ + ": lease book: " + error_);
  }

private:
  void problem(const std::string& at, const std::string& what) {
    if (error_.empty()) error_ = at + ": " + what;
  }

  std::uint64_t value(const json& v, const std::string& at, std::uint64_t max) {
    if (v.is_number_unsigned() && v.get<std::uint64_t>() <= max) return v.get<std::uint64_t>();
    problem(at, fmt::format("{} is not a number in [0, {}]", v.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40), max));
    return 0;
  }

  const json& member(const json& object, const std::string& name) {
    static const json missing;
    if (object.is_object() && object.contains(name)) return object[name];
    problem(name, "is missing");
    return missing;
  }

  std::uint64_t number(const json& object, const std::string& name, std::uint64_t max) { return value(member(object, name), name, max); }

  std::vector<std::uint64_t> numbers(const json& object, const std::string& name, std::uint64_t max) {
    std::vector<std::uint64_t> out;
    const json& array = member(object, name);
    if (!array.is_array()) problem(name, "an array is expected");
    for (std::size_t i = 0; array.is_array() && i < array.size(); ++i) out.push_back(value(array[i], fmt::format("{}[{}]", name, i), max));
    return out;
  }

  /// Rows of `columns` numbers, the first two a range; empty on a problem.
  std::vector<std::vector<std::uint64_t>> rows(const std::string& name, std::size_t columns) {
    std::vector<std::vector<std::uint64_t>> out;
    const json& array = member(root_, name);
    if (!array.is_array()) problem(name, "an array is expected");
    for (std::size_t i = 0; array.is_array() && i < array.size(); ++i) {
      const std::string at = fmt::format("{}[{}]", name, i);
      std::vector<std::uint64_t> row;
      if (array[i].is_array() && array[i].size() == columns)
        for (const json& v : array[i]) row.push_back(value(v, at, position_max));
      if (row.size() != columns || row[0] >= row[1]) {
        problem(at, fmt::format("{} numbers are expected, the first below the second", columns));
        return {};
      }
      out.push_back(std::move(row));
    }
    return out;
  }

  range_set ranges(const std::string& name) {
    range_set out;
    std::uint64_t sum = 0;
    for (const auto& row : rows(name, 2)) {
      out.add(row[0], row[1]);
      sum += row[1] - row[0];
    }
    if (sum != out.size()) problem(name, "ranges overlap");
    return out;
  }

  void read_partial(lease_book& book) {
    const json& array = member(root_, "partial");
    if (!array.is_array()) problem("partial", "an array is expected");
    for (std::size_t i = 0; array.is_array() && i < array.size() && error_.empty(); ++i) {
      partial_lease p{{book.shard_, number(array[i], "begin", position_max), number(array[i], "end", position_max)}, {}};
      for (const std::uint64_t g : numbers(array[i], "missed", 0xffffffffU)) p.missed.push_back(static_cast<group_id>(g));
      if (p.range.begin >= p.range.end || p.missed.empty())
        problem(fmt::format("partial[{}]", i), "a range and the groups that missed it are expected");
      if (!error_.empty()) return;
      book.totals_.partial += p.range.end - p.range.begin;
      book.partial_.push_back(std::move(p));
    }
  }

  const json& root_;
  const std::string& where_;
  std::string error_;
};

expected<lease_book> lease_book::from_json(std::string_view text, const std::string& where) {
  const json root = json::parse(text, nullptr, false);
  if (root.is_discarded()) return fail(errc::malformed, where + ": lease book: not JSON");
  return lease_book_reader(root, where).read();
}

}  // namespace isthmus
