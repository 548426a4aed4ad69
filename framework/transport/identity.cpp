#include "framework/transport/identity.hpp"

#include "framework/core/descriptor.hpp"
#include "framework/transport/greeting.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

namespace isthmus {

namespace {

static_assert(std::tuple_size_v<public_key> == crypto_scalarmult_BYTES && secret::size == crypto_scalarmult_SCALARBYTES);

// One line: what it is, then 64 hexadecimal digits.
constexpr std::string_view file_front = "isthmus secret key 1: ";
constexpr std::size_t digits = 2 * secret::size, file_bytes = file_front.size() + digits + 1;
constexpr mode_t file_mode = 0600;

/// Locked memory for the text of a key file.
struct wiped_text {
  wiped_text() : text(static_cast<char*>(sodium_malloc(file_bytes))) {
    if (text == nullptr) throw std::bad_alloc();
  }
  ~wiped_text() { sodium_free(text); }
  wiped_text(const wiped_text&) = delete;
  wiped_text& operator=(const wiped_text&) = delete;
  char* text;
};

unexpected trouble(errc code, const std::string& path, const std::string& what) { return fail(code, "key file " + path + ": " + what); }

unexpected system_trouble(const std::string& path, const std::string& what) {
  return trouble(errno == ENOSPC || errno == EDQUOT ? errc::disk_full : errc::io_failed, path, what + ": " + std::strerror(errno));
}

std::string octal(mode_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%04o", static_cast<unsigned>(mode & 07777));
  return text;
}

expected<void> check_private(int file, const std::string& path) {
  struct stat found {};
  if (::fstat(file, &found) != 0) return system_trouble(path, "it cannot be examined");
  if (!S_ISREG(found.st_mode)) return trouble(errc::environment, path, "it is not a regular file; make a new key");
  if ((found.st_mode & 07777) != file_mode)
    return trouble(errc::environment, path,
                   "its mode is " + octal(found.st_mode) + ", only 0600 is allowed; if nobody else can have read it: chmod 600 " + path +
                       ", else remove it and make a new key");
  if (found.st_uid != ::geteuid())
    return trouble(errc::environment, path,
                   "it belongs to user " + std::to_string(found.st_uid) + ", this process runs as user " + std::to_string(::geteuid()) +
                       "; make a key of its own for this user");
  if (static_cast<std::size_t>(found.st_size) != file_bytes)
    return trouble(
        errc::malformed, path,
        std::to_string(found.st_size) + " bytes, a key file has " + std::to_string(file_bytes) + "; remove it and make a new key");
  return {};
}

expected<void> sync_folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const descriptor open_folder(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (open_folder.get() < 0 || ::fsync(open_folder.get()) != 0) return system_trouble(path, "its folder cannot be synced");
  return {};
}

expected<void> write_all(int file, std::span<const char> text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(file, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_trouble(path, "it cannot be written");
    text = text.subspan(static_cast<std::size_t>(n));
  }
  if (::fsync(file) != 0) return system_trouble(path, "it cannot be synced");
  return {};
}

}  // namespace

std::string to_hex(const public_key& key) {
  std::string text(2 * key.size() + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), reinterpret_cast<const unsigned char*>(key.data()), key.size());
  text.pop_back();
  return text;
}

expected<public_key> parse_public_key(std::string_view hex) {
  public_key key{};
  std::size_t bytes = 0;
  const bool whole = hex.size() == 2 * key.size() && hex.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  if (!whole ||
      sodium_hex2bin(reinterpret_cast<unsigned char*>(key.data()), key.size(), hex.data(), hex.size(), nullptr, &bytes, nullptr) != 0)
    return fail(errc::malformed, "a public key is 64 lower-case hexadecimal digits, this has " + std::to_string(hex.size()) +
                                     " characters" + (hex.size() == 2 * key.size() ? ", not all of them such digits" : ""));
  return key;
}

identity::identity() {
  start_sodium();
  secret_ = static_cast<unsigned char*>(sodium_malloc(secret::size));
  if (secret_ == nullptr) throw std::bad_alloc();
}

identity::identity(identity&& other) noexcept : secret_(std::exchange(other.secret_, nullptr)), public_(other.public_) {}

identity::~identity() { sodium_free(secret_); }

void identity::derive_public() { crypto_scalarmult_base(reinterpret_cast<unsigned char*>(public_.data()), secret_); }

identity identity::generate() {
  identity made;
  randombytes_buf(made.secret_, secret::size);
  made.derive_public();
  return made;
}

identity identity::of(const secret& key) {
  identity made;
  std::memcpy(made.secret_, key.raw(), secret::size);
  made.derive_public();
  return made;
}

bool identity::agree(const public_key& theirs, secret& shared) const {
  return crypto_scalarmult(shared.raw(), secret_, reinterpret_cast<const unsigned char*>(theirs.data())) == 0;
}

expected<identity> identity::read(const std::string& path) {
  const descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file.get() < 0 && errno == ENOENT) return trouble(errc::not_found, path, "it is missing");
  if (file.get() < 0 && errno == ELOOP) return trouble(errc::environment, path, "it is a symbolic link; put the file itself there");
  if (file.get() < 0) return system_trouble(path, "it cannot be opened");
  if (const auto ok = check_private(file.get(), path); !ok) return ok.failure();
  identity found;
  const wiped_text whole;
  if (::read(file.get(), whole.text, file_bytes) != static_cast<ssize_t>(file_bytes)) return system_trouble(path, "it cannot be read");
  const std::string_view front(whole.text, file_front.size());
  std::size_t bytes = 0;
  if (front != file_front || whole.text[file_bytes - 1] != '\n' ||
      sodium_hex2bin(found.secret_, secret::size, whole.text + file_front.size(), digits, nullptr, &bytes, nullptr) != 0 ||
      bytes != secret::size)
    return trouble(errc::malformed, path,
                   "it is not '" + std::string(file_front) + "' and 64 hexadecimal digits; remove it and make a new key");
  found.derive_public();
  return found;
}

expected<void> identity::write(const std::string& path) const {
  const descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, file_mode));
  if (file.get() < 0 && errno == EEXIST) return trouble(errc::environment, path, "it is there already; a key is never overwritten");
  if (file.get() < 0) return system_trouble(path, "it cannot be made");
  if (::fchmod(file.get(), file_mode) != 0) return system_trouble(path, "its mode cannot be set");  // whatever the umask left of it
  const wiped_text whole;
  std::memcpy(whole.text, file_front.data(), file_front.size());
  char* hex = whole.text + file_front.size();
  sodium_bin2hex(hex, digits + 1, secret_, secret::size);
  hex[digits] = '\n';
  if (const auto ok = write_all(file.get(), std::span(whole.text, file_bytes), path); !ok) {
    ::unlink(path.c_str());  // ours, made a moment ago: half a key is none
    return ok;
  }
  return sync_folder_of(path);
}

expected<void> identity::replace(const std::string& path) const {
  if (const auto there = read(path); !there) return there.failure();
  const std::string made = path + ".new";
  ::unlink(made.c_str());  // of a replacement that was cut short: nobody has used it
  if (const auto ok = write(made); !ok) return ok;
  if (::rename(made.c_str(), path.c_str()) != 0) return system_trouble(path, "it cannot be replaced");
  return sync_folder_of(path);
}

expected<void> check_keys(const link_keys& keys, site_id self) {
  const auto own = keys.roster.find(self);
  if (own == keys.roster.end() || own->second != keys.own.key())
    return fail(errc::environment, "keys: the roster names " +
                                       (own == keys.roster.end() ? "no key" : "the public key " + to_hex(own->second)) + " for " +
                                       name_of(self) + ", whose key file has " + to_hex(keys.own.key()) +
                                       "; both are written by the launcher: bring them from the same run");
  std::map<public_key, site_id> seen;
  for (const auto& [site, key] : keys.roster)
    if (const auto [other, is_new] = seen.emplace(key, site); !is_new)
      return fail(errc::environment,
                  "keys: " + name_of(site) + " and " + name_of(other->second) + " have the same public key; each needs its own");
  return {};
}

}  // namespace isthmus
