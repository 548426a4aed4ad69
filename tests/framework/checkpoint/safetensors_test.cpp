#include "framework/checkpoint/safetensors.hpp"

#include "framework/sim/disk.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

using namespace isthmus;

namespace {

std::vector<std::byte> file_of(const std::string& header, std::size_t data_bytes) {
  std::vector<std::byte> bytes(8);
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xFF);
  for (const char c : header) bytes.push_back(static_cast<std::byte>(c));
  bytes.resize(bytes.size() + data_bytes, std::byte{1});
  return bytes;
}

/// The file must be refused with this code, in words that name the file and contain `says`.
void refused(std::vector<std::byte> bytes, errc code, const std::string& says) {
  const auto parsed = parse_safetensors(std::move(bytes), "dir/x.safetensors");
  BOOST_TEST_CONTEXT("expected: " << describe(code) << " ... " << says) {
    BOOST_REQUIRE(!parsed.has_value());
    const std::string message = parsed.error().message;
    BOOST_TEST(describe(parsed.error().code) == describe(code), message);
    BOOST_TEST(message.find("dir/x.safetensors: ") == 0U, message);
    BOOST_TEST(message.find(says) != std::string::npos, message);
  }
}
void refused(const std::string& header, std::size_t data_bytes, errc code, const std::string& says) {
  refused(file_of(header, data_bytes), code, says);
}

template <class T>
std::vector<T> numbers(const tensor_view& t) {
  std::vector<T> out(t.bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), t.bytes.data(), t.bytes.size());
  return out;
}

const std::string one = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors_test)

BOOST_AUTO_TEST_CASE(a_file_of_the_reference_package_loads) {
  auto disk = *open_disk("tests/golden");
  auto file = read_safetensors(*disk, "safetensors.safetensors", 1 << 20);
  BOOST_REQUIRE(file.has_value());
  BOOST_TEST(file->metadata.at("step") == "7");
  BOOST_REQUIRE(file->tensors.size() == 8U);
  const auto* weight = file->find("model.embed_tokens.weight");
  BOOST_REQUIRE(weight != nullptr);
  BOOST_TEST(weight->shape == (std::vector<std::int64_t>{3, 4}), boost::test_tools::per_element());
  const auto values = numbers<float>(*weight);
  for (std::size_t i = 0; i < 12; ++i) BOOST_TEST(values[i] == static_cast<float>(i) / 8 - 1);
  BOOST_TEST(numbers<std::int64_t>(*file->find("ids"))[1] == std::int64_t{1} << 40);
  BOOST_TEST(numbers<std::uint64_t>(*file->find("keys"))[0] == std::numeric_limits<std::uint64_t>::max());
  BOOST_TEST(numbers<std::uint16_t>(*file->find("half"))[2] == 0x7BFFU);  // 65504
  BOOST_TEST(numbers<std::uint8_t>(*file->find("flags"))[2] == 1);
  BOOST_TEST(numbers<double>(*file->find("scalar"))[0] == 3.25);
  BOOST_TEST(file->find("scalar")->shape.empty());
  BOOST_TEST(file->find("none")->bytes.empty());
}

// The golden script reads what this writes when ISTHMUS_WRITE_SAFETENSORS names a folder; the bytes are compared here in any case.
BOOST_AUTO_TEST_CASE(what_is_written_is_what_was_read) {
  auto golden_disk = *open_disk("tests/golden");
  auto golden = *read_safetensors(*golden_disk, "safetensors.safetensors", 1 << 20);
  const char* folder = std::getenv("ISTHMUS_WRITE_SAFETENSORS");
  sim::disk memory;
  auto disk = folder != nullptr ? *open_disk(folder) : memory.open("d");
  auto digest = write_safetensors(*disk, "ours.safetensors", golden.tensors, golden.metadata);
  BOOST_REQUIRE(digest.has_value());
  auto bytes = *disk->read("ours.safetensors", 1 << 20);
  BOOST_TEST(bytes.size() == digest->bytes);
  BOOST_TEST((hash_bytes(bytes) == digest->hash));
  auto again = *parse_safetensors(std::move(bytes), "ours");
  BOOST_TEST((again.metadata == golden.metadata));
  BOOST_REQUIRE(again.tensors.size() == golden.tensors.size());
  for (const auto& t : golden.tensors) {
    const auto* found = again.find(t.name);
    BOOST_REQUIRE(found != nullptr);
    BOOST_TEST((found->type == t.type && found->shape == t.shape));
    BOOST_TEST(std::equal(found->bytes.begin(), found->bytes.end(), t.bytes.begin(), t.bytes.end()));
    BOOST_TEST((found->bytes.data() - again.bytes->data()) % static_cast<std::ptrdiff_t>(dtype_bytes(t.type)) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_broken_frame_is_refused) {
  refused(std::vector<std::byte>(7), errc::truncated, "7 bytes");
  refused(std::vector<std::byte>(8), errc::malformed, "byte 0: header size is 0");
  auto long_header = file_of("{}", 0);
  long_header[0] = std::byte{3};
  refused(long_header, errc::truncated, "header size 3 goes past the end");
  refused(std::vector<std::byte>(8, std::byte{0xFF}), errc::too_large, "header size 18446744073709551615");
  refused(" {}", 0, errc::malformed, "byte 8: the header must begin with '{'");
  refused("[]", 0, errc::malformed, "must begin with '{'");
  refused("{" + one, 8, errc::malformed, "not valid JSON: byte ");
  refused("{\"\xFF\":1}", 0, errc::malformed, "not valid JSON: byte ");
  refused(std::string("{}\0", 3), 0, errc::malformed, "not valid JSON");
  refused("{}{}", 0, errc::malformed, "not valid JSON");
  refused("{" + one + "," + one + "}", 8, errc::malformed, "\"a\" stands twice");
  refused(R"({"__metadata__":{"a":"x","a":"y"}})", 0, errc::malformed, "\"a\" stands twice");
  refused(R"({"a":{"dtype":[[[[[1]]]]]}})", 0, errc::malformed, "nested deeper");
}

BOOST_AUTO_TEST_CASE(broken_entries_are_refused) {
  refused(R"({"a":7})", 0, errc::malformed, "tensor \"a\": must be an object");
  refused(R"({"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4, errc::malformed, "needs a name");
  refused(R"({"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}})", 8, errc::unsupported, "unknown dtype \"Q4\", known are BOOL");
  refused(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, errc::malformed, "dtype must be a string");
  refused(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8, errc::malformed, "shape must be an array");
  refused(R"({"a":{"dtype":"F32","shape":[2]}})", 8, errc::malformed, "data_offsets must be two whole numbers");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8, errc::malformed, "two whole numbers");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8]}})", 8, errc::malformed, "two whole numbers");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8, errc::malformed, "two whole numbers");
  refused(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, errc::malformed, "not a whole number below 2^63");
  refused(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, errc::malformed, "not a whole number");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", 8, errc::malformed, "unknown key \"more\"");
  refused(R"({"__metadata__":7})", 0, errc::malformed, "__metadata__ must be an object");
  refused(R"({"__metadata__":{"k":7}})", 0, errc::malformed, "\"k\" must be a string");
}

BOOST_AUTO_TEST_CASE(sizes_that_wrap_are_refused) {
  // 2^62 * 4 bytes = 2^64: wraps to 0; 2^32 * 2^32 + 2 elements wrap to 8 bytes.
  refused(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0, errc::out_of_range, "overflows 64 bits");
  refused(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, errc::out_of_range, "overflows 64 bits");
  refused(R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}})", 0, errc::malformed, "below 2^63");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]}})", 8, errc::truncated,
          "go past the end");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]}})", 8, errc::malformed, "two whole numbers");
}

BOOST_AUTO_TEST_CASE(ranges_must_tile_the_data) {
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, errc::malformed, "run backwards");
  refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, errc::malformed, "hold 8 bytes, shape and dtype need 12");
  refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})", 8, errc::truncated, "go past the end");
  refused("{" + one + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, errc::malformed, "overlaps");
  refused("{" + one + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8, errc::malformed, "overlaps");
  refused("{" + one + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", 16, errc::malformed, "a hole before it");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, errc::malformed, "a hole before it");
  refused("{" + one + "}", 9, errc::malformed, "1 bytes behind the last tensor");
  refused("{}", 1, errc::malformed, "1 bytes behind the last tensor");
  // Tensors without bytes share a boundary, as the reference implementation has it; inside another tensor they may not lie.
  const std::string empty =
      R"(,"b":{"dtype":"F32","shape":[0],"data_offsets":[8,8]},"c":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]}})";
  BOOST_TEST(parse_safetensors(file_of("{" + one + empty, 8), "x").has_value());
  refused("{" + one + R"(,"b":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})", 8, errc::malformed, "overlaps");
  BOOST_TEST(parse_safetensors(file_of("{}", 0), "x")->tensors.empty());
}

BOOST_AUTO_TEST_CASE(every_truncation_and_every_flipped_header_bit_is_survived) {
  const auto whole = file_of("{" + one + "}", 8);
  for (std::size_t n = 0; n < whole.size(); ++n)
    BOOST_TEST(!parse_safetensors({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}, "x").has_value());
  for (std::size_t bit = 0; bit < (whole.size() - 8) * 8; ++bit) {
    auto flipped = whole;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    const auto parsed = parse_safetensors(std::move(flipped), "x");
    if (parsed)
      for (const auto& t : parsed->tensors) BOOST_TEST(t.bytes.size() <= 8U);
  }
}

BOOST_AUTO_TEST_CASE(headers_at_the_edge_of_what_is_allowed) {
  auto bytes = file_of("{}", 0);
  for (const auto& [size, code] : {std::pair{std::uint64_t{100'000'001}, errc::too_large},
                                   {std::uint64_t{100'000'000}, errc::truncated},
                                   {std::uint64_t{1} << 63, errc::too_large},
                                   {~std::uint64_t{7}, errc::too_large}}) {
    std::memcpy(bytes.data(), &size, 8);
    refused(bytes, code, "byte 0: header size " + std::to_string(size));
  }
}

BOOST_AUTO_TEST_CASE(one_name_spelt_twice) {
  refused("{" + one + R"(,"\u0061":{"dtype":"F32","shape":[],"data_offsets":[8,12]}})", 12, errc::malformed, "\"a\" stands twice");
  refused("{" + one + R"(,"__metadata__":{},"__metadata__":{}})", 8, errc::malformed, "\"__metadata__\" stands twice");
  refused("{" + one + R"(,"\ud800":{}})", 8, errc::malformed, "not valid JSON: byte ");  // a lone surrogate
}

BOOST_AUTO_TEST_CASE(metadata_holds_text_and_nothing_else) {
  for (const char* value : {"7", "null", "[]", "true", R"({"b":"c"})"})
    refused("{" + one + R"(,"__metadata__":{"a":)" + value + "}}", 8, errc::malformed, "__metadata__ \"a\" must be a string");
  for (const char* value : {"7", "null", "[]", "\"a\""})
    refused("{" + one + R"(,"__metadata__":)" + value + "}", 8, errc::malformed, "__metadata__ must be an object");
}

// Each dtype with a shape whose bytes wrap, with one item too many, and with too little data behind it.
BOOST_AUTO_TEST_CASE(shapes_that_do_not_give_the_bytes_of_the_offsets) {
  for (const auto type : {dtype::u8, dtype::bf16, dtype::f32, dtype::u64}) {
    const auto entry = [&](const std::string& shape) {
      return R"({"a":{"dtype":")" + std::string(dtype_name(type)) + R"(","shape":)" + shape + R"(,"data_offsets":[0,8]}})";
    };
    refused(entry("[4294967296,4294967296,8]"), 8, errc::out_of_range, "tensor \"a\": the product of its shape overflows");
    refused(entry("[9223372036854775807,3]"), 8, errc::out_of_range, "overflows");
    refused(entry("[9]"), 8, errc::malformed, "hold 8 bytes, shape and dtype need " + std::to_string(9 * dtype_bytes(type)));
    refused(entry("[]"), 4, errc::truncated, "data_offsets [0, 8) go past the end, the file has 4 bytes of data");
  }
}

BOOST_AUTO_TEST_CASE(more_tensors_than_the_model_has) {
  std::string header = "{" + one;
  for (int i = 0; i < 20'000; ++i) header += ",\"t" + std::to_string(i) + R"(":{"dtype":"F32","shape":[0],"data_offsets":[8,8]})";
  const auto file = parse_safetensors(file_of(header + "}", 8), "dir/x.safetensors");
  BOOST_REQUIRE(file.has_value());
  BOOST_TEST(file->tensors.size() == 20'001U);
  parameter_layout layout;
  layout.add("a", {2}, true);
  std::vector<float> flat(static_cast<std::size_t>(layout.size));
  BOOST_TEST(file->copy_to(layout, flat).error().message == "dir/x.safetensors: tensor \"t0\" is none of the model's");
}

// A file is read whole before it is parsed: what happens to it afterwards is not seen.
BOOST_AUTO_TEST_CASE(a_file_cut_while_it_is_in_use_changes_nothing) {
  const std::string path = (std::filesystem::temp_directory_path() / ("isthmus-cut-" + std::to_string(getpid()))).string();
  {
    auto disk = *open_disk(path);
    BOOST_REQUIRE(disk->write_synced("f", file_of("{" + one + "}", 8)).has_value());
    const auto file = *read_safetensors(*disk, "f", 1 << 20);
    std::filesystem::resize_file(path + "/f", 20);
    std::vector<float> values(2);
    BOOST_TEST(file.copy_to("a", values).has_value());
    BOOST_TEST(values[1] != 0.0F);
    const auto again = read_safetensors(*disk, "f", 1 << 20);
    BOOST_TEST((again.error().code == errc::truncated));
    BOOST_TEST(again.error().message.find("f: byte 0: header size") == 0U, again.error().message);
  }
  std::filesystem::remove_all(path);
}

BOOST_AUTO_TEST_CASE(links_folders_and_large_files_are_refused) {
  const std::string path = (std::filesystem::temp_directory_path() / ("isthmus-safetensors-" + std::to_string(getpid()))).string();
  {
    auto disk = *open_disk(path);
    const auto bytes = file_of("{" + one + "}", 8);
    BOOST_REQUIRE(disk->write_synced("real", bytes).has_value());
    std::filesystem::create_symlink("real", path + "/link");
    BOOST_REQUIRE(disk->make_folders("folder").has_value());
    BOOST_TEST(read_safetensors(*disk, "real", bytes.size()).has_value());
    BOOST_TEST(!read_safetensors(*disk, "link", 1000).has_value());
    BOOST_TEST(!read_safetensors(*disk, "folder", 1000).has_value());
    BOOST_TEST(describe(read_safetensors(*disk, "real", bytes.size() - 1).error().code) == "too_large");
    BOOST_TEST(describe(read_safetensors(*disk, "missing", 1000).error().code) == "not_found");
  }
  std::filesystem::remove_all(path);
}

BOOST_AUTO_TEST_CASE(a_layout_comes_back_slot_by_slot) {
  parameter_layout layout;
  layout.add("w", {3, 5}, true);
  layout.add("g", {7}, false);
  std::vector<float> flat(static_cast<std::size_t>(layout.size));
  for (const auto& slot : layout.slots)
    for (std::int64_t i = 0; i < slot.count; ++i) flat[static_cast<std::size_t>(slot.offset + i)] = static_cast<float>(slot.offset + i);
  sim::disk memory;
  auto disk = memory.open("d");
  BOOST_REQUIRE(write_safetensors(*disk, "f", views_of(layout, flat)).has_value());
  auto file = *read_safetensors(*disk, "f", 1 << 20);
  std::vector<float> back(flat.size());
  BOOST_REQUIRE(file.copy_to(layout, back).has_value());
  BOOST_TEST(back == flat, boost::test_tools::per_element());

  parameter_layout other = layout;
  other.slots[1].shape = {7, 1};
  BOOST_TEST(file.copy_to(other, back).error().message.find("is F32 [7], the model has F32 [7, 1]") != std::string::npos);
  other = layout;
  other.add("h", {1}, false);
  std::vector<float> larger(static_cast<std::size_t>(other.size));
  BOOST_TEST(file.copy_to(other, larger).error().message.find("no tensor \"h\"") != std::string::npos);
  parameter_layout fewer;
  fewer.add("w", {3, 5}, true);
  std::vector<float> smaller(static_cast<std::size_t>(fewer.size));
  BOOST_TEST(file.copy_to(fewer, smaller).error().message.find("\"g\" is none of the model's") != std::string::npos);
  std::vector<std::uint64_t> words(7);
  BOOST_TEST(describe(file.copy_to("g", words).error().code) == "unsupported");
}

BOOST_AUTO_TEST_CASE(our_own_mistakes_are_bugs) {
  sim::disk memory;
  auto disk = memory.open("d");
  const std::vector<float> values(3);
  tensor_view wrong = view_of("a", std::span<const float>(values));
  wrong.shape = {4};
  BOOST_CHECK_THROW(static_cast<void>(write_safetensors(*disk, "f", std::vector{wrong})), contract_error);
  const tensor_view a = view_of("a", std::span<const float>(values));
  BOOST_CHECK_THROW(static_cast<void>(write_safetensors(*disk, "f", std::vector{a, a})), contract_error);
  BOOST_CHECK_THROW(static_cast<void>(write_safetensors(*disk, "f", std::vector{view_of("__metadata__", std::span<const float>(values))})),
                    contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
