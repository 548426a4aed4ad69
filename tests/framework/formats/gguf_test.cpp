#include "framework/formats/gguf.hpp"
#include "tests/framework/formats/gguf_builder.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>

#include <bit>
#include <filesystem>
#include <limits>

using namespace isthmus;
using isthmus::testing::gguf_builder;
using isthmus::testing::scratch_folder;
using b = gguf_builder;

namespace {

constexpr const char* golden = "tests/golden/formats/golden.gguf";

expected<gguf_file> open(std::vector<std::byte> bytes) { return open_gguf(memory_source(std::move(bytes), "x.gguf")); }

void refused(const gguf_builder& file, errc code, const std::string& part) {
  const auto result = open(file.bytes());
  BOOST_TEST_REQUIRE(!result.has_value(), "not refused: " << part);
  BOOST_TEST(describe(result.error().code) == describe(code), result.error().message);
  BOOST_TEST(result.error().message.find(part) != std::string::npos, result.error().message << " lacks: " << part);
  BOOST_TEST(result.error().message.starts_with("x.gguf: "), result.error().message);
}

template <class T>
const T& held(const gguf_file& file, const char* key) {
  BOOST_TEST_REQUIRE(file.find(key) != nullptr, key);
  BOOST_TEST_REQUIRE(std::holds_alternative<T>(file.find(key)->data), key);
  return std::get<T>(file.find(key)->data);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gguf_test)

BOOST_AUTO_TEST_CASE(values_that_the_reference_package_wrote) {
  const auto file = open_gguf(*open_source(golden));
  BOOST_TEST_REQUIRE(file.has_value(), (file ? "" : file.error().message));
  BOOST_TEST(file->version == 3U);
  using whole = std::uint64_t;
  using with_sign = std::int64_t;
  BOOST_TEST(held<whole>(*file, "value.u8") == 200U);
  BOOST_TEST(held<whole>(*file, "value.u16") == 60000U);
  BOOST_TEST(held<whole>(*file, "value.u32") == 4000000000U);
  BOOST_TEST(held<whole>(*file, "value.u64") == std::numeric_limits<whole>::max());
  BOOST_TEST(held<with_sign>(*file, "value.i8") == -100);
  BOOST_TEST(held<with_sign>(*file, "value.i16") == -30000);
  BOOST_TEST(held<with_sign>(*file, "value.i32") == -2000000000);
  BOOST_TEST(held<with_sign>(*file, "value.i64") == std::numeric_limits<with_sign>::min());
  BOOST_TEST(held<double>(*file, "value.f32") == static_cast<double>(0.1F));
  BOOST_TEST(held<double>(*file, "value.f64") == 0.1);
  BOOST_TEST(held<bool>(*file, "value.bool"));
  BOOST_TEST(held<std::string>(*file, "value.text") == "größe");
  BOOST_TEST((held<std::vector<with_sign>>(*file, "value.numbers") == std::vector<with_sign>{1, -2, 3}));
  BOOST_TEST((held<std::vector<double>>(*file, "value.floats") == std::vector<double>{0.5, -1.5}));
  BOOST_TEST((held<std::vector<std::string>>(*file, "value.texts") == std::vector<std::string>{"a", "", "b"}));
  const auto& nested = held<gguf_value::list>(*file, "value.nested");
  BOOST_TEST_REQUIRE(nested.size() == 2U);
  BOOST_TEST((std::get<std::vector<with_sign>>(nested[1].data) == std::vector<with_sign>{3}));

  BOOST_TEST(*file->whole("value.u32") == 4000000000);
  BOOST_TEST(describe(file->whole("value.u64").error().code) == "out_of_range");
  BOOST_TEST(describe(file->whole("value.i8").error().code) == "out_of_range");
  BOOST_TEST(describe(file->whole("value.text").error().code) == "malformed");
  BOOST_TEST(describe(file->whole("value.none").error().code) == "not_found");
  BOOST_TEST(*file->number("value.i8") == -100.0);
  BOOST_TEST(*file->number("value.f64") == 0.1);
  BOOST_TEST(*file->flag("value.bool"));
  BOOST_TEST(describe(file->flag("value.u8").error().code) == "malformed");
  BOOST_TEST(*file->text("general.architecture") == "llama");
}

BOOST_AUTO_TEST_CASE(each_encoding_gives_the_bits_of_the_reference_package) {
  const auto file = *open_gguf(*open_source(golden));
  int compared = 0;
  for (const char* name : {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"}) {
    const stored_tensor* t = file.tensors.find(std::string("x.") + name);
    const stored_tensor* wanted = file.tensors.find(std::string("x.") + name + ".expected");
    BOOST_TEST_REQUIRE((t != nullptr && wanted != nullptr), name);
    BOOST_TEST(t->encoding->name == name);
    BOOST_TEST(t->shape == wanted->shape, boost::test_tools::per_element());
    std::vector<float> found(static_cast<std::size_t>(t->count())), expected_values(found.size());
    BOOST_TEST_REQUIRE(t->read_floats(found).has_value());
    BOOST_TEST_REQUIRE(wanted->read_floats(expected_values).has_value());
    for (std::size_t i = 0; i < found.size(); ++i, ++compared)
      BOOST_TEST_REQUIRE(std::bit_cast<std::uint32_t>(found[i]) == std::bit_cast<std::uint32_t>(expected_values[i]),
                         name << "[" << i << "]: " << found[i] << ", expected " << expected_values[i]);
    const auto block = t->encoding->block;  // and a block by itself
    std::vector<float> one(static_cast<std::size_t>(block));
    BOOST_TEST_REQUIRE(t->read_floats(block, one).has_value());
    BOOST_TEST(std::memcmp(one.data(), found.data() + block, one.size() * sizeof(float)) == 0, name);
  }
  BOOST_TEST(compared == 3 * 30 + 3 * 384 + 2 * 1536);
}

BOOST_AUTO_TEST_CASE(shapes_are_row_major) {
  const auto file = *open_gguf(*open_source(golden));
  BOOST_TEST(shape_text(file.tensors.find("x.F32")->shape) == "[2, 3, 5]");
}

BOOST_AUTO_TEST_CASE(small_files_of_both_versions) {
  for (const std::uint32_t version : {2U, 3U}) {
    const auto file = open(b().head(1, 0, version).tensor("t", {2}, 0, 0).pad().zeros(8).bytes());
    BOOST_TEST_REQUIRE(file.has_value());
    BOOST_TEST(file->version == version);
    BOOST_TEST(file->tensors.find("t")->bytes == 8U);
  }
  BOOST_TEST(open(b().head(0, 0).bytes()).has_value());
  BOOST_TEST(open(b().head(1, 0).tensor("t", {}, 0, 0).pad().zeros(4).bytes())->tensors.find("t")->count() == 1);
  // Another alignment, and a last tensor with the padding that writers leave behind it.
  const auto file = open(b().head(2, 1)
                             .key("general.alignment", b::u32)
                             .add(std::uint32_t{64})
                             .tensor("a", {3}, 0, 0)
                             .tensor("b", {1}, 0, 64)
                             .pad(64)
                             .zeros(128)
                             .bytes());
  BOOST_TEST_REQUIRE(file.has_value());
  BOOST_TEST(file->tensors.find("b")->offset % 64 == 0U);
}

BOOST_AUTO_TEST_CASE(a_file_of_every_type) {
  const auto file = open(isthmus::testing::every_type_gguf());
  BOOST_TEST_REQUIRE(file.has_value(), (file ? "" : file.error().message));
  BOOST_TEST(file->metadata.size() == 25U);
  BOOST_TEST(file->tensors.size() == 8U);
}

BOOST_AUTO_TEST_CASE(fronts_that_are_none) {
  refused(b(), errc::truncated, "byte 0: magic: 1 of 4 bytes go past the end");
  refused(b().raw("GGML").zeros(20), errc::malformed, "byte 0: does not begin with \"GGUF\"");
  refused(b().head(0, 0, 1), errc::unsupported, "byte 4: version 1, only versions 2 and 3");
  refused(b().head(0, 0, 4), errc::unsupported, "version 4");
  refused(b().head(0, 0, 0x03000000), errc::unsupported, "big-endian file");
  refused(b().raw("GGUF").add(std::uint32_t{3}).zeros(7), errc::truncated, "tensor count");
  refused(b().head(~std::uint64_t{0}, 0), errc::too_large, "18446744073709551615 tensors, at most 1048576 allowed");
  refused(b().head(0, std::uint64_t{1} << 63), errc::too_large, "keys, at most 65536 allowed");
  refused(b().head(0, 1), errc::truncated, "byte 24: key");
  refused(b().head(1, 0), errc::truncated, "byte 24: tensor name");
}

BOOST_AUTO_TEST_CASE(hostile_metadata) {
  const auto huge = ~std::uint64_t{0};
  refused(b().head(0, 1).add(huge), errc::too_large, "key: 18446744073709551615 bytes long, at most 65535 allowed");
  refused(b().head(0, 1).add(std::uint64_t{100}).raw("abc"), errc::truncated, "key: 100 of 1 bytes go past the end");
  refused(b().head(0, 1).text_key("", "x"), errc::malformed, "a key must be UTF-8 text and not empty");
  refused(b().head(0, 1).text_key("\xff", "x"), errc::malformed, "a key must be UTF-8");
  refused(b().head(0, 2).text_key("k", "x").text_key("k", "y"), errc::malformed, "key \"k\" stands twice");
  refused(b().head(0, 1).add_text("k").add(std::uint32_t{13}), errc::malformed, "value type 13, known are 0 to 12, in the value of \"k\"");
  refused(b().head(0, 1).key("k", b::boolean).add(std::uint8_t{2}), errc::malformed, "a bool is 2");
  refused(b().head(0, 1).array_key("k", b::boolean, 2).add(std::uint8_t{1}).add(std::uint8_t{7}), errc::malformed, "a bool is 7");
  refused(b().head(0, 1).key("k", b::text).add(std::uint64_t{17 << 20}), errc::too_large, "at most 16777216 allowed");
  refused(b().head(0, 1).key("k", b::f64).zeros(7), errc::truncated, "value: 1 of 8 bytes go past the end");
  // Counts that would wrap, or ask for memory that the file cannot fill.
  for (const auto& [kind, bytes] : {std::pair{b::u8, 1}, {b::i16, 2}, {b::f32, 4}, {b::u64, 8}, {b::boolean, 1}})
    refused(b().head(0, 1).array_key("k", kind, huge), errc::truncated, "array: 18446744073709551615 of " + std::to_string(bytes));
  refused(b().head(0, 1).array_key("k", b::u64, (huge >> 3) + 1).zeros(64), errc::truncated, "array: 2305843009213693952 of 8");
  refused(b().head(0, 1).array_key("k", b::text, huge), errc::truncated, "array of strings");
  refused(b().head(0, 1).array_key("k", b::array, huge), errc::truncated, "array of arrays");
  refused(b().head(0, 1).add_text("k").add(b::array).add(std::uint32_t{99}).add(std::uint64_t{0}), errc::malformed, "array of type 99");
  gguf_builder deep;
  deep.head(0, 1).key("k", b::array);
  for (int level = 0; level < 10; ++level) deep.add(b::array).add(std::uint64_t{1});
  refused(deep.zeros(100), errc::malformed, "arrays nested deeper than 4 levels");
  gguf_builder four;  // and four are allowed
  four.head(0, 1).key("k", b::array);
  for (int level = 0; level < 3; ++level) four.add(b::array).add(std::uint64_t{1});
  BOOST_TEST(open(four.add(b::u8).add(std::uint64_t{0}).bytes()).has_value());
}

BOOST_AUTO_TEST_CASE(hostile_alignment_and_split_files) {
  for (const std::uint32_t value : {0U, 1U, 4U, 24U, 0x80000000U})
    refused(b().head(0, 1).key("general.alignment", b::u32).add(value), errc::out_of_range, "a power of two from 8 to 1048576 is allowed");
  refused(b().head(0, 1).text_key("general.alignment", "32"), errc::malformed, "\"general.alignment\" must be a whole number");
  refused(b().head(0, 1).key("split.count", b::u16).add(std::uint16_t{3}), errc::unsupported, "is one of 3 parts (split.count): join them");
}

BOOST_AUTO_TEST_CASE(hostile_tensor_infos) {
  const auto with = [](const std::vector<std::uint64_t>& dimensions, std::uint32_t kind, std::uint64_t offset) {
    return b().head(1, 0).tensor("t", dimensions, kind, offset).pad().zeros(64);
  };
  const auto big = std::uint64_t{1} << 32;
  refused(with({big, big, 8}, 0, 0), errc::out_of_range, "tensor \"t\": the product of its dimensions overflows");
  refused(with({~std::uint64_t{0}}, 0, 0), errc::out_of_range, "overflows");
  refused(with({0, 4}, 0, 0), errc::malformed, "a dimension is 0");
  refused(with({1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 0), errc::malformed, "9 dimensions, at most 8 allowed");
  refused(with({16}, 10, 0), errc::unsupported, "tensor \"t\": is Q2_K, only F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K are read");
  refused(with({16}, 1000, 0), errc::unsupported, "is type 1000, only");
  refused(with({16, 2}, 8, 0), errc::malformed, "its rows of 16 numbers are no multiple of the 32 of a block of Q8_0");
  refused(with({}, 8, 0), errc::malformed, "its rows of 1 numbers");
  refused(with({4}, 0, 4), errc::malformed, "its offset 4 is no multiple of the alignment 32");
  refused(with({4}, 0, 32), errc::malformed, "there is a hole before it");
  refused(with({17}, 0, 0), errc::truncated, "its 68 bytes at 0 go past the end, the file has 64 bytes of data");
  refused(with({std::uint64_t{1} << 50}, 0, 0), errc::truncated, "go past the end");
  refused(with({4}, 0, 0), errc::malformed, "48 bytes behind the last tensor");
  refused(b().head(1, 0).tensor("", {1}, 0, 0), errc::malformed, "a tensor's name must be UTF-8 text and not empty");
  refused(b().head(1, 0).add(std::uint64_t{1000}), errc::too_large, "tensor name: 1000 bytes long, at most 256 allowed");
  refused(b().head(1, 0).tensor("t", {1}, 0, 0), errc::truncated, "the file has 0 bytes of data");  // without the padding
  const auto two = [](std::uint64_t second, const char* name) {
    return b().head(2, 0).tensor("t", {10}, 0, 0).tensor(name, {10}, 0, second).pad().zeros(128);
  };
  BOOST_TEST(open(two(64, "u").bytes()).has_value());
  refused(two(32, "u"), errc::malformed, "tensor \"u\": begins at byte 32 of the data, expected 64: it overlaps another tensor");
  refused(two(0, "u"), errc::malformed, "it overlaps another tensor");
  refused(two(96, "u"), errc::malformed, "there is a hole before it");
  refused(two(64, "t"), errc::malformed, "tensor \"t\" stands twice");
}

BOOST_AUTO_TEST_CASE(every_truncation_and_flipped_bit_of_the_front_is_survived) {
  const auto whole = isthmus::testing::small_gguf();
  BOOST_TEST_REQUIRE(open(whole).has_value());
  for (std::size_t n = 0; n < whole.size(); ++n)
    BOOST_TEST_REQUIRE(!open({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}).has_value());
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    auto flipped = whole;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    const auto file = open(std::move(flipped));
    if (file)
      for (const auto& t : file->tensors.all()) BOOST_TEST_REQUIRE(t.offset + t.bytes <= whole.size());
  }
}

BOOST_AUTO_TEST_CASE(a_file_cut_after_it_was_opened_is_an_error) {
  scratch_folder folder;
  folder.write("x.gguf", isthmus::testing::file_text(golden));
  const auto file = *open_gguf(*open_source(folder.path(), "x.gguf"));
  std::filesystem::resize_file(folder.path() + "/x.gguf", 30'000);
  std::vector<float> values(30);
  const auto result = file.tensors.find("x.F32")->read_floats(values);
  BOOST_TEST_REQUIRE(!result.has_value());
  BOOST_TEST(describe(result.error().code) == "truncated");
}

BOOST_AUTO_TEST_SUITE_END()
