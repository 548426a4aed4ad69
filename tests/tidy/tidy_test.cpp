#include "tests/tidy/tidy.hpp"

#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

using namespace isthmus::tidy;

namespace {
std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
std::size_t count(const std::string& path, const std::string& text, bool has_own_header = false) {
  return check_includes(path, text, has_own_header).size();
}
}  // namespace

BOOST_AUTO_TEST_SUITE(tidy_test)

BOOST_AUTO_TEST_CASE(the_tree_is_tidy) {
  const auto files = source_files();
  BOOST_TEST(files.size() > 20U);
  for (const auto& path : files) {
    const std::string text = content(path);
    const std::string stem = path.substr(0, path.rfind('.'));
    const bool has_own_header = path.ends_with(".cpp") && std::filesystem::exists(stem + ".hpp");
    for (const auto& finding : check_includes(path, text, has_own_header)) BOOST_ERROR(finding);
    for (const auto& finding : check_text(path, text)) BOOST_ERROR(finding);
    for (const auto& finding : check_links(path, text)) BOOST_ERROR(finding);
  }
}

BOOST_AUTO_TEST_CASE(includes_go_one_way) {
  const auto including = [](const char* target) { return "#include \"" + std::string(target) + "\"\n"; };
  BOOST_TEST(count("framework/data/a.cpp", including("kernels/op.hpp")) == 0U);
  BOOST_TEST(count("kernels/cpu/a.cpp", including("framework/core/error.hpp")) == 1U);
  BOOST_TEST(count("framework/data/a.cpp", including("actors/device.hpp")) == 1U);
  BOOST_TEST(count("actors/a.cpp", including("launcher/verbs.hpp")) == 1U);
  BOOST_TEST(count("launcher/a.cpp", including("actors/device.hpp")) == 0U);
  BOOST_TEST(count("launcher/a.cpp", including("examples/b.hpp")) == 1U);
  BOOST_TEST(count("actors/a.cpp", including("tests/b.hpp")) == 1U);
  BOOST_TEST(count("framework/data/a.cpp", including("shard.hpp")) == 1U);
  BOOST_TEST(count("framework/data/a.cpp", "  #  include \"actors/device.hpp\"\n") == 1U);
  BOOST_TEST(count("tests/actors/a_test.cpp", including("launcher/verbs.hpp")) == 0U);
}

BOOST_AUTO_TEST_CASE(libraries_stay_where_they_belong) {
  BOOST_TEST(count("framework/transport/ucx.cpp", "#include <ucp/api/ucp.h>\n") == 0U);
  BOOST_TEST(count("framework/transport/ucx.hpp", "#pragma once\n#include <ucp/api/ucp.h>\n") == 1U);
  BOOST_TEST(count("framework/rounds/a.cpp", "#include <ucp/api/ucp.h>\n") == 1U);
  BOOST_TEST(count("framework/transport/a.cpp", "#include <sodium.h>\n") == 0U);
  BOOST_TEST(count("framework/transport/a.hpp", "#pragma once\n#include <sodium.h>\n") == 1U);
  BOOST_TEST(count("launcher/a.cpp", "#include <sodium.h>\n") == 1U);
  BOOST_TEST(count("framework/wire/a.cpp", "#include <capnp/message.h>\n#include \"frame.capnp.h\"\n") == 0U);
  BOOST_TEST(count("framework/wire/a.hpp", "#pragma once\n#include \"framework/wire/frame.capnp.h\"\n") == 1U);
  BOOST_TEST(count("actors/a.cpp", "#include \"framework/wire/frame.capnp.h\"\n") == 1U);
  BOOST_TEST(count("framework/core/a.cpp", "#include <caf/actor.hpp>\n") == 1U);
  BOOST_TEST(count("actors/a.hpp", "#pragma once\n#include <caf/actor.hpp>\n") == 0U);
  BOOST_TEST(count("actors/a.hpp", "#pragma once\n#include <caf/all.hpp>\n") == 1U);
  BOOST_TEST(count("framework/sim/a.hpp", "#pragma once\n#include \"framework/transport/transport.hpp\"\n") == 0U);
  BOOST_TEST(count("framework/rounds/a.cpp", "#include \"framework/transport/ucx.hpp\"\n") == 1U);
  BOOST_TEST(count("framework/data/a.hpp", "#pragma once\n#include <nlohmann/json_fwd.hpp>\n") == 0U);
  BOOST_TEST(count("framework/data/a.hpp", "#pragma once\n#include <nlohmann/json.hpp>\n") == 1U);
}

BOOST_AUTO_TEST_CASE(headers_come_in_order) {
  BOOST_TEST(count("framework/data/a.hpp", "// words\n#pragma once\n") == 1U);
  BOOST_TEST(count("framework/data/a.cpp", "#include <vector>\n#include \"framework/data/a.hpp\"\n", true) == 1U);
  BOOST_TEST(count("framework/data/a.cpp", "#include \"framework/data/a.hpp\"\n#include <vector>\n", true) == 0U);
}

BOOST_AUTO_TEST_CASE(text_is_clean) {
  BOOST_TEST(check_text("a.cpp", "int a;\n").empty());
  BOOST_TEST(check_text("a.cpp", "int a;").size() == 1U);
  BOOST_TEST(check_text("a.cpp", "int a; \n").size() == 1U);
  BOOST_TEST(check_text("a.cpp", "\tint a;\n").size() == 1U);
  BOOST_TEST(check_text("Makefile", "\tmake\n").empty());
  BOOST_TEST(check_text("a.cpp", "int a;\r\n").size() == 1U);
  BOOST_TEST(check_text("a.md", std::string("see /wo") + "rk/main\n").size() == 1U);
}

BOOST_AUTO_TEST_CASE(links_lead_to_files) {
  BOOST_TEST(check_links("docs/a.md", "see [b](model.md#memory), [c](layers/moe.md), [d](#here), [e](https://example.org/f.md)\n").empty());
  BOOST_TEST(check_links("docs/layers/a.md", "see [b](model.md)\n").size() == 1U);
  BOOST_TEST(check_links("docs/layers/a.md", "see [b](../model.md)\n").empty());
  BOOST_TEST(check_links("docs/a.cpp", "f[0](none.md)\n").empty());
}

BOOST_AUTO_TEST_SUITE_END()
