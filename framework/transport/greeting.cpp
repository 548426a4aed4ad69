#include "framework/transport/greeting.hpp"

#include "framework/transport/byte_io.hpp"
#include "framework/wire/frame.hpp"

#include <algorithm>

namespace isthmus {

namespace {

constexpr std::uint32_t greeting_magic = 0x4d485449;  // "ITHM"
constexpr std::size_t run_id_bytes_max = 256;
constexpr std::size_t worker_address_bytes_max = 512;
constexpr std::size_t reason_bytes_max = 512;

/// Printable UTF-8 of bounded length, whatever came.
std::string clean(const std::string& text) {
  std::string shown = wire::clipped_utf8(text, reason_bytes_max);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return shown;
}

}  // namespace

std::string name_of(site_id site) { return site == coordinator_id ? "the coordinator" : "site " + std::to_string(site); }

std::vector<std::byte> write_greeting(const greeting& g) {
  ensure(g.hello.run_id.size() <= run_id_bytes_max, "greeting: a run id is at most 256 bytes");
  ensure(g.worker_address.size() <= worker_address_bytes_max, "greeting: a worker address is at most 512 bytes");
  byte_writer out;
  out.number(greeting_magic);
  out.number(g.hello.version);
  out.number(g.hello.site);
  out.number(g.to);
  out.number(g.hello.incarnation);
  out.number(g.hello.recipe_hash.high);
  out.number(g.hello.recipe_hash.low);
  out.number(g.link_token);
  out.text(g.hello.run_id);
  out.number(static_cast<std::uint16_t>(g.worker_address.size()));
  out.raw(g.worker_address);
  return out.take();
}

expected<greeting> read_greeting(std::span<const std::byte> bytes, std::uint32_t our_version) {
  byte_reader in(bytes);
  greeting g;
  if (in.number<std::uint32_t>() != greeting_magic) return fail(errc::malformed, "greeting: it does not begin with ITHM");
  g.hello.version = in.number<std::uint32_t>();
  if (g.hello.version != our_version && !in.failed())
    return fail(errc::wrong_version, "wire version " + std::to_string(g.hello.version) + " meets version " + std::to_string(our_version) +
                                         "; run the same build at every site");
  g.hello.site = in.number<site_id>();
  g.to = in.number<site_id>();
  g.hello.incarnation = in.number<incarnation_number>();
  g.hello.recipe_hash.high = in.number<std::uint64_t>();
  g.hello.recipe_hash.low = in.number<std::uint64_t>();
  g.link_token = in.number<std::uint64_t>();
  g.hello.run_id = in.text();
  const auto address = in.raw(in.number<std::uint16_t>());
  g.worker_address.assign(address.begin(), address.end());
  if (!in.exhausted()) return fail(errc::malformed, "greeting: " + std::to_string(bytes.size()) + " bytes that do not fit its fields");
  if (g.hello.run_id.size() > run_id_bytes_max || g.worker_address.size() > worker_address_bytes_max)
    return fail(errc::too_large, "greeting: a run id or worker address is too long");
  if (!wire::is_utf8(g.hello.run_id)) return fail(errc::malformed, "greeting: its run id is not UTF-8");
  return g;
}

expected<void> check_greeting(const link_hello& ours, const greeting& theirs) {
  const std::string who = name_of(theirs.hello.site);
  if (theirs.hello.run_id != ours.run_id)
    return fail(errc::wrong_run,
                who + " belongs to run '" + clean(theirs.hello.run_id) + "', " + name_of(ours.site) + " to run '" + ours.run_id + "'");
  if (theirs.hello.recipe_hash != ours.recipe_hash)
    return fail(errc::wrong_recipe, who + " has a recipe with hash " + theirs.hello.recipe_hash.hex() + ", " + name_of(ours.site) +
                                        " one with " + ours.recipe_hash.hex() + "; launch every site with the same recipe and overrides");
  if (theirs.to != ours.site) return fail(errc::refused, who + " wants " + name_of(theirs.to) + ", this is " + name_of(ours.site));
  if (theirs.hello.site == ours.site) return fail(errc::refused, "another process says it is " + who + ", which is what we are");
  return {};
}

std::vector<std::byte> write_reason(const error& reason) {
  byte_writer out;
  out.number(static_cast<std::uint32_t>(reason.code));
  out.text(wire::clipped_utf8(reason.message, reason_bytes_max));
  return out.take();
}

error read_reason(std::span<const std::byte> bytes) {
  byte_reader in(bytes);
  const auto code = in.number<std::uint32_t>();
  const std::string text = clean(in.text());
  if (in.failed() || code == 0 || code > static_cast<std::uint32_t>(errc::ledger_violated)) return {errc::refused, text};
  return {static_cast<errc>(code), text};
}

}  // namespace isthmus
