#include "framework/transport/token_book.hpp"

#include "framework/core/descriptor.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

namespace isthmus {

namespace {

constexpr std::string_view heading = "isthmus join tokens 1";
constexpr std::size_t entries_max = 10'000, text_bytes_max = entries_max * 128;

unexpected trouble(errc code, const std::string& path, const std::string& what) { return fail(code, "token file " + path + ": " + what); }

unexpected system_trouble(const std::string& path, const std::string& what) {
  return trouble(errno == ENOSPC || errno == EDQUOT ? errc::disk_full : errc::io_failed, path, what + ": " + std::strerror(errno));
}

/// Held while the book is changed.
expected<std::unique_ptr<descriptor>> lock(const std::string& path) {
  const std::string file = path + ".lock";
  auto held = std::make_unique<descriptor>(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (held->get() < 0 || ::flock(held->get(), LOCK_EX) != 0) return system_trouble(file, "it cannot be locked");
  return held;
}

expected<token_book::entry> parse(const std::string& line, const std::string& path) {
  token_book::entry one;
  std::istringstream words(line);
  std::string hash, state, more;
  words >> one.site >> hash >> one.expires >> state;
  const bool whole = !words.fail() && !(words >> more) && (state == "open" || state == "used");
  const auto bytes = parse_public_key(hash);  // 64 digits, too
  if (!whole || !bytes) return trouble(errc::malformed, path, "'" + line.substr(0, 100) + "' is not site, hash, expiry and open or used");
  one.hash = *bytes;
  one.used = state == "used";
  return one;
}

}  // namespace

expected<std::vector<token_book::entry>> token_book::read() const {
  std::vector<entry> all;
  const descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file.get() < 0 && errno == ENOENT) return all;
  if (file.get() < 0) return system_trouble(path_, "it cannot be opened");
  struct stat found {};
  if (::fstat(file.get(), &found) != 0) return system_trouble(path_, "it cannot be examined");
  if (!S_ISREG(found.st_mode) || (found.st_mode & 07777) != 0600 || found.st_uid != ::geteuid())
    return trouble(errc::environment, path_, "it must be a regular file of this user with mode 0600");
  if (static_cast<std::size_t>(found.st_size) > text_bytes_max)
    return trouble(errc::too_large, path_, "more than " + std::to_string(text_bytes_max) + " bytes");
  std::string text(static_cast<std::size_t>(found.st_size), '\0');
  if (::read(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return system_trouble(path_, "it cannot be read");
  std::istringstream lines(text);
  std::string line;
  if (!std::getline(lines, line) || line != heading)
    return trouble(errc::malformed, path_, "its first line is not '" + std::string(heading) + "'");
  while (std::getline(lines, line)) {
    auto one = parse(line, path_);
    if (!one) return one.failure();
    all.push_back(*one);
  }
  return all;
}

expected<void> token_book::write(const std::vector<entry>& all) const {
  std::string text = std::string(heading) + "\n";
  for (const auto& e : all)
    text += std::to_string(e.site) + " " + to_hex(e.hash) + " " + std::to_string(e.expires) + (e.used ? " used\n" : " open\n");
  const std::string made = path_ + ".new";
  ::unlink(made.c_str());
  {
    const descriptor file(::open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() < 0 || ::fchmod(file.get(), 0600) != 0) return system_trouble(made, "it cannot be made");
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file.get()) != 0)
      return system_trouble(made, "it cannot be written");
  }
  if (::rename(made.c_str(), path_.c_str()) != 0) return system_trouble(path_, "it cannot be replaced");
  const std::size_t slash = path_.rfind('/');
  const descriptor folder(
      ::open(slash == std::string::npos ? "." : path_.substr(0, slash + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || ::fsync(folder.get()) != 0) return system_trouble(path_, "its folder cannot be synced");
  return {};
}

expected<void> token_book::add(const entry& one) {
  const auto held = lock(path_);
  if (!held) return held.failure();
  auto all = read();
  if (!all) return all.failure();
  if (all->size() >= entries_max) return trouble(errc::too_large, path_, "it holds " + std::to_string(entries_max) + " tokens already");
  all->push_back(one);
  return write(*all);
}

expected<site_id> token_book::use(const token_hash& token, std::int64_t now) {
  const auto held = lock(path_);
  if (!held) return held.failure();
  auto all = read();
  if (!all) return all.failure();
  const auto found =
      std::find_if(all->begin(), all->end(), [&](const entry& e) { return sodium_memcmp(e.hash.data(), token.data(), token.size()) == 0; });
  if (found == all->end()) return fail(errc::not_found, "this token was never given out for this run");
  if (found->used) return fail(errc::refused, "this token was used before; ask for a new one");
  if (now >= found->expires) return fail(errc::timed_out, "this token expired; ask for a new one");
  found->used = true;
  if (const auto ok = write(*all); !ok) return ok.failure();
  return found->site;
}

}  // namespace isthmus
