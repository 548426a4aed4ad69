#include "framework/formats/hugging_face.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>

using namespace isthmus;
using isthmus::testing::bytes_of;
using isthmus::testing::file_text;
using isthmus::testing::safetensors_text;
using isthmus::testing::scratch_folder;

namespace {

const std::string a_header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
const std::string b_header = R"({"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}})";
constexpr const char* index_name = "model.safetensors.index.json";

template <class T>
void refused(const expected<T>& result, errc code, const std::string& part) {
  BOOST_TEST_REQUIRE(!result.has_value(), "not refused: " << part);
  BOOST_TEST(describe(result.error().code) == describe(code), result.error().message);
  BOOST_TEST(result.error().message.find(part) != std::string::npos, result.error().message << " lacks: " << part);
}

/// A folder of two good shards whose index is to be broken.
struct two_shards : scratch_folder {
  two_shards() {
    write("one.safetensors", safetensors_text(a_header, 8));
    write("two.safetensors", safetensors_text(b_header, 4));
    write(index_name, R"({"metadata":{"total_size":12},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(hugging_face_test)

BOOST_AUTO_TEST_CASE(one_file_of_the_reference_package) {
  scratch_folder folder;
  folder.write("model.safetensors", file_text("tests/golden/safetensors.safetensors"));
  const auto weights = open_hugging_face(folder.path());
  BOOST_TEST_REQUIRE(weights.has_value());
  BOOST_TEST(weights->tensors.size() == 8U);
  const stored_tensor* t = weights->tensors.find("model.embed_tokens.weight");
  BOOST_TEST_REQUIRE(t != nullptr);
  BOOST_TEST(shape_text(t->shape) == "[3, 4]");
  std::vector<float> values(12);
  BOOST_TEST_REQUIRE(t->read_floats(values).has_value());
  BOOST_TEST(values[0] == -1.0F);
  BOOST_TEST(values[11] == 0.375F);
  std::vector<float> half(3);
  BOOST_TEST_REQUIRE(weights->tensors.find("half")->read_floats(half).has_value());
  BOOST_TEST((half == std::vector<float>{0.5F, -2.0F, 65504.0F}));
  std::vector<float> part(2);
  BOOST_TEST_REQUIRE(t->read_floats(10, part).has_value());
  BOOST_TEST(part[1] == values[11]);
  std::vector<float> ids(2);
  refused(weights->tensors.find("ids")->read_floats(ids), errc::unsupported, "tensor \"ids\" is I64, from which there are no fp32 numbers");
  BOOST_CHECK_THROW(static_cast<void>(t->read_floats(part)), contract_error);
  BOOST_CHECK_THROW(static_cast<void>(t->read_floats(11, part)), contract_error);
  BOOST_TEST(weights->tensors.find("none such") == nullptr);
}

BOOST_AUTO_TEST_CASE(shards_are_one_list) {
  two_shards folder;
  const auto weights = open_hugging_face(folder.path());
  BOOST_TEST_REQUIRE(weights.has_value());
  BOOST_TEST(weights->tensors.size() == 2U);
  const std::vector<std::int64_t> shape{2, 1}, wrong{1, 2};
  BOOST_TEST(weights->tensors.expect("b", shape, "f").has_value());
  refused(weights->tensors.expect("b", wrong, "f"), errc::unsupported, "tensor \"b\" is [2, 1], the configuration asks for [1, 2]");
  refused(weights->tensors.expect("c", shape, "f"), errc::not_found, "f: no tensor \"c\"");
}

BOOST_AUTO_TEST_CASE(a_shard_cut_after_it_was_opened_is_an_error) {
  two_shards folder;
  const auto weights = *open_hugging_face(folder.path());
  std::filesystem::resize_file(folder.path() + "/one.safetensors", 20);
  std::vector<float> values(2);
  refused(weights.tensors.find("a")->read_floats(values), errc::truncated, "one.safetensors: shrank");
}

BOOST_AUTO_TEST_CASE(an_index_that_leads_out_of_its_folder) {
  two_shards folder;
  for (const char* name : {"/etc/passwd.safetensors", "../one.safetensors", "sub/one.safetensors", "..", "", ".safetensors", "one.bin",
                           "a\\\\b.safetensors", "a\\u0000.safetensors", ".hidden.safetensors"}) {
    folder.write(index_name, std::string(R"({"weight_map":{"a":")") + name + R"("}})");
    refused(open_hugging_face(folder.path()), errc::refused, "must be the plain name of a .safetensors file in the same folder");
  }
  std::filesystem::rename(folder.path() + "/one.safetensors", folder.path() + "/kept");
  std::filesystem::create_symlink("kept", folder.path() + "/one.safetensors");
  folder.write(index_name, R"({"weight_map":{"a":"one.safetensors"}})");
  refused(open_hugging_face(folder.path()), errc::refused, "is a symbolic link");
}

BOOST_AUTO_TEST_CASE(an_index_and_shards_that_disagree) {
  two_shards folder;
  const auto with = [&](const std::string& map, errc code, const std::string& part) {
    folder.write(index_name, R"({"weight_map":)" + map + "}");
    refused(open_hugging_face(folder.path()), code, part);
  };
  with(R"({"a":"one.safetensors","b":"three.safetensors"})", errc::not_found, "names the shard three.safetensors, which is not there");
  with(R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})", errc::not_found,
       "weight_map says that tensor \"c\" is in two.safetensors, which does not hold it");
  with(R"({"c":"one.safetensors"})", errc::malformed, "one.safetensors: tensor \"a\" is not in weight_map for this shard");
  with(R"({"a":"two.safetensors","b":"one.safetensors"})", errc::malformed,
       "tensor \"a\" is not in weight_map for this shard, but for two");
  folder.write("two.safetensors", safetensors_text(a_header, 8));  // one tensor in two shards
  with(R"({"a":"one.safetensors","b":"two.safetensors"})", errc::malformed,
       "two.safetensors: tensor \"a\" is not in weight_map for this shard");
}

BOOST_AUTO_TEST_CASE(an_index_that_is_none) {
  two_shards folder;
  const auto with = [&](const std::string& text, errc code, const std::string& part) {
    folder.write(index_name, text);
    refused(open_hugging_face(folder.path()), code, part);
  };
  with("", errc::malformed, "not valid JSON");
  with("[]", errc::malformed, "must be an object with weight_map");
  with("{}", errc::malformed, "weight_map must be an object");
  with(R"({"weight_map":{}})", errc::malformed, "weight_map must be an object");
  with(R"({"weight_map":{"a":7}})", errc::malformed, "weight_map \"a\": must be a file name");
  with(R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})", errc::malformed, "key \"a\" stands twice");
  with(R"({"weight_map":{"a":"one.safetensors"},"more":1})", errc::malformed, "unknown key \"more\"");
  with(R"({"metadata":[[[[[[[[[[1]]]]]]]]]],"weight_map":{"a":"one.safetensors"}})", errc::malformed, "nested deeper than 8");
  std::string many = R"({"weight_map":{)";
  for (int i = 0; i < 513; ++i) many += (i > 0 ? "," : "") + ("\"t" + std::to_string(i) + "\":\"s" + std::to_string(i)) + ".safetensors\"";
  with(many + "}}", errc::too_large, "names more than 512 shards");
  with("{\"weight_map\":{\"\xff\":\"one.safetensors\"}}", errc::malformed, "not valid JSON");
}

BOOST_AUTO_TEST_CASE(folders_without_safetensors) {
  scratch_folder folder;
  refused(open_hugging_face(folder.path()), errc::not_found, "neither model.safetensors nor model.safetensors.index.json is there");
  refused(open_hugging_face(folder.path() + "/missing"), errc::not_found, "neither");
  folder.write("pytorch_model.bin", "x");
  refused(open_hugging_face(folder.path()), errc::unsupported, "is a pickle, which can run code");
}

// The rules for one file are those of docs/checkpoint.md; here they must hold without reading the data.
BOOST_AUTO_TEST_CASE(hostile_headers) {
  scratch_folder folder;
  const auto with = [&](const std::string& text, errc code, const std::string& part) {
    folder.write("model.safetensors", text);
    refused(open_hugging_face(folder.path()), code, part);
  };
  with("", errc::truncated, "0 bytes, a safetensors file has at least 8");
  with("1234567", errc::truncated, "7 bytes");
  with(std::string(16, '\0'), errc::malformed, "header size is 0");
  with(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10), errc::too_large, "header size 100000001, at most 100000000");
  with(safetensors_text(a_header, 8).substr(0, 30), errc::truncated, "goes past the end");
  with(safetensors_text("[]", 0), errc::malformed, "must begin with '{'");
  with(safetensors_text(a_header, 7), errc::truncated, "go past the end");
  with(safetensors_text(a_header, 9), errc::malformed, "1 bytes behind the last tensor");
  const auto entry = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  with(safetensors_text(entry("F4", "[2]", "[0,8]"), 8), errc::unsupported, "unknown dtype \"F4\", known are BOOL");
  with(safetensors_text(entry("F32", "[4294967296,4294967296,8]", "[0,8]"), 8), errc::out_of_range, "overflows");
  with(safetensors_text(entry("F32", "[3]", "[0,8]"), 8), errc::malformed, "hold 8 bytes, shape and dtype need 12");
  with(safetensors_text(entry("F32", "[2]", "[8,0]"), 8), errc::malformed, "run backwards");
  with(safetensors_text(entry("F32", "[-2]", "[0,8]"), 8), errc::malformed, "not a whole number");
  const std::string one = a_header.substr(0, a_header.size() - 1);
  with(safetensors_text(one + R"(,"a":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})", 8), errc::malformed, "\"a\" stands twice");
  with(safetensors_text(one + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8), errc::malformed, "overlaps");
  with(safetensors_text(one + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", 16), errc::malformed, "a hole before it");
}

BOOST_AUTO_TEST_CASE(what_is_written_in_shards_is_read_again) {
  std::vector<std::vector<float>> numbers;
  std::vector<tensor_view> views;
  for (std::size_t i = 0; i < 7; ++i) numbers.push_back(std::vector<float>(i == 3 ? 40 : 10, static_cast<float>(i)));
  for (std::size_t i = 0; i < 7; ++i) views.push_back(view_of("t" + std::to_string(i), std::span<const float>(numbers[i])));
  const std::vector<std::uint16_t> halves{0x3c00, 0xc000};
  views.push_back({"h", dtype::f16, {2}, std::as_bytes(std::span(halves))});

  scratch_folder folder;
  BOOST_TEST_REQUIRE(write_hugging_face(folder.disk(), "out", views, {100, {{"format", "pt"}}}).has_value());
  const auto names = folder.disk().list("out");  // 40 + 40 | 40 | 160 | 40 + 40 | 40 + 4
  BOOST_TEST(names.size() == 6U);
  BOOST_TEST(names[0] == "model-00001-of-00005.safetensors");
  const auto index = nlohmann::json::parse(file_text(folder.path() + "/out/" + index_name));
  BOOST_TEST(index["metadata"]["total_size"] == 404);
  BOOST_TEST(index["weight_map"]["t3"] == "model-00003-of-00005.safetensors");
  const auto weights = open_hugging_face(folder.path() + "/out");
  BOOST_TEST_REQUIRE(weights.has_value());
  BOOST_TEST(weights->tensors.size() == 8U);
  for (std::size_t i = 0; i < 7; ++i) {
    std::vector<float> back(numbers[i].size());
    BOOST_TEST_REQUIRE(weights->tensors.find("t" + std::to_string(i))->read_floats(back).has_value());
    BOOST_TEST(back == numbers[i], boost::test_tools::per_element());
  }
  std::vector<float> back(2);
  BOOST_TEST_REQUIRE(weights->tensors.find("h")->read_floats(back).has_value());
  BOOST_TEST((back == std::vector<float>{1.0F, -2.0F}));
  refused(write_hugging_face(folder.disk(), "out", views), errc::refused, "holds model-00001-of-00005.safetensors already");

  BOOST_TEST_REQUIRE(write_hugging_face(folder.disk(), "single", views).has_value());
  BOOST_TEST(folder.disk().list("single").size() == 1U);
  BOOST_TEST(open_hugging_face(folder.path() + "/single")->tensors.size() == 8U);
  views.push_back(views[0]);
  BOOST_CHECK_THROW(static_cast<void>(write_hugging_face(folder.disk(), "twice", views, {10, {}})), contract_error);
}

BOOST_AUTO_TEST_CASE(tensors_larger_than_a_piece_are_read_in_pieces) {
  std::vector<float> numbers(700'001);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i) / 8;
  scratch_folder folder;
  BOOST_TEST_REQUIRE(write_hugging_face(folder.disk(), "out", std::vector{view_of("t", std::span<const float>(numbers))}).has_value());
  std::vector<float> back(numbers.size());
  const auto weights = *open_hugging_face(folder.path() + "/out");
  BOOST_TEST_REQUIRE(weights.tensors.find("t")->read_floats(back).has_value());
  BOOST_TEST((back == numbers));
}

BOOST_AUTO_TEST_CASE(the_first_number_that_is_not_finite_is_told_by_its_place) {
  std::vector<float> numbers(3 * 200'000, 1.0F);
  scratch_folder folder;
  const auto read = [&](const std::string& name, std::int64_t begin) {
    const std::vector<std::int64_t> shape{3, 200'000};
    const std::vector<tensor_view> views{{"t", dtype::f32, shape, std::as_bytes(std::span(numbers))}};
    BOOST_TEST_REQUIRE(write_hugging_face(folder.disk(), name, views).has_value());
    std::vector<float> back(numbers.size() - static_cast<std::size_t>(begin));
    return open_hugging_face(folder.path() + "/" + name)->tensors.find("t")->read_finite(begin, back);
  };
  BOOST_TEST(read("sound", 0).has_value());
  numbers[500'000] = std::numeric_limits<float>::quiet_NaN();  // in the second piece of 1 MiB
  numbers[500'001] = std::numeric_limits<float>::infinity();
  numbers[3] = std::numeric_limits<float>::max();
  refused(read("first", 0), errc::not_finite, "model.safetensors: tensor \"t\" holds nan at [2, 100000], and weights must be finite");
  refused(read("part", 400'000), errc::not_finite, "holds nan at [2, 100000]");
  numbers[500'000] = 0;
  refused(read("second", 0), errc::not_finite, "holds inf at [2, 100001]");
}

BOOST_AUTO_TEST_SUITE_END()
