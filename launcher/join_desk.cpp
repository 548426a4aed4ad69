#include "framework/core/descriptor.hpp"
#include "framework/core/clock.hpp"
#include "framework/transport/address.hpp"
#include "framework/transport/call_limits.hpp"
#include "framework/transport/token_book.hpp"
#include "launcher/join.hpp"
#include "launcher/keys.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <utility>

namespace isthmus::launcher {

namespace {

constexpr std::int64_t expires_seconds_max = 30 * 24 * 3600;
constexpr double handshakes_burst = 16, handshakes_per_second = 2;  // of one address; more are not looked at

std::string book_path(const run_folder& run) { return run.path + "/sites/coordinator/tokens"; }

/// "90s", "15m", "1h", "7d" -> seconds.
expected<std::int64_t> parse_span(const std::string& text) {
  std::int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, number);
  const std::string_view unit(stop, static_cast<std::size_t>(end - stop));
  const std::int64_t times = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  if (status != std::errc() || times == 0 || number < 1 || number > expires_seconds_max / times)
    return fail(errc::usage, fmt::format("--expires {}: a number and s, m, h or d, at most 30d", text));
  return number * times;
}

/// Of the coordinator, and the roster that goes with it.
expected<std::pair<run_folder, identity>> open_desk(const std::string& typed) {
  const auto path = find_run(typed);
  if (!path) return path.failure();
  auto run = open_run_folder(*path);
  if (!run) return run.failure();
  auto own = identity::read(key_path(*run, coordinator_id));
  if (!own) return own.failure();
  return std::pair(std::move(*run), std::move(*own));
}

/// Enters the key. A site whose key came from elsewhere has no secret half here any more.
expected<void> enter(const std::string& path, site_id site, const public_key& key) {
  auto run = open_run_folder(path);
  if (!run) return run.failure();
  if (site >= run->people.sites.size()) return fail(errc::malformed, fmt::format("{}: no site {} in the roster", path, site));
  for (const auto& other : run->people.sites)
    if (other.key == to_hex(key) && other.id != site) return fail(errc::refused, fmt::format("{} has this key already", other.name));
  if (run->people.coordinator_key == to_hex(key)) return fail(errc::refused, "the coordinator has this key already");
  run->people.sites[site].key = to_hex(key);
  run->people.sites[site].key_elsewhere = true;
  std::error_code failed;
  std::filesystem::remove(key_path(*run, site), failed);
  if (failed) return fail(errc::io_failed, fmt::format("{}: {}", key_path(*run, site), failed.message()));
  return write_roster(path, run->people);
}

/// Admits newcomers, one at a time, until no token is left.
class desk {
public:
  desk(const run_folder& run, const identity& own, console& out) : run_(run), own_(own), out_(out), book_(book_path(run)) {}

  expected<void> serve(const std::string& listen) {
    auto at = parse_address(listen);
    if (!at) return at.failure();
    if (const auto ok = check_allowed(*at, {true, false}); !ok) return ok;
    const descriptor listener(::socket(at->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(listener.get(), at->get(), at->size) != 0 || ::listen(listener.get(), 16) != 0)
      return fail(errc::environment, fmt::format("cannot listen on {}: {}", at->text(), std::strerror(errno)));
    const timeval turn{1, 0};  // then tokens may have expired
    ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &turn, sizeof turn);
    for (;;) {
      const auto open = tokens_left();
      if (!open) return open.failure();
      if (*open == 0) return {};
      socket_address from;
      from.size = sizeof from.storage;
      const descriptor caller(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&from.storage), &from.size, SOCK_CLOEXEC));
      if (caller.get() >= 0) hear(caller.get(), from);
    }
  }

private:
  expected<std::size_t> tokens_left() const {
    const auto all = book_.read();
    if (!all) return all.failure();
    return static_cast<std::size_t>(std::count_if(all->begin(), all->end(), [&](const auto& e) { return !e.used && now() < e.expires; }));
  }
  std::int64_t now() const { return static_cast<std::int64_t>(time_.wall_seconds()); }

  void hear(int caller, const socket_address& from) {
    if (!limits_.may_shake(from.host(), time_.now()))
      return tell(from, {errc::timed_out, "too many requests from this address come to nothing"});
    const auto bytes = receive_exactly(caller, join_request_bytes);
    if (!bytes) return tell(from, bytes.error());
    join_desk one(own_, run_.people.run_id);
    const auto claim = one.read(*bytes);
    if (!claim) return tell(from, claim.error());  // and no answer
    const auto site = book_.use(claim->token, now());
    const auto outcome = site ? enter(run_.path, *site, claim->newcomer) : expected<void>(site.failure());
    [[maybe_unused]] const bool sent = send_all(caller, one.answer(outcome));
    if (!outcome) return tell(from, outcome.error());
    limits_.shook(from.host());
    out_.progress(fmt::format("{}: the key of {} is now {}\n", from.text(), run_.people.sites[*site].name, to_hex(claim->newcomer)));
  }

  void tell(const socket_address& from, const error& why) {
    const auto line =
        limits_.line(call_limits::caller_of(from.host()), why.code, fmt::format("{} refused: {}", from.text(), why.message), time_.now());
    if (line) out_.warn(*line);
  }

  const run_folder& run_;
  const identity& own_;
  console& out_;
  token_book book_;
  real_clock time_;
  call_limits limits_{handshakes_burst, handshakes_per_second};
};

}  // namespace

int make_token(const keys_options& options, console& out) {
  const auto span = parse_span(options.expires);
  if (!span) return out.error(span.error());
  auto at = open_desk(options.path);
  if (!at) return out.error(at.error());
  const auto& run = at->first;
  const auto site = std::find_if(run.people.sites.begin(), run.people.sites.end(), [&](const auto& s) { return s.name == options.site; });
  if (site == run.people.sites.end()) return out.error(exit_usage, fmt::format("--site {}: the run has no such site", options.site));
  const auto address = parse_address(options.listen);
  if (!address) return out.error(address.error());
  if (address->port() == 0) return out.error(exit_usage, fmt::format("--listen {}: it needs a port", options.listen));
  join_token token;
  token.run_id = run.people.run_id;
  token.site = site->name;
  token.address = options.listen;
  token.desk = at->second.key();
  token.expires = static_cast<std::int64_t>(real_clock().wall_seconds()) + *span;
  token.value = draw_token();
  // The file first: a token that is in the book alone is of no use to anybody, one that is in no book neither.
  if (const auto ok = token.write(options.out); !ok) return out.error(ok.error());
  if (const auto ok = token_book(book_path(run)).add({site->id, hash_of_token(token.value), token.expires, false}); !ok) {
    ::unlink(options.out.c_str());
    return out.error(ok.error());
  }
  if (options.json)
    out.answer(
        nlohmann::json{{"schema", 1}, {"file", options.out}, {"site", token.site}, {"address", token.address}, {"expires", token.expires}}
            .dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
        "\n");
  else
    out.answer(fmt::format("{}: lets one process enter its key for {} at {} within {}; bring it there unseen, then `isthmus keys admit`\n",
                           options.out, token.site, token.address, options.expires));
  return exit_ok;
}

int admit_newcomers(const keys_options& options, console& out) {
  auto at = open_desk(options.path);
  if (!at) return out.error(at.error());
  if (run_lock::is_held(at->first.path))
    return out.error(exit_environment,
                     fmt::format("{} is running; stop it first: its processes read the roster when they start", at->first.path));
  if (const auto ok = desk(at->first, at->second, out).serve(options.listen); !ok) return out.error(ok.error());
  return exit_ok;
}

}  // namespace isthmus::launcher
