#include "bench/exchange.hpp"

#include "bench/report.hpp"
#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"

#include <algorithm>
#include <utility>

namespace isthmus::bench {

namespace {

constexpr std::uint64_t tokens_per_round = 10240;

/// Marks the elements that a frame names.
class marker final : public frame_sink {
public:
  explicit marker(std::vector<bool>& marks) : marks_(marks) {}
  void dense(std::int64_t offset, std::span<const float> values) override {
    for (std::size_t i = 0; i < values.size(); ++i) marks_[static_cast<std::size_t>(offset) + i] = true;
  }
  void sparse(std::int64_t base, std::span<const std::uint16_t> index, std::span<const float>) override {
    for (const auto i : index) marks_[static_cast<std::size_t>(base) + i] = true;
  }

private:
  std::vector<bool>& marks_;
};

void mark(const codec& c, const group_shape& shape, const shared_bytes& frame, std::vector<bool>& marks) {
  marker sink(marks);
  ensure(c.decode(shape, frame->bytes(), sink).has_value(), "exchange: a frame does not decode");
}

std::size_t marked(const std::vector<bool>& marks) { return static_cast<std::size_t>(std::count(marks.begin(), marks.end(), true)); }

/// Adds what a piece of work takes to a site's account.
template <class Work>
void timed(double& account, Work work) {
  const double begin = process_seconds();
  work();
  account += process_seconds() - begin;
}

}  // namespace

exchange::exchange(const parameter_layout& layout, const std::string& codec, outer_rule outer)
    : shapes_(cut_groups(layout, sites)),
      codecs_(*make_codec_pair(codec)),
      noise_(std::make_unique<float_array>(static_cast<std::size_t>(layout.size))),
      parameters_(static_cast<std::size_t>(layout.parameter_count())) {
  for (std::size_t i = 0; i < noise_->size(); ++i) {  // the sum of four uniform numbers is near enough to a normal one
    const std::uint64_t x = mix64(i);
    noise_->data()[i] =
        1e-3F *
        static_cast<float>(static_cast<double>((x & 0xffffU) + (x >> 16 & 0xffffU) + (x >> 32 & 0xffffU) + (x >> 48)) / 65536.0 - 2.0);
  }
  epoch_view view;
  view.number = 1;
  for (site_id id = 0; id < sites; ++id) {
    view.members.push_back({id, 1, false, 0});
    auto& s = sites_[id];
    s.frames = std::make_unique<wire::framer>("bench", wire::frame_origin{id, 1});
    s.working = std::make_unique<float_array>(noise_->size());
    for (const auto& shape : shapes_) {
      group_settings g;
      g.self = id;
      g.incarnation = 1;
      g.shape = shape;
      g.codecs.steady = codecs_;
      g.outer = outer;
      g.reference_tokens = static_cast<double>(tokens_per_round);
      s.groups.emplace_back(g, noise_->span().subspan(static_cast<std::size_t>(shape.offset), static_cast<std::size_t>(shape.size)));
      s.books.push_back(std::make_unique<contribution_book>(contribution_settings{id, 1, shape, g.codecs, tokens_per_round, 0.95F}));
    }
  }
  for (const auto& group : sites_[0].groups) {
    const auto held = group.held();
    view.cuts.push_back({held.group, held.group % sites, 0, 0, {}, held.anchor_hash, 0});
  }
  for (site_id id = 0; id < sites; ++id)
    for (auto& group : sites_[id].groups) perform(id, group.enter_epoch(view, now_));
}

/// What stands for H inner steps: each site moves the weights another way.
void exchange::train(site_id id) {
  const std::size_t n = noise_->size(), shift = (step_ * sites + id) * 7919 % n;
  float* working = sites_[id].working->data();
  for (const auto& shape : shapes_) {
    const auto anchor = sites_[id].groups[shape.id].anchor();
    for (std::int64_t i = 0; i < shape.size; ++i) {
      const auto at = static_cast<std::size_t>(shape.offset + i), from = at + shift < n ? at + shift : at + shift - n;
      working[at] = anchor[static_cast<std::size_t>(i)] - noise_->data()[from];
    }
  }
}

void exchange::contribute(site_id id) {
  auto& s = sites_[id];
  const lease rows{id, (step_ - 1) * 4, step_ * 4};
  for (const auto& shape : shapes_) {
    auto& group = s.groups[shape.id];
    const auto working =
        std::as_const(*s.working).span().subspan(static_cast<std::size_t>(shape.offset), static_cast<std::size_t>(shape.size));
    shared_bytes frame;
    timed(seconds_[id], [&] {
      auto formed = s.books[shape.id]->form(group.round() + 1, group.anchor(), working, step_, tokens_per_round, {&rows, 1});
      ensure(formed.has_value(), "exchange: a contribution cannot be formed");
      frame = formed->frame;
      perform(id, group.local_contribution(group.round() + 1, formed->frame, formed->meta, now_));
    });
    mark(*codecs_.up, shape, frame, named_[shape.id]);
  }
}

/// Only called inside timed().
void exchange::perform(site_id id, const group_actions& actions) {
  for (const auto& action : actions) {
    if (const auto* send = std::get_if<group_effect::send>(&action)) {
      wire_.push_back({id, send->to, sites_[id].frames->pack(send->what)});
      count(id, send->what, wire_.back().bytes);
    } else if (const auto* applied = std::get_if<group_effect::applied>(&action)) {
      ensure(applied->mine, "exchange: a round without a site");
      sites_[id].books[applied->record.group]->counted(applied->record.round);
    } else {
      ensure(!std::holds_alternative<group_effect::frame_lost>(action) && !std::holds_alternative<group_effect::diverged>(action),
             "exchange: a round went wrong");
    }
  }
}

void exchange::count(site_id, const envelope& what, const wire::outgoing& bytes) {
  const bool to_members = std::holds_alternative<message::delta>(what.body) || std::holds_alternative<message::commit>(what.body);
  auto& t = to_members ? down_ : up_;
  t.all += bytes.header->size() + (bytes.payload ? bytes.payload->size() : 0);
  if (const auto* m = std::get_if<message::contribution>(&what.body)) {
    const auto size = codecs_.up->size(shapes_[m->group]);
    t.payload += what.payload->size() - size.header;
    t.exact += size.payload();
  } else if (const auto* d = std::get_if<message::delta>(&what.body)) {
    const auto size = codecs_.down->size(shapes_[d->record.group]);
    t.payload += what.payload->size() - size.header;
    t.exact += size.payload();
  }
}

void exchange::deliver(const parcel& p) {
  auto& s = sites_[p.to];
  const wire::frame_origin from{p.from, 1};
  timed(seconds_[p.to], [&] {
    auto got = p.bytes.bulk ? s.frames->unpack_bulk(from, p.bytes.header->bytes(), p.bytes.payload)
                            : s.frames->unpack_control(from, p.bytes.header->bytes());
    ensure(got.has_value(), "exchange: a frame of ours is refused");
    const auto to_group = [&](group_id group) { perform(p.to, s.groups.at(group).receive(p.from, 1, *got, now_)); };
    if (const auto* d = std::get_if<message::delta>(&got->body)) return to_group(d->record.group);
    if (const auto* c = std::get_if<message::contribution>(&got->body)) return to_group(c->group);
    if (const auto* c = std::get_if<message::commit>(&got->body)) return to_group(c->group);
    if (const auto* c = std::get_if<message::stored>(&got->body)) return to_group(c->group);
    ensure(false, "exchange: an unexpected message");
  });
}

void exchange::round() {
  ++step_;
  now_ += std::chrono::seconds(1);
  seconds_.fill(0);
  named_.clear();
  for (const auto& shape : shapes_) named_.emplace_back(static_cast<std::size_t>(shape.size));
  for (site_id id = 0; id < sites; ++id) train(id);
  for (site_id id = 0; id < sites; ++id) contribute(id);
  std::vector<std::vector<bool>> told = named_;
  for (auto& marks : told) std::fill(marks.begin(), marks.end(), false);
  while (!wire_.empty()) {
    const parcel next = std::move(wire_.front());
    wire_.pop_front();
    if (next.bytes.bulk && next.bytes.payload) {
      const auto got = sites_[next.to].frames->unpack_bulk({next.from, 1}, next.bytes.header->bytes(), next.bytes.payload);
      if (const auto* d = got ? std::get_if<message::delta>(&got->body) : nullptr)
        mark(*codecs_.down, shapes_[d->record.group], got->payload, told[d->record.group]);
    }
    deliver(next);
  }
  union_elements_ = delta_elements_ = 0;
  for (std::size_t g = 0; g < shapes_.size(); ++g) {
    union_elements_ += marked(named_[g]);
    delta_elements_ += marked(told[g]);
    for (std::size_t i = 0; i < told[g].size(); ++i) ensure(!told[g][i] || named_[g][i], "exchange: the delta names what nobody sent");
  }
  for (site_id id = 0; id < sites; ++id)
    timed(seconds_[id], [&] {
      for (const auto& shape : shapes_) {
        ensure(sites_[id].groups[shape.id].round() == step_, "exchange: a group did not commit");
        std::ranges::copy(sites_[id].groups[shape.id].anchor(), sites_[id].working->span().begin() + shape.offset);
      }
    });
}

}  // namespace isthmus::bench
