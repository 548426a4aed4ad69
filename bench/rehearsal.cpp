#include "bench/rehearsal.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace isthmus::bench {

namespace {

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

expected<nlohmann::json> rehearse(const std::string& program, const std::string& recipe, const std::vector<std::string>& overrides) {
  std::string command = quoted(program) + " sim " + quoted(recipe) + " --real --json";
  for (const auto& o : overrides) command += " " + quoted(o);
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return fail(errc::environment, "cannot start " + command);
  std::string said;
  char part[4096];
  for (std::size_t n = 0; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) said.append(part, n);
  const int status = ::pclose(pipe);
  auto answer = nlohmann::json::parse(said, nullptr, false);
  if (!answer.is_object() || !answer.contains("kept"))
    return fail(errc::environment, command + " ended with status " + std::to_string(status) + " and without a report");
  return answer;
}

}  // namespace isthmus::bench
