#include "framework/metrics/tables.hpp"
#include "framework/wire/wire.hpp"
#include "launcher/build_info.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace isthmus::launcher {

int run_version(const version_options& options, console& out) {
  if (!options.json) {
    out.answer(fmt::format("isthmus {}\n", build_version));
    return exit_ok;
  }
  const nlohmann::json answer{{"schema", 1},
                              {"name", "isthmus"},
                              {"version", build_version},
                              {"wire_version", wire::version},
                              {"run_store_version", tables::version},
                              {"compiler", build_compiler},
                              {"build_type", build_type},
                              {"cuda", build_cuda}};
  out.answer(answer.dump(2) + "\n");
  return exit_ok;
}

}  // namespace isthmus::launcher
