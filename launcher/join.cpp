#include "launcher/join.hpp"

#include "framework/transport/address.hpp"
#include "framework/transport/join.hpp"
#include "launcher/verbs.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <utility>

namespace isthmus::launcher {

namespace {

constexpr std::string_view heading = "isthmus join token 1";
constexpr std::size_t token_text_max = 4096;
constexpr auto patience = std::chrono::seconds(5);

unexpected trouble(errc code, const std::string& path, const std::string& what) {
  return fail(code, fmt::format("join token {}: {}", path == "-" ? "on standard input" : path, what));
}

expected<std::string> read_text(const std::string& path) {
  const int file = path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return trouble(errno == ENOENT ? errc::not_found : errc::io_failed, path, std::strerror(errno));
  struct stat found {};
  const bool examined = ::fstat(file, &found) == 0;
  std::string text(token_text_max, '\0');
  std::size_t have = 0;
  for (ssize_t n = 0; have < text.size() && (n = ::read(file, text.data() + have, text.size() - have)) > 0;)
    have += static_cast<std::size_t>(n);
  ::close(file);
  text.resize(have);
  if (path != "-" && (!examined || !S_ISREG(found.st_mode) || (found.st_mode & 07777) != 0600 || found.st_uid != ::geteuid()))
    return trouble(errc::environment, path,
                   "it must be a regular file of this user with mode 0600: chmod 600, or ask for a new token if others can have read it");
  return text;
}

/// Shows the token and hears what becomes of it.
expected<void> present(const join_token& token, const public_key& newcomer) {
  const auto to = parse_address(token.address);
  if (!to) return to.failure();
  if (const auto ok = check_allowed(*to, {true, false}); !ok) return ok;
  const int socket = ::socket(to->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval wait{std::chrono::duration_cast<std::chrono::seconds>(patience).count(), 0};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);  // bounds connect, too
  if (::connect(socket, to->get(), to->size) != 0) {
    const std::string why = std::strerror(errno);
    ::close(socket);
    return fail(errc::environment, fmt::format("cannot reach {}: {}; `isthmus keys admit` must listen there", token.address, why));
  }
  join_caller caller(token.run_id, token.desk, token.value, newcomer);
  auto outcome = expected<void>(fail(errc::refused, "join: the token names no key that could be there"));
  if (!caller.request().empty() && send_all(socket, caller.request())) {
    const auto answer = receive_exactly(socket, join_answer_bytes);
    outcome =
        answer ? caller.read_answer(*answer)
               : expected<void>(fail(errc::refused, fmt::format("join: {} ended the conversation: it is of another run or has another key",
                                                                token.address)));
  }
  ::close(socket);
  return outcome;
}

}  // namespace

expected<void> join_token::write(const std::string& path) const {
  const std::string text = fmt::format("{}\nrun {}\nsite {}\naddress {}\ndesk {}\nexpires {}\nsecret {}\n", heading, run_id, site, address,
                                       to_hex(desk), expires, token_text(value));
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return trouble(errc::environment, path, errno == EEXIST ? "it is there already" : std::strerror(errno));
  const bool written =
      ::fchmod(file, 0600) == 0 && ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(file) == 0;
  const std::string why = std::strerror(errno);
  ::close(file);
  if (written) return {};
  ::unlink(path.c_str());
  return trouble(errc::io_failed, path, why);
}

expected<join_token> join_token::read(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return text.failure();
  const auto bad = [&](const std::string& what) { return trouble(errc::malformed, path, what + "; `isthmus keys token` writes it"); };
  std::istringstream lines(*text);
  std::string line;
  if (!std::getline(lines, line) || line != heading) return bad(fmt::format("its first line is not '{}'", heading));
  std::map<std::string, std::string> fields;
  while (std::getline(lines, line)) {
    const auto blank = line.find(' ');
    if (blank == std::string::npos || !fields.emplace(line.substr(0, blank), line.substr(blank + 1)).second)
      return bad("a line is not a name and a value");
  }
  for (const char* name : {"run", "site", "address", "desk", "expires", "secret"})
    if (!fields.contains(name) || fields.size() != 6) return bad("it has not the lines run, site, address, desk, expires and secret");
  join_token token;
  token.run_id = fields["run"];
  token.site = fields["site"];
  token.address = fields["address"];
  const auto desk = parse_public_key(fields["desk"]);
  auto value = parse_token(fields["secret"]);
  if (!desk || !value) return bad("desk and secret are 64 hexadecimal digits each");
  token.desk = *desk;
  token.value = std::move(*value);
  token.expires = std::strtoll(fields["expires"].c_str(), nullptr, 10);
  return token;
}

expected<std::vector<std::byte>> receive_exactly(int socket, std::size_t bytes) {
  std::vector<std::byte> got(bytes);
  std::size_t have = 0;
  const auto until = std::chrono::steady_clock::now() + patience;
  while (have < bytes) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    pollfd p{socket, POLLIN, 0};
    if (left <= 0 || ::poll(&p, 1, static_cast<int>(left)) <= 0)
      return fail(errc::timed_out, fmt::format("{} bytes in {} s; {} belong together", have, patience.count(), bytes));
    const ssize_t n = ::recv(socket, got.data() + have, bytes - have, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      return fail(errc::disconnected, fmt::format("it ended after {} bytes", have));
    if (n > 0) have += static_cast<std::size_t>(n);
  }
  return got;
}

bool send_all(int socket, std::span<const std::byte> bytes) {  // a few hundred bytes: a socket's buffer takes them at once
  return ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

int run_join(const join_options& options, console& out) {
  const auto token = join_token::read(options.token);
  if (!token) return out.error(token.error());
  if (std::error_code failed; !std::filesystem::exists(options.key, failed)) {
    if (const auto ok = identity::generate().write(options.key); !ok) return out.error(ok.error());
    out.progress(fmt::format("made {}\n", options.key));
  }
  const auto own = identity::read(options.key);
  if (!own) return out.error(own.error());
  if (const auto ok = present(*token, own->key()); !ok) return out.error(ok.error());
  out.answer(options.json
                 ? nlohmann::json{{"schema", 1}, {"run", token->run_id}, {"site", token->site}, {"public_key", to_hex(own->key())}}.dump(
                       2, ' ', false, nlohmann::json::error_handler_t::replace) +
                       "\n"
                 : fmt::format("{} of {} has the key {}\n", token->site, token->run_id, to_hex(own->key())));
  return exit_ok;
}

}  // namespace isthmus::launcher
