#include "framework/transport/etcd_client.hpp"

#include "framework/transport/http_post.hpp"

#include <nlohmann/json.hpp>
#include <sodium.h>

#include <utility>

/// The JSON gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/. Keys and values are base64, 64-bit numbers are text, and
/// fields that are zero or false are left out.
namespace isthmus {

using nlohmann::json;

namespace {

constexpr int page = 256;                                 // keys in one answer
constexpr int code_deadline = 4, code_no_key = 5;         // of gRPC
constexpr int code_cancelled = 1, code_unavailable = 14;  // the first of a member that is shutting down

std::string encoded(const std::string& bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  out.pop_back();  // the terminator
  return out;
}

/// Throws what the caller catches beside the parse.
std::string decoded(const std::string& text) {
  std::string out(text.size(), '\0');
  std::size_t size = 0;
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(out.data()), out.size(), text.data(), text.size(), nullptr, &size, nullptr,
                        sodium_base64_VARIANT_ORIGINAL) != 0)
    throw std::invalid_argument("no base64");
  out.resize(size);
  return out;
}

std::int64_t number(const json& object, const char* key) {
  return object.contains(key) ? static_cast<std::int64_t>(std::stoll(object.at(key).get<std::string>())) : 0;
}

etcd_entry entry_from(const json& kv) {
  return {decoded(kv.at("key").get<std::string>()), decoded(kv.value("value", "")), number(kv, "create_revision")};
}

std::vector<etcd_entry> entries_from(const json& range) {
  std::vector<etcd_entry> out;
  if (range.contains("kvs"))
    for (const json& kv : range.at("kvs")) out.push_back(entry_from(kv));
  return out;
}

std::optional<etcd_entry> first_of(const json& range) {
  auto all = entries_from(range);
  return all.empty() ? std::nullopt : std::optional(std::move(all.front()));
}

/// Runs what reads an answer; what does not fit is told.
template <class F>
auto reading(F&& f) -> expected<decltype(f())> {
  try {
    return f();
  } catch (const std::exception& e) { return fail(errc::malformed, std::string("no answer of an etcd: ") + e.what()); }
}

json created_at(const std::string& key, std::int64_t revision) {
  return {{"result", "EQUAL"}, {"target", "CREATE"}, {"key", encoded(key)}, {"create_revision", std::to_string(revision)}};
}

/// The first key behind all that begin so.
std::string behind(std::string prefix) {
  ++prefix.back();  // ours are ASCII and end in '/'
  return prefix;
}

bool another_may_know(int code) { return code == code_unavailable || code == code_deadline || code == code_cancelled; }

}  // namespace

expected<socket_address> parse_etcd_url(const std::string& url) {
  constexpr std::string_view scheme = "http://";
  if (!url.starts_with(scheme))
    return fail(errc::environment, "etcd address '" + url.substr(0, 80) + "': write it as http://127.0.0.1:2379");
  auto parsed = parse_address(url.substr(scheme.size()));
  if (!parsed) return fail(errc::environment, "etcd at " + url.substr(0, 80) + ": " + parsed.error().message);
  return parsed;
}

expected<etcd_client> etcd_client::make(const std::vector<std::string>& urls, const link_reach& reach, duration patience) {
  if (sodium_init() < 0) return fail(errc::environment, "libsodium cannot be initialised");
  if (urls.empty()) return fail(errc::environment, "no address of an etcd is given");
  etcd_client out;
  for (const auto& url : urls) {
    const auto address = parse_etcd_url(url);
    if (!address) return address.failure();
    if (const auto ok = check_allowed(*address, reach); !ok) return fail(ok.error().code, "etcd: " + ok.error().message);
    out.members_.push_back(*address);
  }
  out.urls_ = urls;
  out.patience_ = patience;
  return out;
}

std::string etcd_client::text() const {
  std::string out;
  for (const auto& url : urls_) out += (out.empty() ? "" : ", ") + url;
  return out;
}

expected<json> etcd_client::post(const std::string& path, const json& body) const {
  const std::string text = body.dump();
  std::string told;
  errc code = errc::disconnected;
  const std::size_t begin = first_;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const std::size_t member = (begin + i) % members_.size();
    const auto failed = [&](errc c, const std::string& why) {
      code = c;
      told += (told.empty() ? "" : "; ") + urls_[member] + ": " + why;
    };
    auto answer = http_post(members_[member], path, text, patience_);
    if (!answer) {
      failed(answer.error().code, answer.error().message);
      continue;
    }
    auto parsed = json::parse(answer->body, nullptr, false);
    if (!parsed.is_object()) {
      failed(errc::disconnected, "HTTP " + std::to_string(answer->status) + ", and no JSON");
      continue;
    }
    if (answer->status == 200 && !parsed.contains("error")) {
      first_ = member;
      return parsed;
    }
    const std::string why = parsed.contains("error") && parsed["error"].is_string() ? parsed["error"].get<std::string>() : parsed.dump();
    const int number = parsed.contains("code") && parsed["code"].is_number_integer() ? parsed["code"].get<int>() : 0;
    if (!another_may_know(number)) return fail(number == code_no_key ? errc::not_found : errc::refused, urls_[member] + ": " + why);
    failed(errc::timed_out, why);
  }
  return fail(code, "etcd cannot be reached: " + told);
}

expected<std::optional<etcd_entry>> etcd_client::get(const std::string& key) const {
  const auto answer = post("/v3/kv/range", {{"key", encoded(key)}});
  if (!answer) return answer.failure();
  return reading([&] { return first_of(*answer); });
}

expected<std::vector<etcd_entry>> etcd_client::list(const std::string& prefix) const {
  std::vector<etcd_entry> out;
  const std::string end = encoded(behind(prefix));
  for (std::string from = prefix;;) {
    const auto answer = post("/v3/kv/range", {{"key", encoded(from)}, {"range_end", end}, {"limit", std::to_string(page)}});
    if (!answer) return answer.failure();
    auto part = reading([&] { return entries_from(*answer); });
    if (!part) return part.failure();
    const bool last = part->size() < page;
    for (auto& entry : *part) out.push_back(std::move(entry));
    if (last) return out;
    from = out.back().key + '\0';
  }
}

expected<std::int64_t> etcd_client::grant(std::int64_t seconds) const {
  const auto answer = post("/v3/lease/grant", {{"TTL", std::to_string(seconds)}});
  if (!answer) return answer.failure();
  return reading([&] { return static_cast<std::int64_t>(std::stoll(answer->at("ID").get<std::string>())); });
}

expected<bool> etcd_client::renew(std::int64_t lease) const {
  const auto answer = post("/v3/lease/keepalive", {{"ID", std::to_string(lease)}});
  if (!answer) return answer.failure();
  return reading([&] { return number(answer->at("result"), "TTL") > 0; });
}

expected<void> etcd_client::revoke(std::int64_t lease) const {
  const auto answer = post("/v3/lease/revoke", {{"ID", std::to_string(lease)}});
  if (!answer && answer.error().code != errc::not_found) return answer.failure();
  return {};
}

expected<etcd_client::outcome> etcd_client::create(const std::string& key, const std::string& value, std::int64_t lease,
                                                   const std::optional<condition>& guard) const {
  json compare = json::array({created_at(key, 0)});
  json look = json::array({{{"requestRange", {{"key", encoded(key)}}}}});
  if (guard) {
    compare.push_back(created_at(guard->key, guard->created));
    look.push_back({{"requestRange", {{"key", encoded(guard->key)}}}});
  }
  json put{{"key", encoded(key)}, {"value", encoded(value)}};
  if (lease != 0) put["lease"] = std::to_string(lease);
  const auto answer = post("/v3/kv/txn", {{"compare", compare}, {"success", json::array({{{"requestPut", put}}})}, {"failure", look}});
  if (!answer) return answer.failure();
  return reading([&] {
    outcome out;
    out.made = answer->value("succeeded", false);
    if (out.made) return out;
    const json& found = answer->at("responses");
    out.there = first_of(found.at(0).at("response_range"));
    if (guard) out.guard = first_of(found.at(1).at("response_range"));
    return out;
  });
}

}  // namespace isthmus
