#include "tests/framework/rounds/cluster.hpp"

#include "framework/core/probe.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

namespace isthmus::testing {

namespace {

constexpr std::uint64_t tokens_per_step = 4;
constexpr std::uint32_t steps_per_period = 2;
constexpr std::uint64_t reference = tokens_per_step * steps_per_period;
constexpr std::uint64_t samples = 24;  // a pass of a shard

std::string log_path() { return "coordinator.jsonl"; }

}  // namespace

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
  sink.dense(0, values);
  return {};
}

struct cluster::checkpoint {
  std::vector<group_snapshot> groups;
  std::vector<contribution_snapshot> books;
  std::string leases;
  step_number step = 0;
};

struct cluster::site_state {
  site_id id = 0;
  incarnation_number incarnation = 0;
  bool alive = false, stopped = false, said_done = false, recovered = false;
  epoch_number said_synced = 0;
  std::vector<parameter_group> groups;
  std::vector<std::unique_ptr<contribution_book>> books;
  std::optional<lease_book> leases;
  std::unique_ptr<ledger_writer> ledger;
  std::unique_ptr<checkpoint> saved;  // on its disk
  epoch_view view;
  step_number step = 0;
  // the period
  bool training = false;
  std::uint64_t period = 0;
  std::vector<lease> period_leases;
  std::vector<std::vector<float>> start, working;
  std::vector<round_number> start_round;
};

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
  s.codecs = {std::make_shared<test_codec>(0.25F), std::make_shared<test_codec>(settings_.down_residual ? 0.5F : 0.0F),
              settings_.down_residual};
  s.outer.kind = settings_.outer;
  s.reference_tokens = static_cast<double>(reference);
  s.tokens_goal = settings_.rounds * reference * settings_.sites;
  s.deadline.grace = std::chrono::milliseconds(150);
  s.deadline.min = std::chrono::milliseconds(100);
  s.deadline.max = std::chrono::milliseconds(2000);
  s.retry = std::chrono::milliseconds(200);
  return s;
}

void cluster::start(site_id site) {
  site_state& s = *sites_[site];
  ++s.incarnation;
  s.alive = true;
  s.stopped = s.said_done = s.recovered = s.training = false;
  s.said_synced = 0;
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
    s.books.push_back(std::make_unique<contribution_book>(
        contribution_settings{site, s.incarnation, settings.shape, settings.codecs.up, reference, 0.5F}));
  }
  s.step = s.saved ? s.saved->step : 0;
  send(site, coordinator_id, {message::join{s.incarnation, held(s)}, nullptr});
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
bool cluster::is_in_last_epoch(site_id site) const { return members_ && sites_[site]->view.number == members_->view().number; }
parameter_group& cluster::group(site_id site, group_id g) { return sites_[site]->groups[g]; }

// --- the network

bool cluster::linked(site_id a, site_id b) const { return !cuts_.contains(std::minmax(a, b)); }

void cluster::send(site_id from, site_id to, envelope what) {
  if (!linked(from, to)) return;
  const incarnation_number incarnation = from == coordinator_id ? 0 : sites_[from]->incarnation;
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
  if (!s.alive) return;
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
      send(x, y, {message::join{s.incarnation, held(s)}, nullptr});
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

// --- the coordinator

void cluster::kill_coordinator() {
  members_.reset();
  log_.reset();
  ++coordinator_life_;
}

void cluster::restart_coordinator() {
  log_ = *coordinator_log::open(*coordinator_storage_, log_path());
  membership_settings m;
  for (site_id i = 0; i < settings_.sites; ++i) m.roster.push_back({i, true});
  m.groups = settings_.groups;
  m.roster_wait = std::chrono::seconds(2);
  m.dead_after = std::chrono::milliseconds(600);
  m.seal_wait = std::chrono::milliseconds(100);
  m.retry = std::chrono::milliseconds(150);
  members_ = std::make_unique<membership>(m, log_->entries(), world_.now());
  for (auto& s : sites_)
    if (s->alive && !s->stopped) send(s->id, coordinator_id, {message::join{s->incarnation, held(*s)}, nullptr});
}

void cluster::at_coordinator(site_id from, incarnation_number incarnation, const peer_message& what) {
  const time_point now = world_.now();
  if (incarnation != sites_[from]->incarnation && !std::holds_alternative<message::join>(what)) return;
  handle(members_->heard(from, now));
  if (const auto* j = std::get_if<message::join>(&what))
    handle(members_->join(from, *j, now));
  else if (const auto* s = std::get_if<message::sealed>(&what))
    handle(members_->sealed(from, *s, now));
  else if (const auto* y = std::get_if<message::synced>(&what))
    handle(members_->synced(from, *y, now));
  else if (const auto* l = std::get_if<message::leave>(&what))
    handle(members_->leave(from, *l, now));
  else if (const auto* u = std::get_if<message::suspect>(&what))
    handle(members_->suspect(from, *u, now));
}

void cluster::handle(membership_actions actions) {
  const std::uint64_t life = coordinator_life_;
  for (auto& action : actions) {
    if (life != coordinator_life_) return;
    if (auto* s = std::get_if<membership_effect::send>(&action))
      send(coordinator_id, s->to, {std::move(s->what), nullptr});
    else if (auto* a = std::get_if<membership_effect::append>(&action))
      ensure(log_->append(a->entry).has_value(), "cluster: log");
    else if (auto* d = std::get_if<membership_effect::decision>(&action))
      world_.note(d->text);
  }
}

/// Ticks, beats to the coordinator and suspicions over broken links, every 50 ms.
void cluster::ticks() {
  const time_point now = world_.now();
  for (auto& s : sites_) {
    if (!s->alive) continue;
    for (group_id g = 0; g < settings_.groups; ++g) handle(*s, g, s->groups[g].tick(now));
    proceed(*s);
    if (members_ && linked(s->id, coordinator_id)) handle(members_->heard(s->id, now));
    for (const epoch_member& m : s->view.members)
      if (m.site != s->id && !linked(s->id, m.site))
        send(s->id, coordinator_id, {message::suspect{m.site, m.incarnation, "silence"}, nullptr});
    if (members_ && linked(s->id, coordinator_id) && !s->stopped) {
      const auto status = members_->status();
      if (status[s->id].incarnation == s->incarnation && !status[s->id].alive)  // its link came back
        send(s->id, coordinator_id, {message::join{s->incarnation, held(*s)}, nullptr});
      if (s->said_done && !status[s->id].done) send(s->id, coordinator_id, {message::leave{"finished", true}, nullptr});
    }
  }
  if (members_) handle(members_->tick(now));
  world_.after(std::chrono::milliseconds(50), [this] { ticks(); });
}

// --- a site

void cluster::at_site(site_state& s, site_id from, incarnation_number incarnation, const envelope& what) {
  const time_point now = world_.now();
  if (const auto* e = std::get_if<message::new_epoch>(&what.body)) {
    enter(s, e->view);
  } else if (const auto* seal = std::get_if<message::seal>(&what.body)) {
    message::sealed answer{seal->epoch, {}};
    for (parameter_group& g : s.groups)
      if (auto h = g.seal(seal->epoch)) answer.held.push_back(*h);
    if (answer.held.size() == s.groups.size()) send(s.id, coordinator_id, {answer, nullptr});
  } else if (const auto* y = std::get_if<message::synced>(&what.body)) {
    for (group_id g = 0; g < settings_.groups; ++g) handle(s, g, s.groups[g].peer_synced(from, y->epoch, now));
  } else if (std::holds_alternative<message::stop_run>(what.body)) {
    if (!s.stopped && s.leases) write(s, s.leases->write_off(), "the run ended");
    if (!s.stopped) write(s, ledger::ended("finished"));
    s.stopped = true;
  } else {
    const auto group_of = [](const auto& m) -> group_id {
      if constexpr (requires { m.group; })
        return m.group;
      else if constexpr (requires { m.record.group; })
        return m.record.group;
      else
        return 0;
    };
    const group_id g = std::visit(group_of, what.body);
    handle(s, g, s.groups[g].receive(from, incarnation, what, now));
  }
  proceed(s);
}

void cluster::enter(site_state& s, const epoch_view& view) {
  const auto me = std::find_if(view.members.begin(), view.members.end(),
                               [&](const auto& m) { return m.site == s.id && m.incarnation == s.incarnation; });
  if (me == view.members.end() || view.number <= s.view.number) return;
  s.view = view;
  for (group_id g = 0; g < settings_.groups; ++g) handle(s, g, s.groups[g].enter_epoch(view, world_.now()));
}

void cluster::handle(site_state& s, group_id g, group_actions actions) {
  contribution_book& book = *s.books[g];
  for (auto& action : actions) {
    if (!s.alive) return;
    const round_number round = s.groups[g].round();
    if (auto* x = std::get_if<group_effect::send>(&action)) {
      send(s.id, x->to, std::move(x->what));
    } else if (auto* l = std::get_if<group_effect::ledger_line>(&action)) {
      write(s, l->json);
    } else if (auto* a = std::get_if<group_effect::applied>(&action)) {
      if (a->mine) write(s, book.counted(a->record.round));
      if (s.leases) write(s, s.leases->commit(g, s.groups[g].watermarks().of(s.id).step), "");
    } else if (std::get_if<group_effect::frame_lost>(&action)) {
      write(s, book.lost(round));
    } else if (auto* r = std::get_if<group_effect::residual_returned>(&action)) {
      write(s, book.add(round, r->values->span()));
    }
  }
}

/// What the supervisor and the trainer do whenever something has changed.
void cluster::proceed(site_state& s) {
  if (!s.alive || s.stopped || s.view.number == 0) return;
  for (const parameter_group& g : s.groups)
    if (!g.is_settled() || g.epoch() != s.view.number) return;
  for (const epoch_member& me : s.view.members) {
    if (me.site != s.id || !me.joining || s.said_synced == s.view.number) continue;
    s.said_synced = s.view.number;
    send(s.id, coordinator_id, {message::synced{s.view.number}, nullptr});
    for (const epoch_member& m : s.view.members)
      if (m.site != s.id) send(s.id, m.site, {message::synced{s.view.number}, nullptr});
  }
  if (!s.recovered) recover_accounts(s);
  if (s.training) return;
  bool done = true;
  for (const parameter_group& g : s.groups) {
    if (g.has_frame_in_flight()) return;
    done = done && g.finished();
  }
  if (done) {
    if (!s.said_done) send(s.id, coordinator_id, {message::leave{"finished", true}, nullptr});
    s.said_done = true;
    return;
  }
  begin_period(s);
}

/// Where a started process goes on: from its groups' watermarks, with what its disk still has.
void cluster::recover_accounts(site_state& s) {
  s.recovered = true;
  s.leases.emplace(s.id, samples, settings_.groups);
  if (s.saved)
    if (auto old = lease_book::from_json(s.saved->leases, "checkpoint")) s.leases = std::move(*old);
  std::vector<std::vector<lease>> named;
  for (group_id g = 0; g < settings_.groups; ++g) {
    const contributor mark = s.groups[g].watermarks().of(s.id);
    named.push_back(mark.leases);
    s.step = std::max(s.step, mark.step);
    write(s, s.books[g]->restore(s.saved ? &s.saved->books[g] : nullptr, mark.step, s.groups[g].round()));
  }
  write(s, s.leases->recover(named), "restart");
}

void cluster::begin_period(site_state& s) {
  s.training = true;
  s.period_leases.clear();
  s.start.clear();
  s.start_round.clear();
  for (std::uint32_t i = 0; i < steps_per_period; ++i) {
    for (const lease& l : s.leases->grant(tokens_per_step, 0, ++s.step)) {
      write(s, ledger::granted(s.step, l));
      s.period_leases.push_back(l);
    }
  }
  s.working.clear();
  for (group_id g = 0; g < settings_.groups; ++g) {
    const auto anchor = s.groups[g].anchor();
    s.start.emplace_back(anchor.begin(), anchor.end());
    s.start_round.push_back(s.groups[g].round());
    rng r(settings_.seed + g, s.id, s.step, draw::sampling);
    s.working.push_back(s.start.back());
    for (float& w : s.working.back()) w += static_cast<float>(static_cast<int>(r.below(33)) - 16) * 0.125F;
  }
  const std::uint64_t period = ++s.period;
  const auto time = duration(static_cast<duration::rep>(draws_.below(static_cast<std::uint64_t>(settings_.train_max.count()) + 1)));
  world_.after(time, [this, &s, period, incarnation = s.incarnation] {
    if (s.alive && !s.stopped && s.incarnation == incarnation && s.period == period) end_period(s);
  });
}

void cluster::end_period(site_state& s) {
  s.training = false;
  for (group_id g = 0; g < settings_.groups; ++g) {
    parameter_group& group = s.groups[g];
    if (group.finished()) {
      write(s, *s.books[g]->keep_late(s.start_round[g] + 1, s.start[g], s.working[g], s.step, reference, s.period_leases));
      continue;
    }
    if (group.round() != s.start_round[g] || !group.is_settled()) {
      write(s, *s.books[g]->keep_late(s.start_round[g] + 1, s.start[g], s.working[g], s.step, reference, s.period_leases));
      continue;
    }
    auto formed = *s.books[g]->form(s.start_round[g] + 1, s.start[g], s.working[g], s.step, reference, s.period_leases);
    write(s, formed.ledger_line);
    handle(s, g, group.local_contribution(s.start_round[g] + 1, formed.frame, formed.meta, world_.now()));
    if (!s.alive) return;
  }
  if (draws_.uniform() < 0.3) save_checkpoint(s.id);
  proceed(s);
}

void cluster::save_checkpoint(site_id site) {
  site_state& s = *sites_[site];
  if (!s.alive || !s.recovered || s.training) return;
  auto c = std::make_unique<checkpoint>();
  for (group_id g = 0; g < settings_.groups; ++g) {
    if (!s.groups[g].is_settled()) return;
    c->groups.push_back(s.groups[g].snapshot());
    c->books.push_back(s.books[g]->snapshot(s.groups[g].round()));
  }
  c->leases = s.leases->to_json();
  c->step = s.step;
  s.saved = std::move(c);
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
  if (auto log = coordinator_storage_->read(log_path(), std::size_t{1} << 30))
    ensure(all->write_synced(log_path(), *log).has_value(), "cluster: copy of the log");
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
