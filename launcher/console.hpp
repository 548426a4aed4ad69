#pragma once

#include "framework/core/exit_code.hpp"

#include <string>
#include <string_view>

namespace isthmus::launcher {

enum class colour_choice { automatic, always, never };

/// The user's terminal. The answer goes to standard output, progress and errors to standard error; colour only where it is wanted.
class console {
public:
  struct settings {
    bool quiet = false;
    bool json = false;  // an error is also an answer: one JSON object on standard output
    colour_choice colour = colour_choice::automatic;
  };
  /// Reads NO_COLOR, TERM and the locale once.
  explicit console(settings wanted);

  /// Part of the answer. A reader that has gone away (EPIPE) is no error: the rest is dropped. Any other failure is, see finish().
  void answer(std::string_view text);
  /// Progress, dropped when quiet.
  void progress(std::string_view text);
  /// Never dropped.
  void warn(std::string_view text);
  /// `error: ...` in the shape of docs/errors.md; gives the exit code for it. With json also {"schema", "error": {"code", "message"}}
  /// as the answer, where none was begun.
  exit_code error(const isthmus::error& e);
  exit_code error(exit_code code, std::string_view text);

  /// The exit code of a verb that ended with `code`: 4 when its answer could not be written.
  int finish(int code);

  bool quiet() const { return settings_.quiet; }
  bool answer_is_terminal() const { return answer_is_terminal_; }
  bool progress_is_terminal() const { return progress_is_terminal_; }  // and can move the cursor
  bool colour_answer() const { return colour_answer_; }
  bool colour_progress() const { return colour_progress_; }
  bool unicode() const { return unicode_; }
  /// Columns and rows of the terminal at standard error; 80 x 24 when there is none.
  int columns() const;
  int rows() const;

  std::string red(std::string_view text) const { return paint(text, "31"); }
  std::string green(std::string_view text) const { return paint(text, "32"); }
  std::string amber(std::string_view text) const { return paint(text, "33"); }
  std::string bold(std::string_view text) const { return paint(text, "1"); }
  std::string dim(std::string_view text) const { return paint(text, "2"); }

private:
  std::string paint(std::string_view text, const char* code) const;  // for standard error
  void answer_error(std::string_view word, std::string_view text);

  settings settings_;
  bool answer_is_terminal_ = false, progress_is_terminal_ = false, colour_answer_ = false, colour_progress_ = false, unicode_ = false;
  bool answer_begun_ = false, answer_closed_ = false;
  int answer_errno_ = 0;
};

/// A path as one word of a command that the user may copy into a shell: in single quotes where it needs them.
std::string shell_word(const std::string& path);

/// Standard descriptors that the caller closed are opened on /dev/null, so that no file of ours takes their place.
void open_standard_descriptors();

}  // namespace isthmus::launcher
