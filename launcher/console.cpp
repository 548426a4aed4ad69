#include "launcher/console.hpp"

#include "framework/metrics/terminal.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace isthmus::launcher {

namespace {

/// All of it, or an errno.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool locale_is_utf8() {
  std::setlocale(LC_CTYPE, "");
  return std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
}

/// For errors that our own verbs find: the stable word of docs/errors.md.
std::string_view word_of(exit_code code) {
  switch (code) {
    case exit_usage: return describe(errc::usage);
    case exit_recipe: return describe(errc::recipe_invalid);
    case exit_environment: return describe(errc::environment);
    case exit_file: return describe(errc::malformed);
    case exit_refused: return describe(errc::refused);
    case exit_violated: return describe(errc::ledger_violated);
    default: return "failed";
  }
}

}  // namespace

console::console(settings wanted) : settings_(wanted) {
  const auto term = environment("TERM");
  const bool moves = !term.empty() && term != "dumb";
  answer_is_terminal_ = ::isatty(STDOUT_FILENO) == 1;
  progress_is_terminal_ = ::isatty(STDERR_FILENO) == 1 && moves;
  const bool allowed = wanted.colour == colour_choice::automatic && environment("NO_COLOR").empty() && moves;
  colour_answer_ = wanted.colour == colour_choice::always || (allowed && answer_is_terminal_);
  colour_progress_ = wanted.colour == colour_choice::always || (allowed && progress_is_terminal_);
  unicode_ = locale_is_utf8();
}

void console::answer(std::string_view text) {
  answer_begun_ = true;
  if (answer_closed_) return;
  if (const int failed = write_all(STDOUT_FILENO, text); failed != 0) {
    answer_closed_ = true;
    if (failed != EPIPE) answer_errno_ = failed;
  }
}

void console::progress(std::string_view text) {
  if (!settings_.quiet) write_all(STDERR_FILENO, text);
}

void console::warn(std::string_view text) { write_all(STDERR_FILENO, fmt::format("{}: {}\n", amber("warning"), text)); }

exit_code console::error(const isthmus::error& e) {
  write_all(STDERR_FILENO, fmt::format("{}: {} [{}]\n", red("error"), printable(e.message), describe(e.code)));
  answer_error(describe(e.code), e.message);
  return exit_code_of(e.code);
}

exit_code console::error(exit_code code, std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const bool shaped = text.starts_with("error[") || text.starts_with("warning[");
  write_all(STDERR_FILENO, shaped ? fmt::format("{}\n", printable(text)) : fmt::format("{}: {}\n", red("error"), printable(text)));
  answer_error(word_of(code), text);
  return code;
}

void console::answer_error(std::string_view word, std::string_view text) {
  if (!settings_.json || answer_begun_) return;
  const nlohmann::json object{{"schema", 1}, {"error", {{"code", word}, {"message", text}}}};
  answer(object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

int console::finish(int code) {
  if (answer_errno_ == 0 || code != exit_ok) return code;
  return error(exit_environment, fmt::format("cannot write the answer to standard output: {}", std::strerror(answer_errno_)));
}

int console::columns() const {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

int console::rows() const {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0) return size.ws_row;
  return 24;
}

std::string console::paint(std::string_view text, const char* code) const {
  return colour_progress_ ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

std::string shell_word(const std::string& path) {
  constexpr const char* plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./+:,@%=";
  if (!path.empty() && path.find_first_not_of(plain) == std::string::npos) return path;
  std::string out = "'";
  for (const char c : path) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

void open_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd) ::_exit(exit_environment);
}

}  // namespace isthmus::launcher
