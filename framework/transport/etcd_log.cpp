#include "framework/transport/etcd_log.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <utility>

namespace isthmus {

namespace {

using namespace std::chrono_literals;
constexpr auto look_again = 300ms;
constexpr auto write_again = 200ms;

/// etcd may answer later.
bool passes(errc code) { return code == errc::disconnected || code == errc::timed_out; }

std::string name_in(const std::string& leader) {
  const auto parsed = nlohmann::json::parse(leader, nullptr, false);
  return parsed.is_object() ? parsed.value("name", "another coordinator") : "another coordinator";
}

}  // namespace

etcd_log::etcd_log(etcd_client client, candidate_facts us, const clock& time)
    : client_(std::move(client)), us_(std::move(us)), time_(time) {}

expected<std::unique_ptr<etcd_log>> etcd_log::lead(etcd_client client, candidate_facts us, const clock& time,
                                                   const std::function<bool()>& given_up, const std::function<void(std::string)>& told) {
  std::unique_ptr<etcd_log> out(new etcd_log(std::move(client), std::move(us), time));
  std::string last;
  while (!given_up()) {
    std::string waits_for;
    error fatal;
    if (out->try_to_lead(waits_for, fatal)) {
      auto all = out->read_all();
      if (all) {
        out->keeper_ = std::thread([log = out.get()] { log->keep_the_lead(); });
        return out;
      }
      out->resign();
      if (!passes(all.error().code)) return all.failure();
      waits_for = all.error().message;
      out = std::unique_ptr<etcd_log>(new etcd_log(std::move(out->client_), std::move(out->us_), time));
    }
    if (fatal.code != errc::ok) return fail(fatal.code, fatal.message);
    if (std::exchange(last, waits_for) != waits_for) told(waits_for);
    std::this_thread::sleep_for(look_again);
  }
  return fail(errc::timed_out, "given up while it stood for the lead");
}

/// Makes the leader's key, if nobody has it. A lease that is not used ends by itself.
bool etcd_log::try_to_lead(std::string& waits_for, error& fatal) {
  const auto failed = [&](const error& why) {
    if (passes(why.code))
      waits_for = why.message;
    else
      fatal = why;
    return false;
  };
  const auto there = client_.get(key("leader"));
  if (!there) return failed(there.error());
  if (*there) {
    waits_for = name_in((*there)->value) + " leads";
    return false;
  }
  const time_point asked = time_.now();
  const auto lease = client_.grant(us_.lease_seconds);
  if (!lease) return failed(lease.error());
  const std::string value =
      nlohmann::json{{"name", us_.name}, {"address", us_.address}, {"key", us_.key}, {"lease", std::to_string(*lease)}}.dump();
  const auto made = client_.create(key("leader"), value, *lease);
  if (!made && made.error().code == errc::not_found) return false;  // we were so slow that our lease has ended
  if (!made) return failed(made.error());
  if (!made->made && (!made->there || made->there->value != value)) {  // with our value: an answer that was lost on the way
    waits_for = made->there ? name_in(made->there->value) + " leads" : "";
    (void)client_.revoke(*lease);
    return false;
  }
  const auto ours = client_.get(key("leader"));
  if (!ours) return failed(ours.error());
  if (!*ours || (*ours)->value != value) return false;
  lease_ = *lease;
  created_ = (*ours)->created;
  renewed_ = asked;
  return true;
}

/// Whatever the one before has written is there now: what it still tries finds another leader's key.
expected<void> etcd_log::read_all() {
  const auto all = client_.list(key("log/"));
  if (!all) return all.failure();
  for (std::size_t i = 0; i < all->size(); ++i) {
    const auto& [name, line, created] = (*all)[i];
    if (name != key(fmt::format("log/{:08}", i)))
      return fail(errc::malformed, name + " stands where " + key(fmt::format("log/{:08}", i)) + " belongs: an entry is missing");
    auto entry = parse_coordinator_line(line.substr(0, line.find('\n')), name);
    if (!entry) return entry.failure();
    entries_.push_back(std::move(*entry));
  }
  return {};
}

void etcd_log::when_lost(std::function<void(error)> lost) {
  std::unique_lock lock(mutex_);
  when_lost_ = std::move(lost);
  const auto already = lost_;
  lock.unlock();
  if (already) when_lost_(*already);
}

bool etcd_log::is_over() const {
  const std::lock_guard lock(mutex_);
  return stopping_ || lost_.has_value();
}

void etcd_log::lose(error why) {
  std::unique_lock lock(mutex_);
  if (lost_ || stopping_) return;
  lost_ = why;
  const auto call = when_lost_;
  lock.unlock();
  if (call) call(std::move(why));
}

void etcd_log::keep_the_lead() {
  const duration lasts = std::chrono::seconds(us_.lease_seconds);
  for (time_point next = renewed_; !is_over(); std::this_thread::sleep_for(50ms)) {
    const time_point sent = time_.now();
    if (sent < next) continue;
    next = sent + lasts / 4;
    const auto renewed = client_.renew(lease_);
    if (renewed && !*renewed) return lose({errc::stale_epoch, "the lease of this coordinator's lead has ended in etcd"});
    if (renewed)
      renewed_ = sent;
    else if (time_.now() - renewed_ > lasts)
      return lose({errc::stale_epoch, fmt::format("{}; after {} s without it another may lead, and membership waits while rounds go on",
                                                  renewed.error().message, us_.lease_seconds)});
  }
}

expected<void> etcd_log::write(const coordinator_entry& entry) {
  const std::string at = key(fmt::format("log/{:08}", entries_.size())), line = to_line(entry);
  for (;;) {
    const auto done = client_.create(at, line, 0, etcd_client::condition{key("leader"), created_});
    if (done && done->made) return {};
    if (done) {
      const bool leads = done->guard && done->guard->created == created_;
      if (leads && done->there && done->there->value == line) return {};  // the answer to the first try was lost
      error why{errc::stale_epoch, !leads ? place() + ": " + (done->guard ? name_in(done->guard->value) + " leads now" : "nobody leads now")
                                          : at + ": another coordinator has written it"};
      lose(why);
      return fail(why.code, why.message);
    }
    if (!passes(done.error().code)) return done.failure();
    if (is_over()) return fail(errc::stale_epoch, place() + ": this coordinator leads no longer");
    std::this_thread::sleep_for(write_again);
  }
}

void etcd_log::resign() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  if (keeper_.joinable()) keeper_.join();
  if (lease_ != 0) (void)client_.revoke(std::exchange(lease_, 0));
}

etcd_log::~etcd_log() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  if (keeper_.joinable()) keeper_.join();
}

}  // namespace isthmus
