#pragma once

#include <filesystem>
#include <string>
#include <sys/types.h>
#include <vector>

namespace isthmus::tests {

/// How a program ended and what it said.
struct outcome {
  int code = 0;  // exit status, or 128 + signal
  std::string out, err;
};

struct surroundings {
  std::vector<std::string> environment;  // "NAME=value", on top of PATH and HOME
  std::string folder;                    // working directory; empty: ours
  std::string output;                    // file for standard output instead of a pipe
  bool output_closed = false;
  std::size_t read_bytes_max = ~std::size_t{0};  // then our end of the pipe is closed
};

/// Runs the built `isthmus` with these arguments to its end.
outcome run_isthmus(const std::vector<std::string>& arguments, const surroundings& where = {});

/// Starts it and goes on; both streams are appended to the file `where.output`. The caller waits for the child.
pid_t start_isthmus(const std::vector<std::string>& arguments, const surroundings& where);

/// run_isthmus at a terminal of its own (both streams in `out`).
outcome run_isthmus_at_terminal(const std::vector<std::string>& arguments, const std::vector<std::string>& environment);

/// A folder that goes away again.
struct scratch_folder {
  scratch_folder();
  ~scratch_folder();
  std::filesystem::path path;
};

bool contains(const std::string& text, const std::string& part);

}  // namespace isthmus::tests
