#include "framework/data/token_shard.hpp"

#include "framework/core/rng.hpp"
#include "tests/framework/data/scratch.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <functional>

using namespace isthmus;

namespace {

token_shard example(std::uint32_t vocabulary = 300) {
  token_shard shard{"perl", vocabulary, {1, 2}, {3, 4}, {}, {}};
  const auto fill = [&](token_section& s, std::vector<std::uint64_t> ends) {
    std::vector<std::uint32_t> ids;
    for (std::uint64_t i = 0; i < ends.back(); ++i) ids.push_back(static_cast<std::uint32_t>((i * 37 + ends.size()) % vocabulary));
    s.document_ends = std::move(ends);
    if (vocabulary <= 65536)
      s.tokens = std::vector<std::uint16_t>(ids.begin(), ids.end());
    else
      s.tokens = ids;
  };
  fill(shard.train, {5, 6, 21});
  fill(shard.held_out, {3, 7});
  return shard;
}

/// The header's check, made good again after a change.
void seal(std::vector<std::byte>& file) {
  const std::uint64_t sum = hash_bytes(std::span(file).first(160)).low;
  std::memcpy(file.data() + 160, &sum, 8);
}

template <class T>
void poke(std::vector<std::byte>& file, std::size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

/// The message that reading a changed file gives.
std::string refusal(const std::function<void(std::vector<std::byte>&)>& change, const shard_expectation& expect = {}) {
  auto file = encode_shard(example());
  change(file);
  const auto read = decode_shard(file, "data/perl.shard", expect);
  return read ? "accepted" : read.error().message;
}

void check_message(const std::string& found, const std::string& wanted) {
  BOOST_TEST(found.starts_with("data/perl.shard: byte "), found);
  BOOST_TEST(found.find(wanted) != std::string::npos, found << " lacks " << wanted);
}

void same(const token_shard& a, const token_shard& b) {
  BOOST_TEST(a.name == b.name);
  BOOST_TEST(a.vocabulary == b.vocabulary);
  BOOST_TEST((a.tokenizer == b.tokenizer && a.content == b.content));
  BOOST_TEST((a.train.tokens == b.train.tokens && a.train.document_ends == b.train.document_ends));
  BOOST_TEST((a.held_out.tokens == b.held_out.tokens && a.held_out.document_ends == b.held_out.document_ends));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(token_shard_test)

BOOST_AUTO_TEST_CASE(documents_end_with_one_token_or_it_is_not_known) {
  token_section section{std::vector<std::uint16_t>{4, 9, 9, 5, 9}, {2, 3, 5}};
  BOOST_TEST((end_of_documents(section) == std::optional<token_id>(9)));
  section.document_ends = {1, 5};
  BOOST_TEST((end_of_documents(section) == std::nullopt));
  BOOST_TEST((end_of_documents({}) == std::nullopt));
}

BOOST_AUTO_TEST_CASE(what_is_written_is_read) {
  scratch folder;
  for (const std::uint32_t vocabulary : {300U, 65536U, 65537U, 200'000U}) {
    const token_shard shard = example(vocabulary);
    BOOST_REQUIRE(write_shard(*folder.disk, "run/data/perl.shard", shard).has_value());
    const auto read = read_shard(*folder.disk, "run/data/perl.shard", {"perl", vocabulary, hash128{1, 2}, hash128{3, 4}});
    BOOST_REQUIRE(read.has_value());
    same(*read, shard);
    BOOST_TEST(folder.disk->list("run/data").size() == 1U);  // nothing unfinished stays
  }
  std::vector<token_id> ids(4);
  example().train.copy(5, ids);
  BOOST_TEST(ids[1] == static_cast<token_id>((6 * 37 + 3) % 300));
  BOOST_CHECK_THROW(example().train.copy(18, ids), contract_error);
}

BOOST_AUTO_TEST_CASE(a_held_out_section_may_be_empty) {
  token_shard shard = example();
  shard.held_out = {std::vector<std::uint16_t>{}, {}};
  same(*decode_shard(encode_shard(shard), "s"), shard);
}

BOOST_AUTO_TEST_CASE(headers_of_another_kind) {
  check_message(refusal([](auto& f) { f[0] = std::byte{'X'}; }), "byte 0: not a token shard");
  check_message(refusal([](auto& f) { poke(f, 8, 2U); }), "byte 8: version 2, expected 1");
  check_message(refusal([](auto& f) { poke(f, 12, 0x04030201U); }), "byte 12: byte order mark 0x04030201, expected 0x01020304");
  check_message(refusal([](auto& f) { f[70] ^= std::byte{1}; }), "byte 160: header checksum");
  check_message(refusal([](auto& f) { f.resize(100); }), "100 bytes, a token shard has a header of 168");
  check_message(refusal([](auto& f) { f.clear(); }), "0 bytes");
}

BOOST_AUTO_TEST_CASE(sizes_that_do_not_agree) {
  const auto sealed = [](std::size_t at, auto value) {
    return refusal([=](auto& f) {
      poke(f, at, value);
      seal(f);
    });
  };
  check_message(sealed(16, 4U), "byte 16: 4 bytes an id, expected 2");
  check_message(sealed(20, 0U), "byte 20: vocabulary 0, expected 1 to 2147483647");
  check_message(sealed(20, 0x80000000U), "byte 20: vocabulary 2147483648");  // whose ids would be negative
  check_message(sealed(24, std::uint64_t{1}), "byte 24: a file size of 1, but the counts give");
  check_message(sealed(32, std::uint64_t{0}), "byte 32: an empty shard");
  check_message(sealed(32, ~std::uint64_t{0}), "byte 32: 18446744073709551615 tokens, at most");
  check_message(sealed(40, ~std::uint64_t{0}), "byte 40: 18446744073709551615 documents for 21 tokens");
  check_message(sealed(40, std::uint64_t{0}), "byte 40: 0 documents for 21 tokens");
  check_message(sealed(48, std::uint64_t{1} << 40), "byte 48: ");
  check_message(sealed(64, std::uint64_t{0}), "byte 64: the name is empty");
  check_message(refusal([](auto& f) { f.push_back({}); }), "the file ends here, expected at byte");
  check_message(refusal([](auto& f) { f.resize(f.size() - 3); }), "the file ends here, expected at byte");
}

BOOST_AUTO_TEST_CASE(contents_that_do_not_fit) {
  check_message(refusal([](auto& f) { f[170] ^= std::byte{1}; }), "byte 168: the train section of 72 bytes has checksum");
  check_message(refusal([](auto& f) { f.back() ^= std::byte{1}; }), "byte 240: the held-out section of 32 bytes has checksum");
  // Written by a program with a fault: the checksums are right, the values are not.
  const auto faulty = [](const std::function<void(token_shard&)>& change) {
    token_shard shard = example();
    change(shard);
    const auto read = decode_shard(encode_shard(shard), "data/perl.shard");
    return read ? "accepted" : read.error().message;
  };
  check_message(faulty([](token_shard& s) { std::get<0>(s.train.tokens)[4] = 300; }),
                "byte 176: train token 4 has id 300, the vocabulary ends at 300");
  check_message(faulty([](token_shard& s) {
                  s.train.document_ends = {6, 6, 21};
                }),
                "byte 224: train document 1 ends at token 6, expected in (6, 21]");
  check_message(faulty([](token_shard& s) { s.train.document_ends = {5, 22, 21}; }), "train document 1 ends at token 22");
  check_message(faulty([](token_shard& s) {
                  s.held_out.document_ends = {3, 6};
                }),
                "the last held-out document ends at token 6, expected 7");
}

BOOST_AUTO_TEST_CASE(another_shard_than_expected) {
  const auto unchanged = [](auto&) {};
  check_message(refusal(unchanged, {"vim", {}, {}, {}}), "shard 'perl', expected 'vim'");
  check_message(refusal(unchanged, {{}, 2048, {}, {}}), "a vocabulary of 300, the tokenizer has 2048");
  check_message(refusal(unchanged, {{}, {}, hash128{9, 9}, {}}), "made with tokenizer 00000000000000010000000000000002, expected");
  check_message(refusal(unchanged, {{}, {}, {}, hash128{9, 9}}), "the shard was replaced");
}

BOOST_AUTO_TEST_CASE(files_that_are_no_shard) {
  scratch folder;
  const auto message = [&](const std::string& name) {
    const auto read = read_shard(*folder.disk, name);
    BOOST_TEST((read || read.error().message.find(name) != std::string::npos));
    return read ? "accepted" : read.error().message;
  };
  folder.put("empty.shard", "");
  BOOST_TEST(message("empty.shard") == "empty.shard: byte 0: 0 bytes, a token shard has a header of 168");
  BOOST_REQUIRE(write_shard(*folder.disk, "real.shard", example()).has_value());
  std::filesystem::create_symlink("real.shard", folder.path + "/link.shard");
  BOOST_TEST(message("link.shard").find("symbolic links") != std::string::npos);
  std::filesystem::create_directory(folder.path + "/folder.shard");
  BOOST_TEST(message("folder.shard").find("not a regular file") != std::string::npos);
  std::filesystem::resize_file(folder.path + "/real.shard", std::uintmax_t{1} << 40);
  BOOST_TEST(message("real.shard").find("1099511627776 bytes, at most") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_shard_replaced_while_it_is_in_use_changes_nothing) {
  scratch folder;
  BOOST_REQUIRE(write_shard(*folder.disk, "a.shard", example()).has_value());
  const auto read = read_shard(*folder.disk, "a.shard");
  BOOST_REQUIRE(read.has_value());
  std::filesystem::resize_file(folder.path + "/a.shard", 0);
  same(*read, example());
  auto other = example();
  other.content = {5, 6};
  BOOST_REQUIRE(write_shard(*folder.disk, "a.shard", other).has_value());
  const auto again = read_shard(*folder.disk, "a.shard", {"perl", 300, hash128{1, 2}, example().content});
  BOOST_TEST((again.error().code == errc::hash_mismatch));
  BOOST_TEST(again.error().message.find("a.shard: byte 112: made from content") == 0U, again.error().message);
}

BOOST_AUTO_TEST_CASE(two_shards_with_one_name) {
  scratch folder;
  BOOST_REQUIRE(write_shard(*folder.disk, "a.shard", example()).has_value());
  BOOST_REQUIRE(write_shard(*folder.disk, "b.shard", example()).has_value());
  const std::vector<std::string> paths{"a.shard", "b.shard"};
  BOOST_TEST(read_shards(*folder.disk, paths).error().message == "b.shard: byte 64: the shard's name 'perl' is also that of a.shard");
  BOOST_TEST(read_shards(*folder.disk, std::span(paths).first(1))->size() == 1U);
  BOOST_TEST((read_shard(*folder.disk, "c.shard").error().code == errc::not_found));
}

BOOST_AUTO_TEST_CASE(a_sparse_file_is_refused) {
  scratch folder;
  folder.put("s.shard", "");
  std::filesystem::resize_file(folder.path + "/s.shard", 1 << 20);
  BOOST_TEST(read_shard(*folder.disk, "s.shard").error().message.starts_with("s.shard: byte 0: not a token shard"));
  auto file = encode_shard(example());
  std::fill(file.begin() + 168, file.end(), std::byte{0});  // a hole where the tokens should be
  BOOST_TEST(decode_shard(file, "s.shard").error().message.find("checksum") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(no_damage_gets_through) {
  const auto good = encode_shard(example());
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto bad = good;
    bad[i] ^= std::byte{0x10};
    BOOST_TEST(!decode_shard(bad, "s").has_value(), "byte " << i);
    BOOST_TEST(!decode_shard(std::span(good).first(i), "s").has_value(), "length " << i);
  }
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {  // headers of noise with a good checksum: never a crash, never a huge allocation
    rng random(seed, 0, 0, draw::fault);
    auto bad = good;
    for (int i = 0; i < 3; ++i) bad[16 + random.below(80)] = static_cast<std::byte>(random.below(256));
    seal(bad);
    (void)decode_shard(bad, "s");
  }
}

BOOST_AUTO_TEST_SUITE_END()
