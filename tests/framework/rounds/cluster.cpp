#include "tests/framework/rounds/cluster.hpp"

#include "tests/framework/rounds/cluster_state.hpp"

#include "framework/core/probe.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

namespace isthmus::testing {

std::vector<std::byte> test_codec::encode(const group_shape& group, std::span<float> value) const {
  ensure(static_cast<std::int64_t>(value.size()) == group.size, "test_codec: size");
  std::vector<float> sent(value.begin(), value.end());
  if (grid_ > 0)
    for (float& v : sent) v = std::nearbyint(v / grid_) * grid_;
  for (std::size_t i = 0; i < sent.size(); ++i) value[i] -= sent[i];
  std::vector<std::byte> frame(sent.size() * sizeof(float));
  std::memcpy(frame.data(), sent.data(), frame.size());
  return frame;
}

expected<void> test_codec::decode(const group_shape& group, std::span<const std::byte> frame, frame_sink& sink) const {
  if (frame.size() != static_cast<std::size_t>(group.size) * sizeof(float)) return fail(errc::truncated, "test frame");
  std::vector<float> values(static_cast<std::size_t>(group.size));
  std::memcpy(values.data(), frame.data(), frame.size());
  for (const float x : values)
    if (!std::isfinite(x)) return fail(errc::not_finite, "test frame");
  sink.dense(0, values);
  return {};
}

cluster::cluster(cluster_settings settings) : settings_(settings), world_(settings.seed), draws_(world_.draw_stream(draw::network)) {
  coordinator_storage_ = coordinator_disk_.open("run");
  for (site_id i = 0; i < settings_.sites; ++i) {
    sites_.push_back(std::make_unique<site_state>());
    sites_.back()->id = i;
  }
  restart_coordinator();
  for (site_id i = 0; i < settings_.sites; ++i) start(i);
  ticks();
}

cluster::~cluster() = default;

group_settings cluster::settings_of(site_id site, incarnation_number incarnation, group_id g) const {
  group_settings s;
  s.self = site;
  s.incarnation = incarnation;
  s.shape.id = g;
  s.shape.size = settings_.group_size;
  s.shape.tensors = {{0, settings_.group_size}};
  s.codecs.steady = {std::make_shared<test_codec>(0.25F), std::make_shared<test_codec>(settings_.down_residual ? 0.5F : 0.0F),
                     settings_.down_residual};
  s.codecs.warm_up = {std::make_shared<test_codec>(0.125F), std::make_shared<test_codec>(1.0F), true};
  s.codecs.warm_up_rounds = settings_.warm_up_rounds;
  s.outer.kind = settings_.outer;
  s.reference_tokens = static_cast<double>(reference);
  s.tokens_goal = settings_.rounds * reference * settings_.sites;
  s.piece_floats = 5;  // a few pieces, and a shorter one
  s.deadline.grace = std::chrono::milliseconds(150);
  s.deadline.min = std::chrono::milliseconds(100);
  s.deadline.max = std::chrono::milliseconds(2000);
  s.retry = std::chrono::milliseconds(200);
  s.guarding = settings_.guarding;
  s.auditing.rate = settings_.audit_rate;
  s.auditing.secret = settings_.seed;
  for (site_id other = 0; other < settings_.sites; ++other) s.auditing.sites.push_back(other);
  return s;
}

void cluster::start(site_id site) {
  site_state& s = *sites_[site];
  ++s.incarnation;
  s.alive = true;
  s.stopped = s.said_done = s.recovered = s.training = false;
  s.said_synced = s.sealed = 0;
  s.view = {};
  s.groups.clear();
  s.books.clear();
  s.leases.reset();
  auto disk = shared_disk_.open("run");
  s.ledger = *ledger_writer::open(*disk, ledger_writer::path_of(site), site, s.incarnation);
  write(s, ledger::started(settings_.groups));
  const std::vector<float> initial(static_cast<std::size_t>(settings_.group_size), 0.5F);
  for (group_id g = 0; g < settings_.groups; ++g) {
    const auto settings = settings_of(site, s.incarnation, g);
    if (s.saved)
      s.groups.emplace_back(settings, s.saved->groups[g]);
    else
      s.groups.emplace_back(settings, initial);
    s.books.push_back(
        std::make_unique<contribution_book>(contribution_settings{site, s.incarnation, settings.shape, settings.codecs, reference, 0.5F}));
  }
  s.step = s.saved ? s.saved->step : 0;
  greet(s);
  for (auto& other : sites_)
    if (other->id != site && other->alive)
      for (group_id g = 0; g < settings_.groups; ++g) handle(*other, g, other->groups[g].peer_up(site, world_.now()));
}

std::vector<held_record> cluster::held(const site_state& s) const {
  std::vector<held_record> all;
  for (const parameter_group& g : s.groups) all.push_back(g.held());
  return all;
}

void cluster::write(site_state& s, const std::string& line) { ensure(s.ledger->write(line).has_value(), "cluster: the ledger failed"); }

void cluster::write(site_state& s, const lease_settlement& settled, const std::string& reason) {
  for (const lease& l : settled.returned) write(s, ledger::returned(l, reason));
  for (const lease& l : settled.written_off) write(s, ledger::written_off(l, reason));
  for (const partial_lease& p : settled.partial) write(s, ledger::partial(p.range, p.missed));
}

bool cluster::alive(site_id site) const { return sites_[site]->alive; }
bool cluster::saw_the_end(site_id site) const {
  return members_ && sites_[site]->view.number == members_->view().number && sites_[site]->said_done;
}
parameter_group& cluster::group(site_id site, group_id g) { return sites_[site]->groups[g]; }

// --- the network

bool cluster::linked(site_id a, site_id b) const { return !cuts_.contains(std::minmax(a, b)); }

void cluster::send(site_id from, site_id to, envelope what) {
  if (!linked(from, to)) return;
  if (before_sending) before_sending(from, what);
  const incarnation_number incarnation = from == coordinator_id ? coordinator_life_ : sites_[from]->incarnation;
  const int copies = draws_.uniform() < settings_.duplicates ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    const auto delay = duration(static_cast<duration::rep>(draws_.below(static_cast<std::uint64_t>(settings_.delay_max.count()) + 1)));
    time_point& last = last_arrival_[{from, to, what.payload != nullptr}];  // a path keeps its order, two paths do not
    const time_point when = i == 0 ? std::max(last, world_.now() + delay) : world_.now() + 5 * settings_.delay_max;
    if (i == 0) last = when;
    world_.at(when, [this, from, incarnation, to, what] { deliver(from, incarnation, to, what); });
  }
}

void cluster::deliver(site_id from, incarnation_number incarnation, site_id to, const envelope& what) {
  ++delivered_;
  if (before_delivery) before_delivery(delivered_, from, to, what);
  if (!linked(from, to)) return;
  if (to == coordinator_id) {
    if (members_) at_coordinator(from, incarnation, what.body);
    return;
  }
  site_state& s = *sites_[to];
  if (!s.alive || (from == coordinator_id && incarnation != coordinator_life_)) return;
  // a link belongs to two incarnations: what an ended one had sent dies with it, soon
  at_site(s, from, incarnation, what);
}

void cluster::cut(site_id a, site_id b) { cuts_.insert(std::minmax(a, b)); }
void cluster::heal(site_id a, site_id b) {
  if (cuts_.erase(std::minmax(a, b)) == 0) return;
  for (const auto& [x, y] : {std::pair(a, b), std::pair(b, a)}) {
    if (x == coordinator_id) continue;
    site_state& s = *sites_[x];
    if (!s.alive || s.stopped) continue;
    if (y == coordinator_id)
      greet(s);
    else
      for (group_id g = 0; g < settings_.groups; ++g) handle(s, g, s.groups[g].peer_up(y, world_.now()));
  }
}

void cluster::kill(site_id site) {
  site_state& s = *sites_[site];
  s.alive = false;
  s.ledger.reset();
  const incarnation_number ended = s.incarnation;
  world_.after(std::chrono::milliseconds(30), [this, site, ended] {
    if (members_) handle(members_->lost(site, ended, "its process ended", world_.now()));
  });
}

void cluster::restart(site_id site, bool with_disk) {
  site_state& s = *sites_[site];
  if (s.alive) return;
  if (!with_disk) {
    s.saved.reset();
    auto disk = shared_disk_.open("run");
    ensure(disk->remove(ledger_writer::path_of(site)).has_value(), "cluster: remove");
  }
  start(site);
}

// --- the run

bool cluster::finished() const {
  return std::all_of(sites_.begin(), sites_.end(), [](const auto& s) { return !s->alive || s->stopped; }) &&
         std::any_of(sites_.begin(), sites_.end(), [](const auto& s) { return s->stopped; });
}

bool cluster::run(duration limit) {
  const time_point end = world_.now() + limit;
  while (!finished() && world_.now() < end) {
    world_.advance_to(*world_.next_due());
    while (world_.run_due() && !finished()) {}
  }
  return finished();
}

round_number cluster::round(group_id g) const {
  round_number highest = 0;
  for (const auto& s : sites_)
    if (s->alive) highest = std::max(highest, s->groups[g].round());
  return highest;
}

std::uint64_t cluster::total(std::uint64_t group_counters::*what) const {
  std::uint64_t sum = 0;
  for (const auto& s : sites_)
    for (const parameter_group& g : s->groups) sum += g.counters().*what;
  return sum;
}

std::unique_ptr<storage> cluster::ledgers() {
  auto all = shared_disk_.open("run");
  if (auto log = coordinator_storage_->read(log_path, std::size_t{1} << 30))
    ensure(all->write_synced(log_path, *log).has_value(), "cluster: copy of the log");
  return all;
}

std::string cluster::state_text() const {
  std::ostringstream out;
  out << "seed " << settings_.seed << " t " << to_seconds(world_.now().time_since_epoch());
  if (members_) out << " epoch " << members_->view().number << (members_->changing() ? " changing" : "");
  for (const auto& s : sites_) {
    out << " | site " << s->id << "." << s->incarnation << (s->alive ? "" : " dead") << (s->stopped ? " stopped" : "")
        << (s->training ? " training" : "") << " epoch " << s->view.number << " done " << s->said_done;
    for (const parameter_group& g : s->groups)
      out << " r" << g.round() << (g.is_settled() ? "" : "~") << (g.has_frame_in_flight() ? "f" : "") << (g.is_home() ? "H" : "")
          << (g.finished() ? "!" : "") << "/" << g.tokens_total();
  }
  return out.str();
}

}  // namespace isthmus::testing
