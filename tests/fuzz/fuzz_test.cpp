// Every target on its corpus and on seeded mutations of it: what any compiler can run. `cmake --preset fuzz` searches with libFuzzer.
#include "framework/core/rng.hpp"
#include "tests/fuzz/targets.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

using namespace isthmus;

namespace {

using bytes = std::vector<std::byte>;
constexpr int mutations_of_target = 3000;
constexpr std::size_t bytes_max = 64 << 10;

std::map<std::string, bytes> corpus_of(const std::string& target) {
  std::map<std::string, bytes> out;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus/" + target)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto begin = reinterpret_cast<const std::byte*>(text.data());
    out[entry.path().filename().string()] = {begin, begin + text.size()};
  }
  return out;
}

void take(const isthmus::fuzz::target& target, const bytes& input) {
  try {
    target.run(input);
  } catch (const std::exception& e) { BOOST_ERROR("a stranger's bytes end in an exception: " << e.what()); }
}

/// Numbers that sit on the edges of fields.
constexpr std::uint64_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, ~std::uint64_t{0}};

/// One to four changes: a bit, a byte, an edge value, a piece cut out, doubled or taken from another file.
bytes mutated(bytes from, const bytes& other, rng& r) {
  for (auto changes = 1 + r.below(4); changes > 0; --changes) {
    const auto at = static_cast<std::ptrdiff_t>(r.below(from.size() + 1));
    const auto left = static_cast<std::uint64_t>(std::ssize(from) - at);
    const auto length = static_cast<std::ptrdiff_t>(r.below(std::min<std::uint64_t>(left, 64) + 1));
    switch (r.below(7)) {
      case 0:
        if (left > 0) from[static_cast<std::size_t>(at)] ^= static_cast<std::byte>(1U << r.below(8));
        break;
      case 1:
        if (left > 0) from[static_cast<std::size_t>(at)] = static_cast<std::byte>(r.below(256));
        break;
      case 2: {
        const auto width = std::min<std::uint64_t>(left, std::uint64_t{1} << r.below(4));
        const auto value = edges[r.below(std::size(edges))];
        for (std::uint64_t i = 0; i < width; ++i) from[static_cast<std::size_t>(at) + i] = static_cast<std::byte>(value >> (8 * i));
        break;
      }
      case 3: from.erase(from.begin() + at, from.begin() + at + length); break;
      case 4: {
        const bytes piece(from.begin() + at, from.begin() + at + length);
        from.insert(from.begin() + static_cast<std::ptrdiff_t>(r.below(from.size() + 1)), piece.begin(), piece.end());
        break;
      }
      case 5: {
        const auto begin = static_cast<std::ptrdiff_t>(r.below(other.size() + 1));
        const auto count = std::min<std::ptrdiff_t>(std::ssize(other) - begin, 64);
        from.insert(from.begin() + at, other.begin() + begin, other.begin() + begin + count);
        break;
      }
      default: from.resize(static_cast<std::size_t>(at)); break;
    }
  }
  from.resize(std::min(from.size(), bytes_max));
  return from;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(fuzz)

BOOST_AUTO_TEST_CASE(every_target_takes_its_corpus_and_seeded_mutations_of_it) {
  std::uint64_t number = 0;
  for (const auto& target : isthmus::fuzz::targets) {
    const auto corpus = corpus_of(target.name);
    BOOST_TEST_REQUIRE(!corpus.empty(), target.name);
    std::vector<const bytes*> files;
    for (const auto& [name, file] : corpus) {
      BOOST_TEST_CONTEXT(target.name << " " << name) take(target, file);
      files.push_back(&file);
    }
    ++number;
    for (std::uint64_t i = 0; i < mutations_of_target; ++i) {
      rng r(number, 0, i, draw::fault);
      const auto& from = *files[r.below(files.size())];
      const auto& other = *files[r.below(files.size())];
      const auto changed = mutated(from, other, r);
      BOOST_TEST_CONTEXT(target.name << " mutation " << i) take(target, changed);
    }
  }
}

// A corpus that our readers refuse at the first byte finds nothing: each file is what our writers write today.
BOOST_AUTO_TEST_CASE(the_corpus_is_what_our_writers_write) {
  for (const auto& seed : isthmus::fuzz::seeds()) {
    const auto corpus = corpus_of(seed.target);
    BOOST_TEST_REQUIRE(corpus.contains(seed.name), seed.target << "/" << seed.name << " is missing: build and run make_fuzz_corpus");
    BOOST_TEST((corpus.at(seed.name) == seed.bytes), seed.target << "/" << seed.name << " is old: build and run make_fuzz_corpus");
  }
}

BOOST_AUTO_TEST_SUITE_END()
