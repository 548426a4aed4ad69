#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace isthmus::tidy {

/// One rule that a file breaks, ready to be shown: "framework/a.cpp:3: ...".
using findings = std::vector<std::string>;

/// Checks one source file against the directions of includes (kernels <- framework <- actors <- launcher, examples), the
/// libraries that only some folders may see, and the order of headers.
/// path: from the root, '/'-separated. has_own_header: a header of the same name lies beside it.
findings check_includes(const std::string& path, std::string_view text, bool has_own_header);

/// Checks the bytes of any text file: no tab, no carriage return, no blank at a line's end, a newline at the end, no path of a
/// developer's machine, no unfinished-work marks. Line lengths are clang-format's affair.
findings check_text(const std::string& path, std::string_view text);

/// Checks that each link of a Markdown page to another file of the tree leads to one: "[text](../page.md#part)".
findings check_links(const std::string& path, std::string_view text);

/// Every file below the root (the working directory) that the two checks apply to.
std::vector<std::string> source_files();

}  // namespace isthmus::tidy
