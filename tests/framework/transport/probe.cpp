#include "tests/framework/transport/probe.hpp"

#include "framework/core/rng.hpp"
#include "tests/framework/transport/keys.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace isthmus::testing {

probe::probe(ucx_transport_options options) {
  const auto note = [this](auto&& what) {
    const std::lock_guard lock(mutex_);
    what(notes_);
    changed_.notify_all();
  };
  options.log = [note](const std::string& line) { note([&](notes& n) { n.log.push_back(line); }); };
  auto made = make_ucx_transport(std::move(options), clock_);
  if (!made) throw contract_error(made.error().message);
  wire_ = std::move(*made);
  transport_events events;
  events.up = [note](site_id peer, incarnation_number i) { note([&](notes& n) { n.ups.emplace_back(peer, i); }); };
  events.down = [note](site_id peer, const error& why) { note([&](notes& n) { n.downs.emplace_back(peer, why); }); };
  events.refused = [note](site_id peer, const error& why) { note([&](notes& n) { n.refusals.emplace_back(peer, why); }); };
  events.control = [note](site_id peer, shared_bytes b) { note([&](notes& n) { n.controls.emplace_back(peer, std::move(b)); }); };
  events.bulk = [note](site_id peer, shared_bytes h, shared_bytes p) {
    note([&](notes& n) { n.bulks.push_back({peer, std::move(h), std::move(p)}); });
  };
  events.sent = [note](site_id, std::uint64_t id, const expected<void>& outcome) { note([&](notes& n) { n.sent.emplace(id, outcome); }); };
  wire_->start(std::move(events));
}

probe::~probe() { wire_->stop(); }

bool probe::wait(const std::function<bool(const notes&)>& condition) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return condition(notes_); });
}

bool probe::wait_up(std::size_t times) {
  return wait([=](const notes& n) { return n.ups.size() >= times; });
}

bool probe::wait_down(std::size_t times) {
  return wait([=](const notes& n) { return n.downs.size() >= times; });
}

bool probe::wait_refused() {
  return wait([](const notes& n) { return !n.refusals.empty(); });
}

probe::notes probe::now() {
  const std::lock_guard lock(mutex_);
  return notes_;
}

ucx_transport_options options_of(site_id site, incarnation_number incarnation) {
  ucx_transport_options o;
  o.hello.run_id = "test-run";
  o.hello.recipe_hash = {1, 2};
  o.hello.site = site;
  o.hello.incarnation = incarnation;
  if (links_are_sealed()) o.keys = keys_of(site);
  return o;
}

bool links_are_sealed() { return std::getenv("ISTHMUS_TEST_SEALED") != nullptr; }

void keep_each_other(probe& a, site_id site_a, probe& b, site_id site_b) {
  a.wire().keep(site_b, b.wire().address());
  b.wire().keep(site_a, a.wire().address());
}

shared_bytes patterned(std::size_t bytes, std::uint64_t seed) {
  auto b = std::make_shared<buffer>(bytes);
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    if (i % 8 == 0) word = mix64(seed + i);
    b->data()[i] = static_cast<std::byte>(word >> (i % 8 * 8));
  }
  return b;
}

bool same_bytes(const shared_bytes& a, const shared_bytes& b) {
  return a && b && a->size() == b->size() && (a->size() == 0 || std::memcmp(a->data(), b->data(), a->size()) == 0);
}

shared_bytes text_bytes(const std::string& text) { return make_shared_bytes(std::as_bytes(std::span(text.data(), text.size()))); }

}  // namespace isthmus::testing
